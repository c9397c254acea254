"""The random changes of clips in training: those of Sec. 3.2, and those of sound.

A clip is cropped and flipped once, the same for all of its frames, so that it does not flicker.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cache.ravdess import EMOTIONS
from model.inputs import Inputs
from train.landmarks import change_landmarks, draw_faces
from train.recipe import Recipe
from train.seeds import (
    AUGMENTATION,
    FACE,
    MIXUP,
    MODALITY,
    SOUND,
    STYLE,
    VOCAL_TRACT,
    generator,
    seed_of,
)
from train.stream import Clips
from train.vocal_tract import change_vocal_tract

# The share of the picture's area that a crop keeps, and its width over its height.
CROP_AREA = (0.8, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)

STYLED = 0.5  # the share of clips that take the style of another clip
LEAST_DEVIATION = 1e-3  # a coefficient below it is constant: silence, up to rounding


class Augmentation:
    """The random changes of one epoch, drawn in advance from the seed and the epoch.

    Draws belong to the position of a clip and to the number of a step, not to the process or
    thread that reads the clip, so they are the same in a resumed run and on any device.

    Args:
        recipe: which changes, and how strong.
        seed: the random seed of the run.
        epoch: the number of the epoch, from 1.
        num_clips: the number of training clips.
        styles: the styles of their MFCCs, as from `mfcc_styles`; needed for `mfcc_style`.
        faces: the mean faces of their actors, as from `mean_faces`; needed for landmarks.
    """

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        epoch: int,
        num_clips: int,
        *,
        styles: Tensor | None = None,
        faces: Tensor | None = None,
    ):
        self.recipe = recipe
        self.crops = draw_crops(num_clips, generator(seed, epoch, AUGMENTATION))
        self.sound = torch.rand(num_clips, 5, generator=generator(seed, epoch, SOUND))
        self.vocal_tracts = torch.rand(num_clips, generator=generator(seed, epoch, VOCAL_TRACT))
        self.modality = torch.rand(num_clips, generator=generator(seed, epoch, MODALITY))
        self.styles, self.faces = styles, faces
        self.face, self.other_faces = draw_faces(num_clips, generator(seed, epoch, FACE))
        if recipe.mfcc_style:
            self.others, self.kept = draw_styles(
                num_clips, recipe.mfcc_style, seed_of(seed, epoch, STYLE)
            )
        self.mixup: list[float] | None = None
        if recipe.mixup:
            random = np.random.default_rng(seed_of(seed, epoch, MIXUP))
            # More than there are steps.
            weights = random.beta(recipe.mixup, recipe.mixup, num_clips)
            # Each clip keeps the greater part, so that accuracy is judged by its own label.
            self.mixup = np.maximum(weights, 1 - weights).tolist()

    def change_person(self, positions: Tensor, fields: dict[str, Tensor]) -> dict[str, Tensor]:
        """Change the apparent speaker of a batch: landmarks, and MFCCs before normalization.

        Args:
            positions: the positions of the clips, int64 (B,).
            fields: fields of the cache by name, each with B in front.
        """
        recipe = self.recipe
        if "landmarks" in fields:
            own, others = self.faces[positions], self.faces[self.other_faces[positions]]
            points = change_landmarks(
                fields["landmarks"], self.face[positions], own, others, recipe
            )
            fields = fields | {"landmarks": points}
        if "mfcc" not in fields or not (recipe.mfcc_style or recipe.vocal_tract):
            return fields
        mfcc = fields["mfcc"]
        if recipe.mfcc_style:
            own, other = self.styles[positions], self.styles[self.others[positions]]
            mfcc = change_style(mfcc, own, other, self.kept[positions])
        if recipe.vocal_tract:
            mfcc = change_vocal_tract(mfcc, self.vocal_tracts[positions], recipe.vocal_tract)
        return fields | {"mfcc": mfcc}

    def change_inputs(
        self, step: int, positions: Tensor, frames: Tensor | None, sound: Tensor | None
    ) -> Inputs:
        """Shift and hide parts of the sound, drop modalities, and mix clips.

        Args:
            step: the number of the batch in this epoch, from 0.
            positions: the positions of the clips, int64 (B,).
            frames, sound: the inputs as from `Prepare`.
        """
        recipe = self.recipe
        masked = recipe.mfcc_shift or recipe.mfcc_mask_steps or recipe.mfcc_mask_coefficients
        if sound is not None and sound.dim() == 3 and masked:  # MFCCs, not a waveform
            sound = change_mfcc(
                sound,
                self.sound[positions],
                shift=recipe.mfcc_shift,
                mask_steps=recipe.mfcc_mask_steps,
                mask_coefficients=recipe.mfcc_mask_coefficients,
            )
        if recipe.modality_dropout and frames is not None and sound is not None:
            frames, sound = drop_modality(
                frames, sound, self.modality[positions], recipe.modality_dropout
            )
        if self.mixup:
            weight = self.mixup[step]
            frames, sound = (None if x is None else mix(x, weight) for x in (frames, sound))
        return frames, sound

    def targets(self, step: int, labels: Tensor) -> Tensor:
        """Distributions over the emotions, float (B, 8), from labels int64 (B,)."""
        targets = to_targets(labels, self.recipe.label_smoothing)
        return mix(targets, self.mixup[step]) if self.mixup else targets


def to_targets(labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Labels (B,) as distributions (B, 8), a share `smoothing` of each spread over all emotions."""
    certain = functional.one_hot(labels, len(EMOTIONS)).float()
    return certain * (1 - smoothing) + smoothing / len(EMOTIONS)


