"""Clips from the cache to the trainer: from shards, from memory, or from the GPU."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from cache.ravdess import Clip
from cache.reader import Cache
from cache.schema import FIELDS
from model.inputs import subsample

# Positions int64 (B,) on the CPU; inputs by field and labels int64 (B,) on the device.
Batch = tuple[Tensor, dict[str, Tensor], Tensor]

AHEAD = 2  # the number of batches that are read while one is trained on
# Resident clips take at most this share of a GPU's free memory, since activations need most of it,
# and at most this much of the host's: more would gain nothing over shards in the page cache.
DEVICE_SHARE, MEMORY_BYTES = 0.15, 2**30


class Clips:
    """Clips of a cache by position, read into tensors that the caller owns.

    Only the fields `inputs` are read, and of frames as many as `frames`, evenly spaced from the
    first. Threads may read in parallel: the cache reads past HDF5, without Python's lock.
    """

    def __init__(self, cache: Cache, clips: list[Clip], inputs: tuple[str, ...], frames: int):
        self.cache = cache
        self.clips = clips
        self.labels = torch.tensor([clip.label for clip in clips])
        self.frames = frames
        self._shapes = {name: FIELDS[name].shape for name in inputs}
        if "frames" in inputs:
            total, *picture = FIELDS["frames"].shape
            self._shapes["frames"] = (min(frames, total), *picture)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def bytes_per_clip(self) -> int:
        shapes = self._shapes.items()
        return sum(prod(shape) * FIELDS[name].dtype.itemsize for name, shape in shapes)

    def buffers(self, count: int, *, pinned: bool = False) -> dict[str, Tensor]:
        """Uninitialized tensors for `count` clips: each input with `count` in front."""
        types = {name: getattr(torch, FIELDS[name].dtype.name) for name in self._shapes}
        return {
            name: torch.empty(count, *shape, dtype=types[name], pin_memory=pinned)
            for name, shape in self._shapes.items()
        }

    def read(self, position: int, into: dict[str, Tensor], row: int) -> None:
        """Read the inputs of one clip into row `row` of `buffers`."""
        clip_id = self.clips[position].clip_id
        for name, tensor in into.items():
            if self._shapes[name] == FIELDS[name].shape:
                self.cache.read(clip_id, name, out=tensor[row].numpy())
            else:
                whole = torch.from_numpy(self.cache.read(clip_id, name))
                tensor[row].copy_(subsample(whole, self.frames, dim=0))


@dataclass(frozen=True)
class Resident:
    """All inputs of some clips at once, (N, ...) each, on a device or in memory."""

    inputs: dict[str, Tensor]
    labels: Tensor

    def batches(self, split: Sequence[Tensor], device: torch.device) -> Iterator[Batch]:
        """Yield the clips at the positions of each of `split`, a batch each."""
        for batch in split:
            index = batch.to(self.labels.device)
            inputs = {name: tensor[index].to(device) for name, tensor in self.inputs.items()}
            yield batch, inputs, self.labels[index].to(device)


class Streamed:
    """Clips that are read from their shards ahead of the step, into a few buffers in turn.

    It holds `AHEAD + 1` batches in memory, whatever the number of clips. The buffers are kept from
    epoch to epoch, since fresh memory costs as much as reading; so only one pass runs at a time.
    """

    def __init__(self, clips: Clips, readers: int):
        self.clips = clips
        self.readers = readers
        self._ring: list[dict[str, Tensor]] = []

    def batches(self, split: Sequence[Tensor], device: torch.device) -> Iterator[Batch]:
        """Yield the clips at the positions of each of `split`, a batch each.

        On the CPU a batch is in a buffer, which is overwritten once the next batch is requested.
        """
        on_gpu = device.type == "cuda"
        steps: deque[torch.cuda.Event] = deque()
        ring = self._buffers(max(map(len, split), default=0), min(AHEAD + 1, len(split)), on_gpu)
        copies = torch.cuda.Stream(device) if on_gpu else None
        with ThreadPoolExecutor(self.readers, thread_name_prefix="clips") as pool:

            def begin(number: int) -> list[Future]:
                buffer = ring[number % len(ring)]
                return [
                    pool.submit(self.clips.read, position, buffer, row)
                    for row, position in enumerate(split[number].tolist())
                ]

            reading = [begin(number) for number in range(min(AHEAD, len(split)))]
            try:
                for number, batch in enumerate(split):
                    for read in reading.pop(0):
                        read.result()
                    buffer = ring[number % len(ring)]
                    filled = {name: tensor[: len(batch)] for name, tensor in buffer.items()}
                    inputs = _to_gpu(filled, device, copies) if on_gpu else filled
                    # The next buffer in the ring was yielded one batch ago, so it is free.
                    if number + AHEAD < len(split):
                        reading.append(begin(number + AHEAD))
                    yield batch, inputs, self.clips.labels[batch].to(device)
                    if on_gpu:  # at most AHEAD steps, with their inputs, wait on the GPU
                        steps.append(torch.cuda.current_stream(device).record_event())
                        if len(steps) > AHEAD:
                            steps.popleft().synchronize()
            finally:
                for futures in reading:  # the caller has stopped early
                    for read in futures:
                        read.cancel()

    def _buffers(self, clips: int, count: int, pinned: bool) -> list[dict[str, Tensor]]:
        """Buffers for `clips` clips each; those of the last pass if they are large enough."""
        kept = [len(tensor) for buffer in self._ring for tensor in buffer.values()]
        if len(self._ring) < count or min(kept, default=0) < clips:
            self._ring = [self.clips.buffers(clips, pinned=pinned) for _ in range(count)]
        return self._ring


def _to_gpu(
    filled: dict[str, Tensor], device: torch.device, copies: "torch.cuda.Stream"
) -> dict[str, Tensor]:
    """Copy pinned buffers while the GPU computes; returns once they may be overwritten."""
    computing = torch.cuda.current_stream(device)
    with torch.cuda.stream(copies):
        inputs = {name: t.to(device, non_blocking=True) for name, t in filled.items()}
    copies.synchronize()  # waits for the copies only; earlier steps keep running
    for tensor in inputs.values():
        tensor.record_stream(computing)
    return inputs


def place(clips: Clips, device: torch.device) -> tuple[Resident | Streamed, str]:
    """Hold clips on the GPU or in memory if they fit, else stream them; and say where, in words."""
    size = clips.bytes_per_clip * len(clips)
    words = f"{size / 1e9:.2f} GB of clips"
    if device.type == "cuda" and size < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return _resident(clips, device), f"{words} on the GPU"
    if size <= MEMORY_BYTES:
        return _resident(clips, torch.device("cpu")), f"{words} in memory"
    return Streamed(clips, readers()), f"{words} streamed"


def _resident(clips: Clips, device: torch.device) -> Resident:
    inputs = {
        name: torch.empty(len(clips), *tensor.shape[1:], dtype=tensor.dtype, device=device)
        for name, tensor in clips.buffers(0).items()
    }
    streamed = Streamed(clips, readers()).batches(torch.arange(len(clips)).split(16), device)
    for positions, batch, _ in streamed:
        for name, tensor in batch.items():
            inputs[name][positions[0] : positions[-1] + 1].copy_(tensor)
    return Resident(inputs, clips.labels.to(device))


def readers() -> int:
    """The number of reading threads; they wait for the kernel and do not hold Python's lock."""
    return min(4, os.cpu_count() or 1)
