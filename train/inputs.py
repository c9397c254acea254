"""What training does to a batch: the random changes of an epoch, its targets, its statistics."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cache.ravdess import EMOTIONS
from train.augment import (
    change_mfcc,
    change_style,
    draw_crops,
    draw_sound,
    draw_styles,
    drop_modality,
    mix,
)
from train.recipe import Recipe
from train.seeds import (
    AUGMENTATION,
    DROPOUT,
    MIXUP,
    MODALITY,
    SOUND,
    STYLE,
    THROAT,
    generator,
    seed_of,
)
from train.stream import Clips
from train.vocal_tract import change_vocal_tract


def mfcc_styles(clips: Clips) -> Tensor:
    """Mean and standard deviation over time of each clip's coefficients, float64 (clips, 13, 2)."""
    styles = torch.empty(len(clips), 13, 2, dtype=torch.float64)
    buffer = {"mfcc": torch.empty(1, *clips.buffers(0)["mfcc"].shape[1:])}
    for position in range(len(clips)):
        clips.read(position, buffer, 0)
        std, mean = torch.std_mean(buffer["mfcc"][0].double(), dim=1, correction=0)
        styles[position] = torch.stack([mean, std], dim=1)
    return styles


def mfcc_statistics(styles: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each coefficient over clips and time, float32 (13, 1).

    Args:
        styles: as from `mfcc_styles`; all clips are of one length.
    """
    means, deviations = styles.unbind(2)
    variance = deviations.square().mean(dim=0) + means.var(dim=0, correction=0)
    std = variance.clamp(min=1e-12).sqrt()
    return means.mean(dim=0).float()[:, None], std.float()[:, None]


class Changes:
    """The random changes of one epoch's clips, drawn beforehand from seed and epoch.

    They belong to a clip's position and to the number of a step, not to who reads the clip, so a
    run that goes on in the middle of an epoch makes the same ones.

    Args:
        recipe: which changes, and how strong.
        seed, epoch: of the run.
        clips: number of training clips.
        styles: of their MFCCs, as from `mfcc_styles`; for `mfcc_style`.
    """

    def __init__(
        self, recipe: Recipe, seed: int, epoch: int, clips: int, styles: Tensor | None = None
    ):
        self.recipe = recipe
        self.seed = seed
        self.epoch = epoch
        self.crops = draw_crops(clips, generator(seed, epoch, AUGMENTATION))
        self.sound = draw_sound(clips, generator(seed, epoch, SOUND))
        self.throats = torch.rand(clips, generator=generator(seed, epoch, THROAT))
        self.styles = styles
        if recipe.mfcc_style:
            self.others, self.kept = draw_styles(
                clips, recipe.mfcc_style, seed_of(seed, epoch, STYLE)
            )
        self.modality = torch.rand(clips, generator=generator(seed, epoch, MODALITY))
        self.weights: list[float] | None = None
        self.batch_sizes = batch_sizes(clips, recipe.batch_size)
        if recipe.mixup:
            steps = len(self.batch_sizes)
            drawn = np.random.default_rng(seed_of(seed, epoch, MIXUP))
            weights = drawn.beta(recipe.mixup, recipe.mixup, steps)
            # Each clip stays the greater part, so that its own label is what it is judged by.
            self.weights = np.maximum(weights, 1 - weights).tolist()

    def dropout_seed(self, step: int, rank: int) -> int:
        """The seed of what a process drops out in a step."""
        return seed_of(self.seed, self.epoch, DROPOUT, step, rank)

    def of_fields(self, positions: Tensor, fields: dict[str, Tensor]) -> dict[str, Tensor]:
        """Change a batch as it is in the cache, before its MFCCs are normalised.

        Args:
            positions: of the clips, int64 (B,).
            fields: by name, each with B in front.
        """
        recipe = self.recipe
        if "mfcc" not in fields or not (recipe.mfcc_style or recipe.vocal_tract):
            return fields
        mfcc = fields["mfcc"]
        if recipe.mfcc_style:
            own, other = self.styles[positions], self.styles[self.others[positions]]
            mfcc = change_style(mfcc, own, other, self.kept[positions])
        if recipe.vocal_tract:
            mfcc = change_vocal_tract(mfcc, self.throats[positions], recipe.vocal_tract)
        return fields | {"mfcc": mfcc}

    def __call__(
        self, step: int, positions: Tensor, frames: Tensor | None, sound: Tensor | None, y: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Change a batch and make its targets.

        Args:
            step: number of the batch in this epoch, from 0.
            positions: of the clips, int64 (B,).
            frames, sound: as from `Prepare`.
            y: labels, int64 (B,).

        Returns:
            Frames, sound and targets; targets are distributions over the emotions, float (B, 8).
        """
        recipe = self.recipe
        moved = recipe.mfcc_shift or recipe.mfcc_mask_steps or recipe.mfcc_mask_coefficients
        if sound is not None and sound.dim() == 3 and moved:
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
        targets = to_targets(y, recipe.label_smoothing)
        if self.weights is not None:
            weight = self.weights[step]
            targets = mix(targets, weight)
            frames, sound = (None if x is None else mix(x, weight) for x in (frames, sound))
        return frames, sound, targets


def batch_sizes(clips: int, batch_size: int) -> list[int]:
    """How many clips each batch of an epoch has: the last what is left, but never one alone.

    A lone last clip joins the batch before, since batch norm learns nothing from one value.
    """
    full, rest = divmod(clips, batch_size)
    sizes = [batch_size] * full + [rest] * (rest > 0)
    if len(sizes) > 1 and rest == 1:
        sizes[-2:] = [batch_size + 1]
    return sizes


def to_targets(labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Labels (B,) as distributions (B, 8), a share `smoothing` of each spread over all emotions."""
    certain = functional.one_hot(labels, len(EMOTIONS)).float()
    return certain * (1 - smoothing) + smoothing / len(EMOTIONS)
