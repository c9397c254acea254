"""The figures of one model, from its runs: the mean over folds, and breakdowns of all test clips.

Shares are fractions 0..1, NaN where there is nothing to take a share of.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from cache.ravdess import EMOTIONS, HEADLINE_FOLDS, Clip, expected_clips, is_recordings, sex
from evaluate.measures import NO_INTERVAL, emotion_scores, interval_over_actors
from evaluate.runs import headline, printable
from train.record import Run

ALL, ALL_BUT_NEUTRAL = "all", "all but neutral"
INTENSITIES = {1: "normal", 2: "strong"}

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Pooled:
    """The N test clips of a model's headline folds, sorted, each predicted after the last epoch.

    Attributes:
        clips: the clips.
        folds: the fold that tests each clip, int64 (N,).
        labels: the true classes 0..7, int64 (N,).
        predicted: the predicted classes 0..7, int64 (N,).
        probabilities: the probabilities of the classes, float64 (N, 8).
        weights: the share of each clip in the headline, float64 (N,), summing to 1. The headline is
            a mean over folds, so a clip of a small fold counts slightly more.
    """

    clips: tuple[Clip, ...]
    folds: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, runs: list[Run]) -> "Pooled":
        """Pool the headline folds of a model, at least one."""
        used = headline(runs)
        tested = [run.predictions for run in used]
        clips = [clip for each in tested for clip in each.clips]
        sizes = [len(each.clips) for each in tested]
        order = sorted(range(len(clips)), key=clips.__getitem__)
        return cls(
            clips=tuple(clips[index] for index in order),
            folds=np.repeat([run.fold for run in used], sizes)[order],
            labels=np.concatenate([each.labels for each in tested])[order],
            predicted=np.concatenate([each.predicted for each in tested])[order],
            probabilities=np.concatenate([each.probabilities for each in tested])[order],
            weights=np.repeat([1 / (len(used) * size) for size in sizes], sizes)[order],
        )

    @property
    def correct(self) -> np.ndarray:
        """Which clips are predicted correctly, bool (N,)."""
        return self.labels == self.predicted

    @property
    def actors(self) -> np.ndarray:
        """The actor of each clip, 1..24, int64 (N,)."""
        return np.array([clip.actor for clip in self.clips])


@dataclass(frozen=True)
class AccuracyLast:
    """The result: accuracy after the last epoch of a fixed schedule, as a mean over folds.

    Attributes:
        mean: the mean over the headline folds.
        per_fold: the accuracy of each.
        interval: the 95 % interval of the mean over actors, or None.
        interval_note: the reason if there is no interval.
        standard_deviation_over_folds: the sample standard deviation, None for one fold.
        binomial_standard_error: sqrt(p (1 - p) / n) of the pooled clips. Clips of one actor
            resemble each other, so the true error is larger.
    """

    mean: float
    per_fold: list[float]
    interval: tuple[float, float] | None
    interval_note: str | None
    standard_deviation_over_folds: float | None
    binomial_standard_error: float


@dataclass(frozen=True)
class BestOnTest:
    """Accuracy of the epoch that is best on the test actors; not a result, because it chose there.

    Attributes:
        mean: the mean over the headline folds.
        per_fold: the accuracy of each.
        epoch: the number of the first epoch that reaches it, per fold.
    """

    mean: float
    per_fold: list[float]
    epoch: list[int]


@dataclass(frozen=True)
class Figures:
    """One model's entry of summary.json; everything is of the headline folds but `outside_mean`.

    Attributes:
        folds: the headline folds that were found, of all `headline_folds` of the split.
        uar, macro_f1, recall, confusion: of the pooled clips; true emotions are rows.
        per_fold, per_actor, per_sex, per_emotion, per_intensity: rows of the breakdowns.
        clips, actors: the number of test clips, and of actors in them.
        outside_mean: the other folds.
    """

    preset: str
    split: str
    folds: list[int]
    headline_folds: list[int]
    accuracy_last: AccuracyLast
    accuracy_best_on_test: BestOnTest
    uar: float
    macro_f1: float
    recall: dict[str, float]
    confusion: list[list[int]]
    per_fold: list[Row]
    per_actor: list[Row]
    per_sex: list[Row]
    per_emotion: list[Row]
    per_intensity: list[Row]
    clips: int
    actors: int
    parameters: int
    epochs: int
    seed: int
    dataset: str
    cache_fingerprint: str
    outside_mean: list[Row]


@dataclass(frozen=True, eq=False)
class ModelReport:
    """One model: its runs, its pooled test clips, and its figures.

    Attributes:
        name: the name of the model.
        runs: the usable runs, sorted by fold.
        folds: one row per run, those outside the mean too.
        pooled: the test clips of the headline folds.
        figures: the figures of the headline folds.
    """

    name: str
    runs: list[Run]
    folds: list[Row]
    pooled: Pooled
    figures: Figures

    @property
    def folds_note(self) -> str:
        """`3 of 5 folds: not the full result`, or empty if no headline fold is missing."""
        found, expected = len(self.figures.folds), len(self.figures.headline_folds)
        return "" if found == expected else f"{found} of {expected} folds: not the full result"

    @property
    def unlike_paper(self) -> list[str]:
        """How the runs differ from what the paper measured; empty if the figures compare."""
        return [
            *([] if self.is_recordings else [self.figures.dataset]),
            *([] if self.figures.preset == "paper" else [f"preset {self.figures.preset}"]),
            *([] if self.figures.split == "paper" else [f"split {self.figures.split}"]),
        ]

    @property
    def is_recordings(self) -> bool:
        """Whether the clips show people."""
        return is_recordings(self.figures.dataset)

    @property
    def starts_from_unknown(self) -> bool:
        """Whether weights of any run come from a file of unknown actors."""
        return any(run.config.starts_from_unknown for run in self.runs)

    @property
    def command(self) -> str:
        """The command line of the first run, as typed."""
        return shlex.join(map(printable, self.runs[0].config.command))

    def expected_clips(self, row: Row) -> int:
        """The number of clips that a fold should have; only the recordings have a full number."""
        if not self.is_recordings:
            return row["clips"]
        return sum(len(expected_clips(actor)) for actor in row["test_actors"])


def compute(runs: list[Run]) -> ModelReport:
    """Compute all figures of one model.

    Args:
        runs: the runs of a model from `read_runs`, at least one in the headline folds.
    """
    config = runs[0].config
    used = headline(runs)
    pooled = Pooled.of(runs)
    folds = [_by_fold(run) for run in runs]
    inside = [row for row, run in zip(folds, runs, strict=True) if run in used]
    scores = emotion_scores(pooled.labels, pooled.predicted)
    figures = Figures(
        preset=config.preset,
        split=config.split,
        folds=[run.fold for run in used],
        headline_folds=list(HEADLINE_FOLDS[config.split]),
        accuracy_last=_accuracy_last(inside, pooled),
        accuracy_best_on_test=BestOnTest(
            mean=float(np.mean([row["accuracy_best_on_test"] for row in inside])),
            per_fold=[row["accuracy_best_on_test"] for row in inside],
            epoch=[row["best_epoch"] for row in inside],
        ),
        uar=float(np.nanmean(scores[0])),
        macro_f1=float(np.nanmean(scores[2])),
        recall=dict(zip(EMOTIONS, scores[0].tolist(), strict=True)),
        confusion=confusion_matrix(
            pooled.labels, pooled.predicted, labels=range(len(EMOTIONS))
        ).tolist(),
        per_fold=inside,
        per_actor=_by_actor(pooled),
        per_sex=_by_sex(pooled),
        per_emotion=_by_emotion(pooled, scores),
        per_intensity=_by_intensity(pooled),
        clips=len(pooled.clips),
        actors=len(np.unique(pooled.actors)),
        parameters=config.parameters,
        epochs=config.epochs,
        seed=config.seed,
        dataset=config.cache["dataset"],
        cache_fingerprint=config.cache["fingerprint"],
        outside_mean=[
            {
                "fold": row["fold"],
                "accuracy_last": row["accuracy"],
                "accuracy_best_on_test": row["accuracy_best_on_test"],
                "epoch": row["best_epoch"],
            }
            for row in folds
            if row not in inside
        ],
    )
    return ModelReport(runs[0].model, runs, folds, pooled, figures)


def _accuracy_last(folds: list[Row], pooled: Pooled) -> AccuracyLast:
    shares = [row["accuracy"] for row in folds]
    interval = interval_over_actors(pooled.correct.astype(float), pooled.weights, pooled.actors)
    share = float(pooled.correct.mean())
    return AccuracyLast(
        mean=float(np.mean(shares)),
        per_fold=shares,
        interval=interval,
        interval_note=None if interval else NO_INTERVAL,
        standard_deviation_over_folds=float(np.std(shares, ddof=1)) if len(shares) > 1 else None,
        binomial_standard_error=math.sqrt(share * (1 - share) / len(pooled.clips)),
    )


def _by_fold(run: Run) -> Row:
    """One fold: its clips, its figures after the last epoch, and its best epoch."""
    tested = run.predictions
    recall, _, f1 = emotion_scores(tested.labels, tested.predicted)
    accuracies = [epoch.test_accuracy for epoch in run.metrics]
    best = max(accuracies)
    return {
        "fold": run.fold,
        "test_actors": list(run.config.test_actors),
        **_counts(tested.labels == tested.predicted),
        "uar": float(np.nanmean(recall)),
        "macro_f1": float(np.nanmean(f1)),
        "accuracy_best_on_test": best,
        "best_epoch": accuracies.index(best) + 1,
    }


def _by_actor(pooled: Pooled) -> list[Row]:
    """Each actor, with the fold that tests them, sorted by number."""
    rows = []
    for actor in np.unique(pooled.actors).tolist():
        own = pooled.actors == actor
        fold = int(pooled.folds[own][0])
        rows.append(
            {"actor": actor, "sex": sex(actor), "fold": fold, **_counts(pooled.correct[own])}
        )
    return rows


def _by_sex(pooled: Pooled) -> list[Row]:
    """Men and women among the actors."""
    sexes = np.array([sex(actor) for actor in pooled.actors])
    return [
        {
            "sex": group,
            "actors": len(np.unique(pooled.actors[sexes == group])),
            **_counts(pooled.correct[sexes == group]),
        }
        for group in ("male", "female")
    ]


def _by_emotion(pooled: Pooled, scores: Sequence[np.ndarray]) -> list[Row]:
    """Each emotion: its clips, how often it is predicted, and its `scores` of these clips."""
    recall, precision, f1 = scores
    return [
        {
            "emotion": emotion,
            "clips": int(np.sum(pooled.labels == label)),
            "predicted": int(np.sum(pooled.predicted == label)),
            "right": int(np.sum(pooled.correct[pooled.labels == label])),
            "recall": float(recall[label]),
            "precision": float(precision[label]),
            "f1": float(f1[label]),
        }
        for label, emotion in enumerate(EMOTIONS)
    ]


def _by_intensity(pooled: Pooled) -> list[Row]:
    """Each emotion in each intensity, then all of them, without and with neutral.

    Neutral has no strong intensity, so only the rows without it compare the two.
    """
    intensity = np.array([clip.intensity for clip in pooled.clips])
    groups = {
        **{emotion: pooled.labels == label for label, emotion in enumerate(EMOTIONS)},
        ALL_BUT_NEUTRAL: pooled.labels != EMOTIONS.index("neutral"),
        ALL: np.ones(len(pooled.labels), dtype=bool),
    }
    return [
        {"emotion": group, "intensity": name, **_counts(pooled.correct[own & (intensity == code)])}
        for group, own in groups.items()
        for code, name in INTENSITIES.items()
        if (group, name) != ("neutral", "strong")
    ]


def _counts(correct: np.ndarray) -> Row:
    """The number of clips, how many of them are predicted correctly, and their share."""
    share = float(correct.mean()) if len(correct) else math.nan
    return {"clips": len(correct), "right": int(correct.sum()), "accuracy": share}
