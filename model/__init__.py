"""The networks: `build(name)` makes one, `NAMES` lists them, `add_file` adds yours."""

from model.inputs import INPUT_SHAPES, Prepare
from model.own import add_file, code_of, named, source_of
from model.registry import NAMES, PRESETS, build, count_parameters, input_size, inputs, loss, names
