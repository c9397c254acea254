"""The random changes of clips in training: those of Sec. 3.2, and of sound.

A clip is cropped and flipped once, the same for all of its frames, so that it does not flicker.
"""

import numpy as np
import torch
from torch import Tensor

# The share of the picture's area that a crop keeps, and its width over its height.
CROP_AREA = (0.8, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)

STYLED = 0.5  # share of clips that take on the style of another
LEAST_DEVIATION = 1e-3  # below it a coefficient is still: silence, and the noise of rounding


def draw_crops(count: int, generator: torch.Generator) -> Tensor:
    """Draw how each clip of an epoch is cropped and flipped.

    Args:
        count: number of clips.
        generator: of random numbers, on the CPU.

    Returns:
        float32 (count, 5): left, top, width and height as shares of the picture, 0..1, and
        1 where the clip is flipped. Area and log ratio are uniform, as in random resized crops;
        a side that would leave the picture is cut to it.
    """
    draws = torch.rand(count, 5, generator=generator)
    area = CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * draws[:, 0]
    low, high = torch.tensor(CROP_RATIO).log()
    ratio = (low + (high - low) * draws[:, 1]).exp()
    width = (area * ratio).sqrt().clamp(max=1)
    height = (area / ratio).sqrt().clamp(max=1)
    left = draws[:, 2] * (1 - width)
    top = draws[:, 3] * (1 - height)
    return torch.stack([left, top, width, height, (draws[:, 4] < 0.5).float()], dim=1)


def draw_sound(count: int, generator: torch.Generator) -> Tensor:
    """Draw how the sound of each clip of an epoch is moved and hidden, for `change_mfcc`.

    Returns:
        float32 (count, 5), uniform in 0..1: shift; width and place of a span of time; width and
        place of a span of coefficients.
    """
    return torch.rand(count, 5, generator=generator)


def change_mfcc(
    mfcc: Tensor, draws: Tensor, *, shift: int, mask_steps: int, mask_coefficients: int
) -> Tensor:
    """Move MFCCs in time, and hide a span of time and a span of coefficients of each clip.

    Args:
        mfcc: float (B, 13, steps).
        draws: (B, 5), as from `draw_sound`.
        shift: most steps to either side; what comes in repeats the edge.
        mask_steps, mask_coefficients: widest spans; what is hidden is the coefficient's mean over
            the clip.

    Returns:
        A tensor of the same shape.
    """
    coefficients, steps = mfcc.shape[1:]
    draws = draws.to(mfcc.device)
    means = mfcc.mean(dim=2, keepdim=True)  # (B, 13, 1)
    moved_by = (draws[:, 0] * (2 * shift + 1)).floor().long() - shift  # (B,), -shift..shift
    time = torch.arange(steps, device=mfcc.device)
    source = (time - moved_by[:, None]).clamp(0, steps - 1)  # (B, steps)
    mfcc = mfcc.gather(2, source[:, None].expand_as(mfcc))
    hidden_steps = _span(draws[:, 1], draws[:, 2], mask_steps, steps)[:, None, :]
    hidden_rows = _span(draws[:, 3], draws[:, 4], mask_coefficients, coefficients)[:, :, None]
    return torch.where(hidden_steps | hidden_rows, means, mfcc)


def _span(width: Tensor, place: Tensor, widest: int, length: int) -> Tensor:
    """True in a span of 0..`widest` of `length`, drawn by `width` and `place` (B,): (B, length)."""
    width = (width * (widest + 1)).floor()
    start = (place * (length - width + 1)).floor()
    index = torch.arange(length, device=width.device)
    return (index >= start[:, None]) & (index < (start + width)[:, None])


def draw_styles(count: int, alpha: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw whose style each clip of an epoch takes on, and how much of its own it keeps.

    Args:
        count: number of clips.
        alpha: of the Beta distribution of what is kept; below 1 it is mostly all or nothing.
        seed: of the draws.

    Returns:
        Positions of other clips, int64 (count,), and shares float32 (count,) in 0..1, which are 1
        for the clips that stay as they are.
    """
    rng = np.random.default_rng(seed)
    others = rng.integers(count, size=count)
    kept = np.where(rng.random(count) < STYLED, rng.beta(alpha, alpha, count), 1.0)
    return torch.from_numpy(others), torch.from_numpy(kept).float()


def change_style(mfcc: Tensor, own: Tensor, other: Tensor, kept: Tensor) -> Tensor:
    """Give clips the mean and the deviation over time of others, in part.

    The two of each coefficient tell of voice, microphone and loudness more than of emotion. Source:
    MixStyle, Zhou et al. 2021, Eqs. (4) to (6); there in the middle of a network.

    Args:
        mfcc: float (B, 13, steps).
        own, other: mean and deviation of each coefficient of these clips and of those whose style
            they take on, float (B, 13, 2).
        kept: (B,), the share of their own style that they keep.

    Returns:
        A tensor of the same shape.
    """
    own, other, kept = (each.to(mfcc) for each in (own, other, kept))
    # A still coefficient has no style to give: with it, nothing would be left of the clip.
    other = torch.where(other[..., 1:] < LEAST_DEVIATION, own, other)
    mean, deviation = own.unsqueeze(2).unbind(3)  # (B, 13, 1) each
    target = torch.lerp(other, own, kept[:, None, None]).unsqueeze(2)
    new_mean, new_deviation = target.unbind(3)
    return (mfcc - mean) / deviation.clamp(min=LEAST_DEVIATION) * new_deviation + new_mean


def drop_modality(
    frames: Tensor, sound: Tensor, draws: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """Set one modality of some clips to zero, which is its mean where inputs are normalised.

    Args:
        frames, sound: (B, ...).
        draws: (B,), uniform in 0..1; below share / 2 the frames go, below `share` the sound.
        share: of clips that lose a modality.
    """

    def zeroed(x: Tensor, gone: Tensor) -> Tensor:
        return x * (~gone).to(x).reshape(-1, *[1] * (x.dim() - 1))

    draws = draws.to(frames.device)
    no_frames = draws < share / 2
    return zeroed(frames, no_frames), zeroed(sound, (draws < share) & ~no_frames)


def mix(tensor: Tensor, weight: float) -> Tensor:
    """Each clip mixed with the one across its batch: weight * x + (1 - weight) * reversed x."""
    return weight * tensor + (1 - weight) * tensor.flip(0)
