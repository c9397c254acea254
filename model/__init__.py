"""The networks: `build(name)` makes one, `NAMES` lists them."""

from model.registry import (
    INPUT_SHAPES,
    NAMES,
    PRESETS,
    SYSTEMS,
    TABLES,
    build,
    count_parameters,
    input_size,
    inputs,
    loss,
)

__all__ = [
    "INPUT_SHAPES",
    "NAMES",
    "PRESETS",
    "SYSTEMS",
    "TABLES",
    "build",
    "count_parameters",
    "input_size",
    "inputs",
    "loss",
]
