"""Whether an ONNX file and torch give the same results for the same clips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from cache.ravdess import Clip
from cache.reader import Cache
from cache.schema import FIELDS
from evaluate.export.graph import OUTPUTS
from model.inference import TrainedNetwork, classify

BATCHES = (1, 3)  # batch sizes: two, so that a batch size fixed in the graph is noticed
_RANGES = {"frames": (0, 256), "mfcc": (-80, 80), "waveform": (-8_000, 8_000)}


def compare(file: Path, trained: TrainedNetwork, fields: dict[str, Tensor]) -> tuple[float, float]:
    """Run an ONNX file in onnxruntime, and the network that it was made from in torch, in float32.

    Args:
        file: the ONNX file.
        trained: the network, on the CPU.
        fields: the fields that it looks at, each of sum(BATCHES) clips.

    Returns:
        The greatest absolute difference of probabilities, and the greatest difference of logits
        relative to the greatest logit of the clip, if that is above 1. NaN for NaN or Inf.
    """
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    batches = {name: values.split(BATCHES) for name, values in fields.items()}
    differences = []
    for number in range(len(BATCHES)):
        batch = {name: parts[number] for name, parts in batches.items()}
        got = session.run(OUTPUTS, {name: values.numpy() for name, values in batch.items()})
        with torch.no_grad():
            logits = classify(trained.net, trained.prepare(batch), torch.float32)
        of_probabilities = (torch.from_numpy(got[0]) - logits.softmax(dim=1)).abs()
        of_logits = (torch.from_numpy(got[1]) - logits).abs()
        scale = logits.abs().amax(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
        differences.append(torch.stack([of_probabilities.max(), (of_logits / scale).max()]))
    probabilities, logits = torch.stack(differences).amax(dim=0).tolist()
    return probabilities, logits


def cached_fields(cache: Cache, clips: Sequence[Clip], names: Sequence[str]) -> dict[str, Tensor]:
    """Fields of sum(BATCHES) clips of a cache, spread evenly over `clips`; repeated, if too few."""
    positions = np.linspace(0, len(clips) - 1, sum(BATCHES)).astype(int)
    chosen = [clips[position].clip_id for position in positions]
    stacks = {name: np.stack([cache.read(clip_id, name) for clip_id in chosen]) for name in names}
    return {name: torch.from_numpy(stack) for name, stack in stacks.items()}


def random_fields(names: Sequence[str]) -> dict[str, Tensor]:
    """Noise in place of the fields of sum(BATCHES) clips, the same in every call."""
    random = np.random.default_rng(0)
    fields = {}
    for name in names:
        values = random.uniform(*_RANGES[name], (sum(BATCHES), *FIELDS[name].shape))
        fields[name] = torch.from_numpy(values.astype(FIELDS[name].dtype))
    return fields
