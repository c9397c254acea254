"""What is computed of test clips: measures, intervals, comparisons."""