def mfcc_styles(clips: Clips) -> Tensor:
    """Mean and standard deviation over time of each coefficient, float64 (clips, 13, 2)."""
    buffer = clips.buffers(1)
    styles = torch.empty(len(clips), buffer["mfcc"].shape[1], 2, dtype=torch.float64)
    for position in range(len(clips)):
        clips.read(position, {"mfcc": buffer["mfcc"]}, 0)
        std, mean = torch.std_mean(buffer["mfcc"][0].double(), dim=1, correction=0)
        styles[position] = torch.stack([mean, std], dim=1)
    return styles


def mfcc_statistics(styles: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each coefficient over clips and time, float32 (13, 1).

    `styles` are those of clips of equal length, as from `mfcc_styles`.
    """
    means, deviations = styles.unbind(2)
    variance = deviations.square().mean(dim=0) + means.var(dim=0, correction=0)
    std = variance.clamp(min=1e-12).sqrt()
    return means.mean(dim=0).float()[:, None], std.float()[:, None]


def draw_crops(count: int, generator: torch.Generator) -> Tensor:
    """Draw how each of `count` clips of an epoch is cropped and flipped: float32 (count, 5).

    Left, top, width and height as shares of the picture, 0..1, and 1 where the clip is flipped.
    Area and log ratio are uniform, as in random resized crops; a side that would leave the picture
    is cut to it.
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


def change_mfcc(
    mfcc: Tensor, draws: Tensor, *, shift: int, mask_steps: int, mask_coefficients: int
) -> Tensor:
    """Shift MFCCs in time, and mask a span of time and a span of coefficients of each clip.

    Args:
        mfcc: float (B, 13, steps).
        draws: float (B, 5), uniform in 0..1: shift; width and place of a span of time; width and
            place of a span of coefficients.
        shift: the largest shift to either side in steps; the edge is repeated.
        mask_steps: the largest width of the span of time.
        mask_coefficients: the largest width of the span of coefficients. Masked values become the
            coefficient's mean over the clip.
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
    """Draw which clip's style each clip of an epoch takes, and how much of its own it keeps.

    Returns positions of other clips, int64 (count,), and shares float32 (count,) in 0..1: 1 for
    clips that stay as they are, for others from Beta(alpha, alpha), below 1 mostly all or nothing.
    """
    rng = np.random.default_rng(seed)
    others = rng.integers(count, size=count)
    kept = np.where(rng.random(count) < STYLED, rng.beta(alpha, alpha, count), 1.0)
    return torch.from_numpy(others), torch.from_numpy(kept).float()


def change_style(mfcc: Tensor, own: Tensor, other: Tensor, kept: Tensor) -> Tensor:
    """Mix the mean and the deviation over time of clips with those of other clips.

    Both describe the voice, the microphone and the loudness more than the emotion. Source:
    MixStyle, Zhou et al. 2021, Eqs. (4) to (6), where it is applied inside a network.

    Args:
        mfcc: float (B, 13, steps).
        own, other: mean and deviation of each coefficient, of these clips and of the clips whose
            style they take, float (B, 13, 2).
        kept: the share of their own style that they keep, float (B,).
    """
    own, other, kept = (each.to(mfcc) for each in (own, other, kept))
    # A constant coefficient has no style to give: it would erase the clip.
    other = torch.where(other[..., 1:] < LEAST_DEVIATION, own, other)
    mean, deviation = own.unsqueeze(2).unbind(3)  # (B, 13, 1) each
    target = torch.lerp(other, own, kept[:, None, None]).unsqueeze(2)
    new_mean, new_deviation = target.unbind(3)
    return (mfcc - mean) / deviation.clamp(min=LEAST_DEVIATION) * new_deviation + new_mean


def drop_modality(
    frames: Tensor, sound: Tensor, draws: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """Set one modality of some clips to zero, which is its mean where inputs are normalized.

    Args:
        frames, sound: the inputs, (B, ...).
        draws: float (B,), uniform in 0..1; below share / 2 the frames are dropped, from there to
            `share` the sound.
        share: the share of clips that lose a modality.
    """

    def zeroed(x: Tensor, gone: Tensor) -> Tensor:
        return x * (~gone).to(x).reshape(-1, *[1] * (x.dim() - 1))

    draws = draws.to(frames.device)
    no_frames = draws < share / 2
    return zeroed(frames, no_frames), zeroed(sound, (draws < share) & ~no_frames)


def mix(tensor: Tensor, weight: float) -> Tensor:
    """Each clip mixed with the one across its batch: weight * x + (1 - weight) * reversed x."""
    return weight * tensor + (1 - weight) * tensor.flip(0)
