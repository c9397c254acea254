"""The files of a run, apart from its checkpoints: settings, metrics and predictions."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cache.files import atomic_path
from cache.ravdess import EMOTIONS, Clip
from model.checkpoint import CheckpointError
from train.checkpoint import PREVIOUS

# A run may go on elsewhere; all else in its config must be the same.
_MAY_DIFFER = {"device", "versions"}


def is_done(run: Path) -> bool:
    """Whether the run in this folder has come to its end; predictions are its last file.

    Without its weights it is no use to the runs that start from it, and is not done.
    """
    return all((run / name).is_file() for name in ("config.json", "last.pt", "predictions.csv"))


def check_folder(run: Path, config: Mapping[str, Any], resume: bool) -> None:
    """Raise CheckpointError unless `run` is new, or holds this very run and may be gone on with."""
    if not (run / "config.json").is_file():
        if any((run / name).exists() for name in ("last.pt", PREVIOUS, "predictions.csv")):
            raise CheckpointError(f"{run}: holds a run without its config.json. Remove that folder")
        return
    try:
        begun = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except ValueError as exc:
        raise CheckpointError(f"{run}/config.json: no JSON ({exc}). Remove that folder") from exc
    check_same(run, begun, config)
    if (run / "predictions.csv").is_file() and not (run / "last.pt").is_file():
        raise CheckpointError(
            f"{run}: holds predictions.csv, but last.pt is missing. Put it back, or remove that "
            "folder to train it again"
        )
    saved = any((run / name).is_file() for name in ("last.pt", PREVIOUS))
    if not is_done(run) and saved and not resume:
        raise CheckpointError(
            f"{run}: holds an unfinished run. Go on with --resume, or remove that folder"
        )


def check_same(where: Path, begun: Any, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless a run that was begun with `begun` is the one of `config`."""
    differing = _differences(
        {key: value for key, value in config.items() if key not in _MAY_DIFFER}, begun
    )
    if differing:
        raise CheckpointError(
            f"{where}: holds a run with other settings ({'; '.join(differing)}). "
            "Choose another --runs, or remove that folder"
        )


def _differences(now: Any, begun: Any, name: str = "") -> list[str]:
    """Each setting that was another one, by its path; names of files may differ."""
    if isinstance(now, dict) and isinstance(begun, dict):
        return [
            line
            for key in sorted(now if not name else {*now, *begun})
            if key != "file"
            for line in _differences(now.get(key), begun.get(key), f"{name}.{key}".strip("."))
        ]
    if now == begun:
        return []
    return [f"{name or 'config'} was {begun!r:.60}, now {now!r:.60}"]


def read_lines(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, one an epoch from 1 on."""
    path = run / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if [line["epoch"] for line in lines] != list(range(1, len(lines) + 1)) or not lines:
            raise ValueError("its epochs are not 1, 2, 3, ...")
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(f"{path}: damaged ({exc}). Remove {run}") from exc
    return lines


def write_lines(run: Path, lines: list[dict[str, Any]]) -> None:
    with atomic_path(run / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_predictions(run: Path, clips: list[Clip], probabilities: Tensor) -> None:
    """clip_id, label, predicted and the eight probabilities of every test clip."""
    path = run / "predictions.csv"
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as opened,
    ):
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["clip_id", "label", "predicted", *(f"p_{name}" for name in EMOTIONS)])
        for clip, row in zip(clips, probabilities, strict=True):
            shares = [f"{share:.6f}" for share in row.tolist()]
            writer.writerow([clip.clip_id, clip.label, int(row.argmax()), *shares])
