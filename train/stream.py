"""Clips from the cache to the training loop, in an order that depends on seed and epoch alone."""

import os
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cache.clips import Clip
from cache.reader import Cache
from cache.schema import FRAME_COUNT


class Clips(Dataset):
    """Clips of a cache as (position, inputs, label).

    `position` is the clip's index in `clips`; `inputs` holds what the network looks at: `frames`
    uint8 (T, 224, 224, 3), `mfcc` float32 (13, 212), `waveform` int16 (108045,); `label` is an
    int. Pickles without open files, so loader workers open their own.

    Args:
        cache: where the clips lie.
        clips: which of them.
        inputs: names of the fields to read; nothing else is.
        frames: how many of the 30 frames to take, evenly spaced from the first.
    """

    def __init__(self, cache: Cache, clips: list[Clip], inputs: tuple[str, ...], frames: int):
        self.cache = cache
        self.clips = clips
        self.inputs = inputs
        self.every = FRAME_COUNT // frames

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, position: int) -> tuple[int, dict[str, Tensor], int]:
        clip = self.clips[position]
        inputs = {
            name: torch.from_numpy(self.cache.read(clip.clip_id, name)) for name in self.inputs
        }
        if "frames" in inputs:
            inputs["frames"] = inputs["frames"][:: self.every]
        return position, inputs, clip.label


def batches(
    clips: Clips,
    batch_size: int,
    device: torch.device,
    *,
    workers: int,
    order: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor]]:
    """Yield every clip once, in batches on `device`; the last batch may be smaller.

    Args:
        clips: what to read.
        batch_size: clips a batch.
        device: where the tensors go; through pinned memory if it is a GPU.
        workers: reading processes; 0 reads in this one.
        order: draws the order; None keeps it.

    Yields:
        positions int64 (B,) on the CPU; inputs, each with B in front, and labels int64 (B,) on
        `device`.
    """
    loader = DataLoader(
        clips,
        batch_size=batch_size,
        sampler=None if order is None else torch.randperm(len(clips), generator=order).tolist(),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        # HDF5 must not be forked while open.
        multiprocessing_context="spawn" if workers else None,
    )
    for positions, inputs, labels in loader:
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
        yield positions, moved, labels.to(device, non_blocking=True)


def default_workers(device: torch.device) -> int:
    """Reading processes: on a CPU none, since the network needs the cores; else up to 4."""
    if device.type == "cpu":
        return 0
    return max(1, min(4, (os.cpu_count() or 1) - 1))
