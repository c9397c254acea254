"""Whether an ONNX file says of clips what torch says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cache.ravdess import Clip
from cache.reader import Cache
from cache.schema import FIELDS
from evaluate.export.graph import OUTPUTS
from model import inputs
from model.checkpoint import Trained, classify

TOLERANCE = 1e-4
BATCHES = (1, 3)  # clips at once, so that the batch is seen to be free
_SEED = 0
_RANDOM_SPREAD = {"mfcc": 40.0, "waveform": 3_000.0}  # about those of speech


@dataclass(frozen=True)
class Agreement:
    """The greatest differences between ONNX and torch in float32, over `clips` clips.

    `probabilities` are absolute; `logits` are relative to the greatest logit of their clip where
    that is above 1.
    """

    clips: int
    probabilities: float
    logits: float

    @property
    def holds(self) -> bool:
        """Whether both are within `TOLERANCE`; NaN is not."""
        return self.probabilities <= TOLERANCE and self.logits <= TOLERANCE


def compare(file: Path, trained: Trained, batches: Sequence[dict[str, Tensor]]) -> Agreement:
    """Run an ONNX file in onnxruntime beside the network that it was made from.

    Args:
        file: with the outputs `OUTPUTS`, on the CPU.
        trained: on the CPU; its network computes in float32 here, however it was tested.
        batches: fields of the cache by name, each with B in front.

    Raises:
        OSError: if the file cannot be read.
    """
    import onnxruntime  # not all who evaluate export

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    differences = []
    for batch in batches:
        got = session.run(OUTPUTS, {name: field.numpy() for name, field in batch.items()})
        with torch.no_grad():
            logits = classify(trained.net, *trained.inputs(batch), torch.float32)
        scale = np.maximum(1, logits.abs().amax(dim=1, keepdim=True).numpy())  # (B, 1)
        probabilities = logits.softmax(dim=1).numpy()
        of_logits = np.abs(got[1] - logits.numpy()) / scale
        differences.append((np.abs(got[0] - probabilities).max(), of_logits.max()))
    of_probabilities, of_logits = np.max(differences, axis=0)  # NaN stays NaN
    clips = sum(len(next(iter(batch.values()))) for batch in batches)
    return Agreement(clips, float(of_probabilities), float(of_logits))


def cached_batches(cache: Cache, clips: Sequence[Clip], network: str) -> list[dict[str, Tensor]]:
    """Clips of a cache, spread evenly over `clips`, in batches of the sizes `BATCHES`.

    Args:
        clips: at least one; where there are too few, they are taken again.

    Raises:
        CacheError: if a field that `network` looks at is not in the cache.
    """
    positions = np.linspace(0, len(clips) - 1, sum(BATCHES)).astype(int)
    chosen = [clips[position].clip_id for position in positions]
    whole = {
        name: torch.stack([torch.from_numpy(cache.read(clip_id, name)) for clip_id in chosen])
        for name in inputs(network)
    }
    return _split(whole)


def random_batches(network: str) -> list[dict[str, Tensor]]:
    """Noise in place of the fields that `network` looks at, the same each time."""
    random = np.random.default_rng(_SEED)
    whole = {}
    for name in inputs(network):
        dtype, shape = FIELDS[name].dtype, (sum(BATCHES), *FIELDS[name].shape)
        if name == "frames":
            values = random.integers(0, 256, shape, dtype)
        else:
            values = (random.standard_normal(shape) * _RANDOM_SPREAD[name]).astype(dtype)
        whole[name] = torch.from_numpy(values)
    return _split(whole)


def _split(whole: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Fields of sum(BATCHES) clips, in batches of those sizes."""
    parts = {name: field.split(BATCHES) for name, field in whole.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(len(BATCHES))]
