"""The figures of one model, from its runs: means over folds, and breakdowns of all test clips.

Shares are fractions 0..1, NaN where the denominator is 0.
"""

import math
import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from cache import ravdess
from cache.ravdess import EMOTIONS, Clip, is_recordings, sex
from evaluate.measures import NO_INTERVAL, emotion_scores, interval_over_actors
from evaluate.runs import full_clips, headline, printable, shortfalls
from model.cross_modal import ATTENTIONS
from model.registry import NAMES, inputs
from train.record import Run

INTENSITIES = {1: "normal", 2: "strong"}
# Of a fold outside the mean: the name in summary.json, and the column of its row.
_OUTSIDE = (
    *(("fold", "fold"), ("seed", "seed"), ("accuracy_last", "accuracy")),
    *(("epoch", "best_epoch"), ("accuracy_best_on_test", "accuracy_best_on_test")),
)

Row = dict[str, Any]  # of a table: the values by the name of their column


@dataclass(frozen=True, eq=False)
class Pooled:
    """The N test clips of a model's headline folds, sorted, each predicted after the last epoch.

    With several seeds, each clip is there once per seed, in the order of the seeds.
    """

    clips: tuple[Clip, ...]
    seeds: np.ndarray  # the random seed of the run that predicts each clip, int64 (N,)
    folds: np.ndarray  # the fold that tests each clip, int64 (N,)
    predicted: np.ndarray  # classes 0..7, int64 (N,)
    probabilities: np.ndarray  # of the classes, float64 (N, 8)
    # The share of each clip in the headline, float64 (N,), summing to 1. The headline is a mean
    # over folds, so a clip of a small fold counts slightly more.
    weights: np.ndarray

    @classmethod
    def of(cls, runs: list[Run]) -> "Pooled":
        """Pool the headline folds of a model, at least one."""
        used = headline(runs)
        rows = []
        for run in used:
            tested, weight = run.predictions, 1 / (len(used) * run.config.test_clips)
            found = tested.clips, tested.predicted, tested.probabilities
            for clip, *row in zip(*found, strict=True):
                rows.append((clip, run.config.seed, run.fold, *row, weight))
        clips, *columns = zip(*sorted(rows, key=lambda row: row[0]), strict=True)
        return cls(clips, *map(np.array, columns))

    @property
    def labels(self) -> np.ndarray:
        """The true classes 0..7, int64 (N,)."""
        return np.array([clip.label for clip in self.clips])

    @property
    def correct(self) -> np.ndarray:
        """Which clips are predicted correctly, bool (N,)."""
        return self.labels == self.predicted

    @property
    def actors(self) -> np.ndarray:
        """The actor of each clip, 1..24, int64 (N,)."""
        return np.array([clip.actor for clip in self.clips])


@dataclass(frozen=True, eq=False)
class ModelReport:
    """One model: its runs, its pooled test clips, and its figures."""

    name: str
    runs: list[Run]  # the usable ones, sorted by seed and fold
    folds: list[Row]  # one row per run, also for those outside the mean
    pooled: Pooled  # the test clips of the headline folds
    # The model's entry of summary.json. Everything is of the headline folds, except
    # `outside_mean`, the other folds, and `accuracy_all_folds`.
    figures: dict[str, Any]

    @property
    def missing(self) -> list[str]:
        """`3 of 5 folds`, `trained on 240 of 1200 clips`: why it is not the full result."""
        return self.figures["missing"]

    @property
    def shortfall(self) -> str:
        """What is missing, as a remark; empty if nothing is."""
        return f"{', '.join(self.missing)}: not the full result" if self.missing else ""

    @property
    def unlike_paper(self) -> list[str]:
        """How the runs differ from what the paper measured; empty if the figures compare."""
        config = self.runs[0].config  # the others have the same settings
        unlike = [] if self.is_recordings else [self.figures["dataset"]]
        for name in ("preset", "split", "recipe"):
            if getattr(config, name) != "paper":
                unlike.append(f"{name} {getattr(config, name)}")
        if config.recipe == "paper":
            unlike += [
                f"{name.replace('_', ' ')} {own} instead of {paper}"
                for name, (own, paper) in config.changed.items()
                if name != "epochs" or own > paper  # fewer epochs are `missing`
            ]
        if config.attention != ATTENTIONS[0]:
            unlike.append(f"attention {config.attention}")
        if self.name in NAMES and len(inputs(self.name)) == 2 and len(config.init) < 2:
            unlike.append("encoders from random weights")
        if self.starts_from_unknown:
            unlike.append("starts from weights of unknown actors")
        starts = [start["run"] for start in config.init.values() if start["run"]]
        if not unlike and any(_is_unlike_paper(run, config.epochs) for run in starts):
            unlike.append("starts from runs with other settings")
        return unlike

    @property
    def is_recordings(self) -> bool:
        """Whether the clips show people."""
        return is_recordings(self.figures["dataset"])

    @property
    def starts_from_unknown(self) -> bool:
        """Whether weights of any run come from a file of unknown actors."""
        return any(run.config.starts_from_unknown for run in self.runs)

    @property
    def command(self) -> str:
        """The command line of the first run, as typed."""
        return shlex.join(map(printable, self.runs[0].config.command))


