"""From the fields of the cache to what networks take, on the device that they lie on."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# RGB statistics of ImageNet, as the public code uses.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Inputs = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Prepare:
    """Turns the fields of a batch into `frames` and `sound`, on the device that they lie on.

    Args:
        size: pixels a side that the network looks at.
        mfcc_mean, mfcc_std: float (13, 1) on that device, of the training clips; None leaves MFCCs
            as they are.
    """

    size: int
    mfcc_mean: Tensor | None = None
    mfcc_std: Tensor | None = None

    def __call__(
        self,
        inputs: dict[str, Tensor],
        crops: Tensor | None = None,
    ) -> Inputs:
        """Frames float (B, 3, T, size, size); MFCCs (B, 13, 212) or waveforms (B, 108045).

        Args:
            inputs: fields of the cache, each with B in front.
            crops: (B, 5) as for `to_input`; None takes whole pictures.
        """
        frames = sound = None
        if "frames" in inputs:
            frames = to_input(inputs["frames"], self.size, crops)
            frames = frames.contiguous(memory_format=torch.channels_last_3d)
        if "mfcc" in inputs:
            sound = inputs["mfcc"]
            if self.mfcc_mean is not None:
                sound = (sound - self.mfcc_mean) / self.mfcc_std
        elif "waveform" in inputs:
            sound = to_waveform(inputs["waveform"])
        return frames, sound


def to_input(frames: Tensor, size: int, crops: Tensor | None = None) -> Tensor:
    """Crop, flip, resize and normalise clips on the device that they lie on.

    Args:
        frames: uint8 RGB (B, T, H, W, 3).
        size: pixels a side of the result.
        crops: float (B, 5): left, top, width and height as shares of the picture, 0..1, and 1 where
            the clip is flipped; None takes the whole picture.

    Returns:
        float32 (B, 3, T, size, size).
    """
    height, width = frames.shape[2:4]
    if crops is None and (height, width) == (size, size):
        clips = frames.permute(0, 4, 1, 2, 3)  # (B, T, H, W, 3) -> (B, 3, T, H, W)
    else:
        whole = [(0.0, 0.0, 1.0, 1.0, 0.0)] * len(frames)
        clips = torch.stack(
            [
                _crop(clip, size, *crop)
                for clip, crop in zip(
                    frames, whole if crops is None else crops.tolist(), strict=True
                )
            ]
        ).transpose(1, 2)  # (B, T, 3, size, size) -> (B, 3, T, size, size)
    mean, std = (
        torch.tensor(values, device=frames.device).view(3, 1, 1, 1) * 255 for values in (MEAN, STD)
    )
    return (clips - mean) / std


def to_waveform(waveform: Tensor) -> Tensor:
    """16-bit samples, int16 of any shape, as float32 of -1..1."""
    return waveform.float() / 32_768


def _crop(
    clip: Tensor, size: int, left: float, top: float, width: float, height: float, flip: float
) -> Tensor:
    """One clip, uint8 (T, H, W, 3), cropped and resized to (T, 3, size, size)."""
    rows, columns = clip.shape[1:3]
    x, y = round(left * columns), round(top * rows)
    w, h = max(1, round(width * columns)), max(1, round(height * rows))
    part = clip[:, y : y + h, x : x + w].permute(0, 3, 1, 2)  # (T, h, w, 3) -> (T, 3, h, w)
    if clip.is_cuda:  # there is no integer kernel
        part = part.float()
    part = functional.interpolate(part, (size, size), mode="bilinear", antialias=True)
    return part.flip(3) if flip else part
