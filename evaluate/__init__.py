"""The report: what the trainer's runs say, and what they do not."""
