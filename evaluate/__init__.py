"""From finished runs to the report, and from checkpoints to predictions and exported networks."""
