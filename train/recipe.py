"""How to train: the paper's way, and another with what has been learnt since."""

import argparse
import math
from dataclasses import dataclass, field, fields, replace
from typing import Any


def _setting(default: Any, reason: str) -> Any:
    return field(default=default, metadata={"help": reason})


@dataclass(frozen=True)
class Recipe:
    """Everything about training but the network and the clips; each setting says its reason."""

    epochs: int = _setting(70, "length of the fixed schedule; the last epoch is the result")
    batch_size: int = _setting(16, "clips a step")
    learning_rate: float = _setting(1e-3, "of Adam; the highest of the schedule")
    warmup: float = _setting(
        0.0, "share of the steps in which the rate rises from 0: Adam's first estimates are noisy"
    )
    cosine: bool = _setting(False, "let the rate fall to 0, so that the last epoch is settled")
    weight_decay: float = _setting(0.0, "of matrices and kernels, apart from the gradient (AdamW)")
    label_smoothing: float = _setting(
        0.0, "share of a target spread over all emotions: acted ones are not certain"
    )
    ema: float = _setting(
        0.0, "decay a step of the mean of the weights that is tested, which wavers less; 0: none"
    )
    mfcc_normalise: bool = _setting(
        False,
        "by mean and deviation of each coefficient over the training clips: their sizes differ "
        "by two orders of magnitude",
    )
    mfcc_style: float = _setting(
        0.0,
        "alpha of the Beta distribution by which half of the clips keep their own mean and "
        "deviation of each coefficient, or take another's (MixStyle): they tell of voices",
    )
    vocal_tract: float = _setting(
        0.0,
        "greatest change of frequencies, in logarithms: the actors are few, their throats differ",
    )
    mfcc_shift: int = _setting(
        0, "most steps (11.6 ms) that the sound is moved: speech does not start on time"
    )
    mfcc_mask_steps: int = _setting(
        0, "widest span of steps that is hidden, so that no moment is relied on (SpecAugment)"
    )
    mfcc_mask_coefficients: int = _setting(0, "widest span of coefficients that is hidden")
    mixup: float = _setting(
        0.0, "alpha of the Beta distribution by which two clips are mixed: between clips, be unsure"
    )
    modality_dropout: float = _setting(
        0.0,
        "share of clips of which a fusion network sees one modality alone, so that it learns both",
    )


RECIPES = {
    "paper": Recipe(),
    "modern": Recipe(
        epochs=150,
        learning_rate=1e-3,
        warmup=0.1,
        cosine=True,
        weight_decay=0.3,
        label_smoothing=0.1,
        ema=0.99,
        mfcc_normalise=True,
        mfcc_style=0.2,
        vocal_tract=0.2,
        mfcc_shift=20,
        mfcc_mask_steps=30,
        mfcc_mask_coefficients=3,
        mixup=0.0,
        modality_dropout=0.2,
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--recipe`, and an argument for each setting that changes it."""
    parser.add_argument(
        "--recipe", choices=RECIPES, default="paper", help="how to train (default: paper)"
    )
    group = parser.add_argument_group("settings of the recipe (default: as the recipe has them)")
    for each in fields(Recipe):
        flag = "--lr" if each.name == "learning_rate" else f"--{each.name.replace('_', '-')}"
        values = ", ".join(
            f"{name} {getattr(recipe, each.name)}" for name, recipe in RECIPES.items()
        )
        options: dict[str, Any] = {"dest": each.name, "help": f"{each.metadata['help']} ({values})"}
        if each.type is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        else:
            metavar = "N" if each.type is int else "X"
            group.add_argument(flag, type=each.type, metavar=metavar, **options)


def from_arguments(args: argparse.Namespace) -> Recipe:
    """The recipe that was asked for.

    Raises:
        ValueError: for a setting that is out of its range.
    """
    given = {each.name: getattr(args, each.name) for each in fields(Recipe)}
    recipe = replace(
        RECIPES[args.recipe], **{name: value for name, value in given.items() if value is not None}
    )
    for name, fits, expected in (
        ("epochs", recipe.epochs >= 1, "1 or more"),
        ("batch_size", recipe.batch_size >= 2, "2 or more: batch norm learns nothing from one"),
        ("learning_rate", 0 < recipe.learning_rate < math.inf, "a number above 0"),
        ("warmup", 0 <= recipe.warmup < 1, "0 or more, below 1"),
        ("weight_decay", 0 <= recipe.weight_decay < math.inf, "0 or more"),
        ("label_smoothing", 0 <= recipe.label_smoothing < 1, "0 or more, below 1"),
        ("ema", 0 <= recipe.ema < 1, "0 or more, below 1"),
        ("mfcc_style", 0 <= recipe.mfcc_style <= 100, "0 to 100"),
        ("vocal_tract", 0 <= recipe.vocal_tract <= 0.5, "0 to 0.5"),
        ("mfcc_shift", 0 <= recipe.mfcc_shift <= 100, "0 to 100"),
        ("mfcc_mask_steps", 0 <= recipe.mfcc_mask_steps <= 200, "0 to 200"),
        ("mfcc_mask_coefficients", 0 <= recipe.mfcc_mask_coefficients <= 12, "0 to 12"),
        ("mixup", 0 <= recipe.mixup < math.inf, "0 or more"),
        ("modality_dropout", 0 <= recipe.modality_dropout <= 1, "0 to 1"),
    ):
        if not fits:
            raise ValueError(f"{name} is {getattr(recipe, name)}, expected {expected}")
    return recipe


def learning_rate(recipe: Recipe, progress: float) -> float:
    """The rate at `progress` (0..1) of all steps."""
    if progress < recipe.warmup:
        return recipe.learning_rate * progress / recipe.warmup
    if not recipe.cosine:
        return recipe.learning_rate
    fallen = (progress - recipe.warmup) / (1 - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * fallen))
