"""The networks: `build(name)` makes one, `NAMES` lists them."""

from model.inputs import INPUT_SHAPES
from model.registry import NAMES, PRESETS, build, count_parameters, input_size, inputs, loss, names
