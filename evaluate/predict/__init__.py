"""Any video to the probabilities of eight emotions."""
