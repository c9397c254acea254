"""Tests that need a CUDA GPU; without one they are skipped. `make test-gpu` runs them."""
