"""List the networks, or describe the layers of one: `python -m model --list|--describe NAME`."""

import argparse
import sys
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cache.command import run
from model import paper
from model.inputs import INPUT_SHAPES
from model.own import named
from model.registry import PRESETS, build, count_parameters, inputs, names

_NOT_IN_PAPER = paper.PaperRow(label="-", stage="-", parameters="-", accuracy=float("nan"))


def gflops(net: nn.Module, clip: tuple[Tensor | None, Tensor | None]) -> float:
    """GFLOPs of one forward pass of a network on "meta", where a multiply-add counts as two.

    Convolutions and matrix products are counted; Fourier transforms and the rest are not.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(*clip)
    return counter.get_total_flops() / 1e9


def one_clip(name: str, preset: str = "paper") -> tuple[Tensor | None, Tensor | None]:
    """The inputs of a network for one clip, on "meta": pictures or points, MFCCs or a waveform."""
    shapes = {field: (1, *INPUT_SHAPES[field]) for field in inputs(name, preset)}
    fields = {field: torch.empty(shape, device="meta") for field, shape in shapes.items()}
    sound = fields.get("mfcc", fields.get("waveform"))
    return fields.get("frames", fields.get("landmarks")), sound


def print_list(preset: str) -> None:
    """One row per network: name, fusion stage, parameters, GFLOPs, and the paper's figures."""
    header = f"{'name':25} {'fusion':8} {'parameters':>12} {'GFLOPs/clip':>12}"
    if preset == "paper":
        print("The paper's accuracies are those of its best epoch on the test fold.")
        print(f"{header} {'paper: parameters':>18} {'paper: accuracy':>16}")
    else:
        print(f"Preset {preset}: small enough for a CPU; the paper prints no figures for it.")
        print(header)
    for name in names(preset):
        with torch.device("meta"):
            net = build(name, preset)
        row = paper.ROWS.get(name, _NOT_IN_PAPER)
        figures = f" {row.parameters:>18} {row.accuracy:15.2f}%" if preset == "paper" else ""
        flops = gflops(net, one_clip(name, preset))
        print(f"{name:25} {row.stage:8} {count_parameters(net):12,} {flops:12.3f}{figures}")


def print_description(name: str, preset: str) -> None:
    """One row per layer: name, type, output shape, parameters."""
    with torch.device("meta"):
        net = build(name, preset).eval()
    print(f"inputs: {', '.join(inputs(name, preset))}")
    print(f"{'layer':34} {'type':28} {'output':24} {'parameters':>12}")

    def report(label: str, module: nn.Module, _inputs: tuple, output: Tensor | tuple) -> None:
        output = output[0] if isinstance(output, tuple) else output
        shape = "x".join(map(str, output.shape))
        count = count_parameters(module)
        print(f"{label:34} {type(module).__name__:28} {shape:24} {count:12,}")

    for label, module in net.named_modules():
        if label.count(".") <= 2:
            module.register_forward_hook(partial(report, label or name))
    with torch.no_grad():
        net(*one_clip(name, preset))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="all networks with parameters and GFLOPs")
    what.add_argument("--describe", metavar="NAME", help="the layers of one, also FILE.py:NAME")
    size = "network size (default: paper)"
    parser.add_argument("--preset", choices=PRESETS, default="paper", help=size)
    args = parser.parse_args(argv)
    if args.list:
        return run(lambda: print_list(args.preset))
    return run(lambda: print_description(named(args.describe), args.preset))


if __name__ == "__main__":
    sys.exit(main())
