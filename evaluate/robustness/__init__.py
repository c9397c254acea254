"""Robustness: finished runs tested again on clips with parts missing or degraded."""
