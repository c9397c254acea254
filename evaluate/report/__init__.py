"""What is written of it: the page, JSON, CSV and tables."""