def _is_unlike_paper(run: dict[str, Any], epochs: int) -> bool:
    """Whether a run that weights come from is not one of the paper's, of `epochs` or more."""
    named = {run[name] for name in ("preset", "split", "recipe")}
    changed = set(run.get("changed", {})) - {"epochs"}
    return bool(named != {"paper"} or changed or run["validation"] or run["epochs"] < epochs)


def compute(runs: list[Run]) -> ModelReport:
    """Compute all figures of one model from its runs, at least one in the headline folds."""
    config, used, pooled = runs[0].config, headline(runs), Pooled.of(runs)
    folds = [_by_fold(run) for run in runs]
    inside = [row for row, run in zip(folds, runs, strict=True) if run in used]
    outside = [row for row in folds if row not in inside]
    best = _per("fold", inside, "accuracy_best_on_test")
    tested, scored = ravdess.folds_of(config.split), ravdess.headline_folds(config.split)
    seeds = sorted({run.config.seed for run in used})
    every = outside and len(folds) == len(tested) * len(seeds)
    epochs = [[row["best_epoch"] for row in inside if row["seed"] == seed] for seed in seeds]
    emotions = _by_emotion(pooled)
    confusion = confusion_matrix(pooled.labels, pooled.predicted, labels=range(len(EMOTIONS)))
    folds_used = sorted({run.fold for run in used})
    missing = [] if folds_used == [*scored] else [f"{len(folds_used)} of {len(scored)} folds"]
    figures = {
        "missing": missing + shortfalls([run.config for run in used]),
        "preset": config.preset,
        "split": config.split,
        "folds": folds_used,
        "seeds": seeds,
        "headline_folds": list(scored),
        "never_tested": sorted(set(ravdess.ACTORS).difference(*(tested[fold] for fold in scored))),
        "accuracy_last": _accuracy_last(inside, pooled),
        # Beside the result: the mean over all folds, where the split has more than the headline.
        "accuracy_all_folds": float(np.mean(_per("fold", folds, "accuracy"))) if every else None,
        "accuracy_best_on_test": {
            "mean": float(np.mean(best)),
            "per_fold": best,
            "epoch": epochs[0] if len(seeds) == 1 else epochs,  # by seed, then by fold
        },
        "uar": float(np.nanmean([row["recall"] for row in emotions])),
        "macro_f1": float(np.nanmean([row["f1"] for row in emotions])),
        "recall": {row["emotion"]: row["recall"] for row in emotions},
        "confusion": confusion.tolist(),  # true emotions are rows
        "per_fold": inside,
        "per_actor": _by_actor(pooled),
        "per_sex": _by_sex(pooled),
        "per_emotion": emotions,
        "per_intensity": _by_intensity(pooled),
        "clips": len(set(pooled.clips)),
        "actors": len(np.unique(pooled.actors)),
        "parameters": config.parameters,
        "epochs": config.epochs,
        "seed": config.seed if len(seeds) == 1 else None,
        "dataset": config.cache["dataset"],
        "cache_fingerprint": config.cache["fingerprint"],
        "outside_mean": [{name: row[column] for name, column in _OUTSIDE} for row in outside],
    }
    return ModelReport(runs[0].model, runs, folds, pooled, figures)


