"""The networks: `build(name)` makes one, `NAMES` lists them."""

from model.registry import NAMES, PRESETS, build, count_parameters

__all__ = ["NAMES", "PRESETS", "build", "count_parameters"]
