"""A trained network ready for use: from fields of the cache to probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cache.schema import CLASS_COUNT, MFCC_COUNT
from model.inputs import Inputs, Prepare
from model.registry import build, input_size
from model.registry import inputs as fields_of
from model.weights import load_weights

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode with the preparation of its inputs."""

    name: str  # one of `model.NAMES`
    fields: tuple[str, ...]  # the fields of the cache that the network looks at
    net: nn.Module
    prepare: Prepare  # what its inputs go through
    precision: torch.dtype  # that it computes in, float32 or bfloat16

    @classmethod
    def build(
        cls,
        name: str,
        preset: str,
        *,
        weights: Mapping[str, Tensor],
        statistics: Mapping[str, Tensor],
        precision: str,
        attention: str = "mean",
        device: torch.device | str = "cpu",
    ) -> "TrainedNetwork":
        """Make a network and load its weights, as a checkpoint has them.

        `statistics` are `mfcc_mean` and `mfcc_std`, float32 (13, 1), or nothing. ValueError if an
        argument is not that of a trained network.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r:.80}, expected one of {PRECISIONS}")
        _check_statistics(statistics)
        net = build(name, preset, attention=attention)
        load_weights(net, weights)
        net.to(device).eval()
        fields = fields_of(name, preset)
        if "frames" in fields:
            net.to(memory_format=torch.channels_last_3d)
        statistics = {key: values.to(device) for key, values in statistics.items()}
        prepare = Prepare(*input_size(preset), **statistics)
        return cls(name, fields, net, prepare, getattr(torch, precision))

    @torch.no_grad()
    def probabilities(self, fields: dict[str, Tensor]) -> Tensor:
        """Probabilities float32 (B, 8), from the fields that the network looks at, (B, ...)."""
        return classify(self.net, self.prepare(fields), self.precision).softmax(dim=1)


def classify(net: nn.Module, inputs: Inputs, precision: torch.dtype) -> Tensor:
    """Logits float32 (B, 8), under autocast unless `precision` is float32."""
    frames, sound = inputs
    device = sound.device if frames is None else frames.device
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        logits = net(frames, sound)
    if logits.shape[1:] != (CLASS_COUNT,):  # of a network from a file
        raise ValueError(f"the network returns {tuple(logits.shape)}, expected (B, {CLASS_COUNT})")
    return logits.float()


def _check_statistics(statistics: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless MFCCs are normalized by one mean and one std each, or not at all."""
    if set(statistics) not in (set(), {"mfcc_mean", "mfcc_std"}):
        raise ValueError(f"statistics are {sorted(map(str, statistics))}, expected mfcc_mean/std")
    shape = (MFCC_COUNT, 1)
    for name, values in statistics.items():
        if (values.dtype, values.shape) != (torch.float32, shape) or not values.isfinite().all():
            raise ValueError(f"{name} is not {shape} finite float32 numbers")
    if statistics and not (statistics["mfcc_std"] > 0).all():
        raise ValueError("mfcc_std is 0 or below, expected above 0")
