"""How to train: the paper's recipe, and a modern one."""

import argparse
import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from cache.schema import FRAME_COUNT, MFCC_COUNT, MFCC_STEPS


def _setting(
    default: Any, why: str, low: float = 0, high: float = math.inf, **limits: float
) -> Any:
    """A setting with its reason and its range: `low` to `high`, and within `above` and `below`."""
    limits = {"above": -math.inf, "below": math.inf, **limits}
    return field(default=default, metadata={"help": why, "low": low, "high": high, **limits})


@dataclass(frozen=True)
class Recipe:
    """All settings of training except the network and the clips, each with its reason."""

    epochs: int = _setting(70, "number of epochs; the last one is the result", low=1)
    batch_size: int = _setting(16, "batch size in clips; batch norm requires 2 or more", low=2)
    learning_rate: float = _setting(1e-3, "peak learning rate of Adam", above=0)
    warmup: float = _setting(
        0.0,
        "share of the steps over which the learning rate rises from 0, since Adam's first "
        "estimates are noisy",
        below=1,
    )
    cosine: bool = _setting(False, "decay the learning rate to 0, so that the last epoch settles")
    weight_decay: float = _setting(0.0, "decoupled weight decay of matrices and kernels (AdamW)")
    label_smoothing: float = _setting(
        0.0, "share of each target spread over all emotions: acted emotions are ambiguous", below=1
    )
    ema: float = _setting(0.0, "EMA decay of the evaluated weights (0 = off)", below=1)
    mfcc_normalize: bool = _setting(
        False,
        "normalize each coefficient by its mean and std over the training clips: their scales "
        "differ by two orders of magnitude",
    )
    mfcc_style: float = _setting(
        0.0,
        "alpha of MixStyle: half of the clips mix their per-clip mean and std of each coefficient, "
        "which describe the voice, with another clip's (0 = off)",
        high=100,
    )
    vocal_tract: float = _setting(
        0.0,
        "largest vocal tract perturbation, as a logarithm: the training actors are few (0 = off)",
        high=0.5,
    )
    mfcc_shift: int = _setting(
        0,
        "largest shift in time in steps of 11.6 ms: speech does not start on time",
        high=MFCC_STEPS // 2,
    )
    mfcc_mask_steps: int = _setting(
        0, "largest width of the masked span of time in steps (SpecAugment)", high=MFCC_STEPS - 1
    )
    mfcc_mask_coefficients: int = _setting(
        0, "largest number of masked coefficients (SpecAugment)", high=MFCC_COUNT - 1
    )
    landmark_shift: int = _setting(
        0, "largest shift of landmarks in time in frames of 82 ms", high=FRAME_COUNT // 2
    )
    landmark_stretch: float = _setting(
        0.0, "largest change of the speed of landmarks, as a logarithm (0 = off)", high=1
    )
    landmark_mirror: bool = _setting(False, "mirror the landmarks of half of the clips")
    landmark_exchange: float = _setting(
        0.0,
        "share of clips whose expression is transferred to a mixture of two other training actors' "
        "mean faces",
        high=1,
    )
    landmark_gain: float = _setting(
        0.0, "largest change of the strength of those expressions, as a logarithm", high=1
    )
    started_rate: float = _setting(
        1.0,
        "learning rate of pretrained parts, relative to that of new parts; below 1 their batch "
        "norm statistics are frozen, and at 0 their weights too",
        high=1,
    )
    product_start: bool = _setting(
        False,
        "start the classifier of a fusion network at the sum of the logits of the unimodal "
        "networks that its encoders start from, instead of at random",
    )
    mixup: float = _setting(0.0, "alpha of mixup, which mixes pairs of clips (0 = off)")
    modality_dropout: float = _setting(
        0.0,
        "share of clips with one modality dropped, so that a fusion network learns both",
        high=1,
    )


_CHANGES_OF_FACES = {
    "landmark_shift": 3,
    "landmark_stretch": 0.1,
    "landmark_mirror": True,
    "landmark_exchange": 0.8,
    "landmark_gain": 0.3,
}
_MODERN = Recipe(
    epochs=150,
    learning_rate=1e-3,
    warmup=0.1,
    cosine=True,
    weight_decay=0.3,
    label_smoothing=0.1,
    ema=0.99,
    mfcc_normalize=True,
    mfcc_style=0.2,
    vocal_tract=0.2,
    mfcc_shift=20,
    mfcc_mask_steps=30,
    mfcc_mask_coefficients=3,
    modality_dropout=0.2,
)

RECIPES = {
    "paper": Recipe(),
    # For voices. How it and the next ones were chosen: docs/reproduction.md.
    "modern": _MODERN,
    # For facial landmarks.
    "landmarks": Recipe(
        epochs=40,
        batch_size=32,
        learning_rate=3e-3,
        warmup=0.1,
        cosine=True,
        weight_decay=0.1,
        label_smoothing=0.1,
        ema=0.99,
        **_CHANGES_OF_FACES,
    ),
    # For both, from unimodal networks that are trained already, and that a fused loss would make
    # worse: together they are right on nearly all training clips, so smoothed labels only weaken
    # what they say, and missing modalities (zeros) move the statistics of batch norms.
    "fusion": replace(
        _MODERN,
        epochs=10,
        batch_size=32,
        learning_rate=1e-3,
        weight_decay=0.1,
        label_smoothing=0.0,
        modality_dropout=0.0,
        started_rate=0.1,
        product_start=True,
        **_CHANGES_OF_FACES,
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--recipe`, and one argument per setting of a recipe."""
    parser.add_argument(
        "--recipe", choices=RECIPES, default="paper", help="training recipe (default: paper)"
    )
    group = parser.add_argument_group(f"recipe settings (defaults: {', '.join(RECIPES)})")
    for each in fields(Recipe):
        flag = "--lr" if each.name == "learning_rate" else f"--{each.name.replace('_', '-')}"
        values = ", ".join(str(getattr(recipe, each.name)) for recipe in RECIPES.values())
        options: dict[str, Any] = {"dest": each.name, "help": f"{each.metadata['help']} ({values})"}
        if each.type is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        else:
            metavar = "N" if each.type is int else "X"
            group.add_argument(flag, type=each.type, metavar=metavar, **options)


def from_arguments(args: argparse.Namespace) -> Recipe:
    """The requested recipe; ValueError if a setting is out of range."""
    given = {each.name: getattr(args, each.name) for each in fields(Recipe)}
    recipe = replace(
        RECIPES[args.recipe], **{name: value for name, value in given.items() if value is not None}
    )
    for each in fields(Recipe):
        value = getattr(recipe, each.name)
        low, high, above, below = (each.metadata[n] for n in ("low", "high", "above", "below"))
        if not (low <= value <= high and above < value < below):
            expected = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            expected = f"more than {above:g}" if above == 0 else expected
            expected += "" if below == math.inf else f", below {below:g}"
            raise ValueError(f"{each.name} is {value}, expected {expected}")
    return recipe


def learning_rate(recipe: Recipe, progress: float) -> float:
    """The learning rate at `progress` (0..1) of all steps."""
    if progress < recipe.warmup:
        return recipe.learning_rate * progress / recipe.warmup
    if not recipe.cosine:
        return recipe.learning_rate
    decayed = (progress - recipe.warmup) / (1 - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * decayed))