def _accuracy_last(folds: list[Row], pooled: Pooled) -> dict[str, Any]:
    """The result: accuracy after the last epoch of a fixed schedule, as a mean over folds.

    With several seeds, it is the mean over seeds of that, and the interval is over actors, each
    with their accuracy averaged over seeds.
    """
    per_fold, per_seed = (_per(name, folds, "accuracy") for name in ("fold", "seed"))
    interval = interval_over_actors(pooled.correct.astype(float), pooled.weights, pooled.actors)
    share = pooled.correct.mean()
    return {
        "mean": float(np.mean(per_fold)),
        "per_fold": per_fold,
        "per_seed": per_seed,
        "interval": interval,
        "interval_note": None if interval else NO_INTERVAL,
        "standard_deviation_over_folds": _spread(per_fold),
        "standard_deviation_over_seeds": _spread(per_seed),
        # As if clips were independent; those of one actor are not, so the true error is larger.
        "binomial_standard_error": math.sqrt(share * (1 - share) / len(set(pooled.clips))),
    }


def _per(name: str, rows: list[Row], column: str) -> list[float]:
    """The mean of a column for each fold, or for each seed; every seed has the same folds."""
    values = sorted({row[name] for row in rows})
    return [float(np.mean([row[column] for row in rows if row[name] == each])) for each in values]


def _spread(values: list[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _by_fold(run: Run) -> Row:
    """The figures of one fold after the last epoch, and its best epoch."""
    tested = run.predictions
    recall, _, f1 = emotion_scores(tested.labels, tested.predicted)
    accuracies = [epoch.test_accuracy for epoch in run.metrics]
    best = max(accuracies)
    return {
        "fold": run.fold,
        "seed": run.config.seed,
        "test_actors": list(run.config.test_actors),
        **_counts(tested.labels == tested.predicted),
        "full_clips": full_clips(run.config, "test"),
        "uar": float(np.nanmean(recall)),
        "macro_f1": float(np.nanmean(f1)),
        "accuracy_best_on_test": best,
        "best_epoch": accuracies.index(best) + 1,
    }


def _by_actor(pooled: Pooled) -> list[Row]:
    rows = []
    for actor in np.unique(pooled.actors).tolist():
        own = pooled.actors == actor
        about = {"actor": actor, "sex": sex(actor), "fold": int(pooled.folds[own][0])}
        rows.append(about | _counts(pooled.correct[own]))
    return rows


def _by_sex(pooled: Pooled) -> list[Row]:
    sexes = np.array([sex(actor) for actor in pooled.actors])
    rows = []
    for group in ("male", "female"):
        own = sexes == group
        about = {"sex": group, "actors": len(np.unique(pooled.actors[own]))}
        rows.append(about | _counts(pooled.correct[own]))
    return rows


def _by_emotion(pooled: Pooled) -> list[Row]:
    rows = []
    scores = zip(*emotion_scores(pooled.labels, pooled.predicted), strict=True)
    for label, (recall, precision, f1) in enumerate(scores):
        own = pooled.labels == label
        rows.append(
            {
                "emotion": EMOTIONS[label],
                "clips": int(own.sum()),
                "predicted": int(np.sum(pooled.predicted == label)),
                "right": int(pooled.correct[own].sum()),
                **{"recall": float(recall), "precision": float(precision), "f1": float(f1)},
            }
        )
    return rows


def _by_intensity(pooled: Pooled) -> list[Row]:
    """Each emotion in each intensity, then all of them, without and with neutral.

    Neutral has no strong intensity, so only the rows without it compare the two.
    """
    intensity = np.array([clip.intensity for clip in pooled.clips])
    groups = {
        **{emotion: pooled.labels == label for label, emotion in enumerate(EMOTIONS)},
        "all but neutral": pooled.labels != EMOTIONS.index("neutral"),
        "all": np.ones(len(pooled.labels), dtype=bool),
    }
    return [
        {"emotion": group, "intensity": name, **_counts(pooled.correct[own & (intensity == code)])}
        for group, own in groups.items()
        for code, name in INTENSITIES.items()
        if (group, name) != ("neutral", "strong")
    ]


def _counts(correct: np.ndarray) -> Row:
    share = float(correct.mean()) if len(correct) else math.nan
    return {"clips": len(correct), "right": int(correct.sum()), "accuracy": share}
