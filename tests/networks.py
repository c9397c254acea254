"""What tests of networks share: tiny networks, clips of noise, batch norms that do something."""

from functools import cache

import torch
from torch import Tensor, nn

import model
from model.inputs import reduce

FUSIONS = [name for name in model.NAMES if len(model.inputs(name)) == 2]


def tiny(name: str, seed: int = 0, **options) -> nn.Module:
    """A tiny network in evaluation mode, its weights drawn from `seed`."""
    torch.manual_seed(seed)
    return model.build(name, "tiny", **options).eval()


def clips(name: str, count: int, seed: int = 1) -> list[Tensor]:
    """Noise for a tiny network `name`: frames as it reduces them, and MFCCs or a waveform."""
    sound = "waveform" if "waveform" in model.inputs(name) else "mfcc"
    return [tensor.clone() for tensor in _noise(sound, count, seed)]


@cache
def _noise(sound: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Full-size frames take long to draw and to reduce."""
    generator = torch.Generator().manual_seed(seed)
    frames, heard = (
        torch.randn(count, *model.INPUT_SHAPES[field], generator=generator)
        for field in ("frames", sound)
    )
    return reduce(frames, *model.input_size("tiny")), heard


def unusual_statistics(net: nn.Module) -> nn.Module:
    """The network in evaluation mode, with batch norms that change what they are given."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            module.running_var.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return net.eval()
