"""From the fields of the cache to what networks take, on the device that the fields are on.

Frames are subsampled, cropped, resized and normalized here and nowhere else.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cache.schema import FIELDS

# RGB mean and standard deviation of ImageNet, as in the public code.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

_FRAMES, _HEIGHT, _WIDTH, _CHANNELS = FIELDS["frames"].shape

# The fields that a network may look at, with the shape of one clip as networks take it.
INPUT_SHAPES = {
    "frames": (_CHANNELS, _FRAMES, _HEIGHT, _WIDTH),
    "mfcc": FIELDS["mfcc"].shape,
    "waveform": FIELDS["waveform"].shape,
    "landmarks": FIELDS["landmarks"].shape,
}

# Frames or landmarks, and sound for a network; None where it does not look at one of them.
Inputs = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Prepare:
    """Turns the fields of a batch into `frames` and `sound`."""

    count: int  # the number of frames that the network looks at
    size: int  # the side of a frame that the network looks at, in pixels; 0 for landmarks
    # Float (13, 1) on the device of the batch, over the training clips; None leaves MFCCs as is.
    mfcc_mean: Tensor | None = None
    mfcc_std: Tensor | None = None

    def __call__(self, fields: dict[str, Tensor], crops: Tensor | None = None) -> Inputs:
        """Frames float (B, 3, count, size, size) or landmarks float (B, 30, 68, 2) in pixels; MFCCs
        (B, 13, 212) or waveforms (B, 108045).

        `fields` are those of the cache by name, with B in front; `crops` are as for `to_input`.
        """
        frames = sound = None
        if "frames" in fields:
            frames = to_input(subsample(fields["frames"], self.count, dim=1), self.size, crops)
            frames = frames.contiguous(memory_format=torch.channels_last_3d)
        elif "landmarks" in fields:  # the network normalizes them itself
            frames = fields["landmarks"]
        if "mfcc" in fields:
            sound = fields["mfcc"]
            if self.mfcc_mean is not None:
                sound = (sound - self.mfcc_mean) / self.mfcc_std
        elif "waveform" in fields:
            sound = to_waveform(fields["waveform"])
        return frames, sound


def subsample(frames: Tensor, count: int, dim: int) -> Tensor:
    """Take `count` evenly spaced frames along `dim`, from the first on; all, if there are fewer."""
    total = frames.shape[dim]
    if total <= count:
        return frames
    if total % count == 0:  # a view, no copy
        return frames[(slice(None),) * dim + (slice(None, None, total // count),)]
    positions = torch.arange(count, device=frames.device) * total // count
    return frames.index_select(dim, positions)


def reduce(frames: Tensor, count: int, size: int) -> Tensor:
    """Reduce normalized frames (B, 3, T, H, W) to (B, 3, count, size, size), if they are larger.

    Averages square patches of H // size pixels.
    """
    frames = subsample(frames, count, dim=2)
    patch = frames.shape[3] // size
    return functional.avg_pool3d(frames, (1, patch, patch)) if patch > 1 else frames


def to_input(frames: Tensor, size: int, crops: Tensor | None = None) -> Tensor:
    """Crop, flip, resize and normalize clips: uint8 RGB (B, T, H, W, 3) -> (B, 3, T, size, size).

    The result is float32. `crops`, float (B, 5), are left, top, width and height as shares of the
    picture, 0..1, and 1 where the clip is flipped; None takes the whole picture.
    """
    height, width = frames.shape[2:4]
    if crops is None and (height, width) == (size, size):
        clips = frames.permute(0, 4, 1, 2, 3)  # (B, T, H, W, 3) -> (B, 3, T, H, W)
    else:
        whole = [(0.0, 0.0, 1.0, 1.0, 0.0)] * len(frames)
        boxes = whole if crops is None else crops.tolist()
        resized = [_crop(clip, size, *box) for clip, box in zip(frames, boxes, strict=True)]
        # (B, T, 3, size, size) -> (B, 3, T, size, size)
        clips = torch.stack(resized).transpose(1, 2)
    device = frames.device
    mean, std = (torch.tensor(c, device=device).view(3, 1, 1, 1) * 255 for c in (MEAN, STD))
    return (clips - mean) / std


def to_waveform(waveform: Tensor) -> Tensor:
    """16-bit samples, int16 of any shape, as float32 in -1..1."""
    return waveform.float() / 32_768


def _crop(
    clip: Tensor, size: int, left: float, top: float, width: float, height: float, flip: float
) -> Tensor:
    """One clip, uint8 (T, H, W, 3), cropped and resized to (T, 3, size, size)."""
    rows, columns = clip.shape[1:3]
    x, y = round(left * columns), round(top * rows)
    w, h = max(1, round(width * columns)), max(1, round(height * rows))
    part = clip[:, y : y + h, x : x + w].permute(0, 3, 1, 2)  # (T, h, w, 3) -> (T, 3, h, w)
    if clip.is_cuda:  # CUDA has no integer kernel for this
        part = part.float()
    part = functional.interpolate(part, (size, size), mode="bilinear", antialias=True)
    return part.flip(3) if flip else part
