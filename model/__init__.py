"""The networks: `build(name)` makes one, `NAMES` lists them."""

from model.registry import NAMES, PRESETS, build, count_parameters, input_size, inputs

__all__ = ["NAMES", "PRESETS", "build", "count_parameters", "input_size", "inputs"]
