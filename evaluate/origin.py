"""Where a checkpoint comes from, and what its run reached, checked before it is passed on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache.ravdess import EMOTIONS, Clip, is_recordings
from evaluate.measures.metrics import accuracy
from evaluate.measures.statistics import interval_over_actors
from evaluate.runs.config import problems_of
from evaluate.runs.run import DamagedRunError, Run, UnfinishedRunError, read_run
from model.checkpoint import CheckpointError, Trained

NOT_COMMERCIAL = (
    "learned from RAVDESS, which is under CC BY-NC-SA 4.0: not for commercial use, and to be "
    "shared under the same terms"
)


@dataclass(frozen=True)
class Result:
    """What the last epoch reached on a fold's test clips.

    `accuracy` and its 95 % interval `low` to `high` are shares 0..1; there is no interval with
    fewer than two actors. `best_on_test` is that of epoch `best_epoch`, which was chosen on the
    same clips and so is no result.
    """

    clips: int
    actors: int
    accuracy: float
    interval: tuple[float, float] | None
    best_on_test: float
    best_epoch: int


def check_origin(path: Path, trained: Trained) -> None:
    """Raise CheckpointError unless a checkpoint is of the last epoch of a run that can be trusted.

    Args:
        path: of the checkpoint, to name it.
        trained: what was read from it.
    """
    config = trained.config
    if config.get("validation") is True:
        raise CheckpointError(
            f"{path}: is of a run with --validate, which learned from fewer actors and tested none "
            "of the fold's. Name the last.pt of a fold"
        )
    problems = problems_of(config, config["model"], config.get("fold"))
    if problems:
        raise CheckpointError(f"{path}: its settings contradict themselves: {problems[0]}")
    if trained.epoch != config["epochs"]:
        raise CheckpointError(
            f"{path}: is of epoch {trained.epoch}, its run has {config['epochs']}, and only the "
            "last is a result. Finish the run with train.py --resume"
        )


def is_of(trained: Trained, run: Run) -> bool:
    """Whether a checkpoint has the settings of a run, which are all that training depends on."""
    try:
        return run.config == json.loads(json.dumps(trained.config))
    except (TypeError, ValueError, RecursionError):  # a stranger's: it holds what JSON does not
        return False


def result_beside(checkpoint: Path, trained: Trained) -> tuple[Result | None, str]:
    """The result of a checkpoint's run, if its files lie beside the checkpoint.

    Returns:
        The result, or None and why there is none, in words.
    """
    try:
        run = read_run(checkpoint.resolve().parent)
    except UnfinishedRunError as exc:
        return None, f"the run beside the checkpoint is not finished: {exc}"
    except DamagedRunError as exc:
        return None, f"no run that can be read is beside the checkpoint: {exc.problems[0]}"
    if not is_of(trained, run):
        return None, "the run beside the checkpoint is another one: its config.json differs"
    actors = np.array([Clip.parse(clip_id).actor for clip_id in run.clip_ids])
    right = (run.labels == run.predicted).astype(float)
    tested = [line["test_accuracy"] for line in run.epochs]
    return Result(
        clips=len(right),
        actors=len(set(actors.tolist())),
        accuracy=accuracy(run.labels, run.predicted),
        interval=interval_over_actors(right, np.ones(len(right)), actors),
        best_on_test=max(tested),
        best_epoch=tested.index(max(tested)) + 1,
    ), ""


def licence(dataset: str) -> str:
    """The terms of weights that were learned from a data set, in words."""
    if is_recordings(dataset):
        return NOT_COMMERCIAL
    return f"learned from {dataset}, under the terms of that data set"


def properties(config: dict[str, Any], checkpoint_sha256: str) -> dict[str, str]:
    """What an exported file says of itself, by name: all that is needed to know its source."""
    return {
        "emotions": ",".join(EMOTIONS),
        "checkpoint_sha256": checkpoint_sha256,
        **{name: str(config[name]) for name in ("model", "preset", "split", "fold")},
        **{name: str(config[name]) for name in ("recipe", "epochs", "seed")},
        "test_actors": ",".join(map(str, config["test_actors"])),
        "dataset": config["cache"]["dataset"],
        "cache_fingerprint": config["cache"]["fingerprint"],
        "licence": licence(config["cache"]["dataset"]),
        "use": "for research; not for decisions about people",
    }
