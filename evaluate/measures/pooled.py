"""All test clips of a model's headline folds as one table, clips sorted by their id."""

from dataclasses import dataclass

import numpy as np

from cache.ravdess import HEADLINE_FOLDS, Clip
from evaluate.runs.run import Run


@dataclass(frozen=True, eq=False)
class Pooled:
    """N clips, each tested once, after the last epoch.

    `folds` int64 (N,); `labels` and `predicted` int64 (N,), classes 0..7; `probabilities` float64
    (N, 8); `weights` float64 (N,), the share of each clip in the headline, summing to 1: the
    headline is a mean of folds, so a clip of a small fold counts a little more.
    """

    clips: tuple[Clip, ...]
    folds: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """bool (N,): which clips are predicted right."""
        return self.labels == self.predicted

    @property
    def actors(self) -> np.ndarray:
        """int64 (N,): who is in each clip, 1..24."""
        return np.array([clip.actor for clip in self.clips])

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """The N names, sorted."""
        return tuple(clip.clip_id for clip in self.clips)


def headline(runs: list[Run]) -> list[Run]:
    """The runs that the result is the mean of: those of the split's headline folds."""
    return [run for run in runs if run.fold in HEADLINE_FOLDS[run.config["split"]]]


def pool(runs: list[Run]) -> Pooled:
    """One table of a model's headline folds.

    Args:
        runs: finished runs that may be averaged, one in the headline folds or more.
    """
    used = headline(runs)
    clip_ids = np.array([clip_id for run in used for clip_id in run.clip_ids])
    order = np.argsort(clip_ids)
    sizes = [len(run.clip_ids) for run in used]
    return Pooled(
        clips=tuple(Clip.parse(str(clip_id)) for clip_id in clip_ids[order]),
        folds=np.repeat([run.fold for run in used], sizes)[order],
        labels=np.concatenate([run.labels for run in used])[order],
        predicted=np.concatenate([run.predicted for run in used])[order],
        probabilities=np.concatenate([run.probabilities for run in used])[order],
        weights=np.repeat([1 / (len(used) * size) for size in sizes], sizes)[order],
    )
