"""Read the trainer's runs, strictly, and say which of them may be averaged."""
