"""Settings side by side, by their runs on validation actors."""
