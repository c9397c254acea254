"""`python -m model --list` and `--describe NAME`: what the networks are, without training one."""

import argparse
import os
import sys

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model.registry import INPUT_SHAPES, NAMES, PRESETS, SYSTEMS, build, count_parameters


def gflops(net: nn.Module, inputs: tuple[Tensor | None, Tensor | None]) -> float:
    """GFLOP of one forward pass of one clip (a multiply-add counts two); `net` is on "meta".

    Convolutions and products of matrices; Fourier transforms and the rest are not counted.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(*inputs)
    return counter.get_total_flops() / 1e9


def one_clip(name: str) -> tuple[Tensor | None, Tensor | None]:
    """What network `name` takes for one clip, on "meta": frames, and MFCCs or a waveform."""
    fields = {
        field: torch.empty(1, *INPUT_SHAPES[field], device="meta") for field in SYSTEMS[name].inputs
    }
    return fields.get("frames"), fields.get("mfcc", fields.get("waveform"))


def print_list(preset: str) -> None:
    """One line a network: name, fusion stage, parameters and GFLOPs, the paper's figures."""
    if preset == "paper":
        print("the paper's accuracies are of the best epoch on the test fold")
        paper = f" {'paper: parameters':>18} {'paper: accuracy':>16}"
    else:
        print(f"preset {preset}: made for a CPU, with no figures of the paper")
        paper = ""
    print(f"{'name':25} {'fusion':8} {'parameters':>12} {'GFLOPs/clip':>12}{paper}")
    for name, system in SYSTEMS.items():
        with torch.device("meta"):
            net = build(name, preset)
        if preset == "paper":
            paper = f" {system.paper_parameters:>18} {system.paper_accuracy:15.2f}%"
        flops = gflops(net, one_clip(name))
        print(f"{name:25} {system.stage:8} {count_parameters(net):12,} {flops:12.3f}{paper}")


def print_description(name: str, preset: str) -> None:
    """Every layer that holds parameters or changes a shape: name, type, output, parameters."""
    with torch.device("meta"):
        net = build(name, preset).eval()
    print(f"looks at: {', '.join(SYSTEMS[name].inputs)}")
    print(f"{'layer':34} {'type':28} {'output':24} {'parameters':>12}")

    def report(label: str, module: nn.Module):
        def hook(_module, _inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            shape = "x".join(map(str, output.shape))
            count = count_parameters(module)
            print(f"{label:34} {type(module).__name__:28} {shape:24} {count:12,}")

        return hook

    for label, module in net.named_modules():
        if label.count(".") <= 2:
            module.register_forward_hook(report(label or name, module))
    with torch.no_grad():
        net(*one_clip(name))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="all networks, one a line")
    what.add_argument("--describe", metavar="NAME", choices=NAMES, help="the layers of one")
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    args = parser.parse_args(argv)
    try:
        if args.list:
            print_list(args.preset)
        else:
            print_description(args.describe, args.preset)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
