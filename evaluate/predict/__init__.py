"""Any video to eight probabilities."""
