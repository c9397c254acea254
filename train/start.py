"""The weights that encoders start from, and whether a fold may use them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cache.files import sha256_file
from cache.ravdess import actors_of
from model.weights import WeightsError, public_state
from train import record


@dataclass(frozen=True)
class Start:
    """Weights of one encoder by public name, and what config.json records of their file."""

    state: dict[str, Tensor]
    record: dict[str, Any]


def read_start(path: Path, part: str, held_out: tuple[int, ...]) -> Start:
    """Read weights for an encoder: a public file, or last.pt or published weights of a run.

    A run that was trained on one of the actors `held_out`, directly or through the runs that it
    started from, is refused. The actors of a public file are unknown, and the record says so.

    Raises:
        WeightsError: if the file cannot be used.
        FileNotFoundError: if the file does not exist.
    """
    try:
        data = record.read_saved(path)
        entry: dict[str, Any] = {"file": path.name, "sha256": sha256_file(path), "run": None}
        if isinstance(data, record.Checkpoint):
            config = data.config
            if data.epoch != config.epochs:
                raise WeightsError(
                    f"{path}: {data.epoch} of {config.epochs} epochs are done. Finish that run "
                    "first: only the last epoch of its schedule counts"
                )
            entry["run"] = {name: getattr(config, name) for name in record.START_SETTINGS}
            _check_actors(path, entry["run"], held_out)
            data = {str(n).removeprefix(f"{part}."): t for n, t in data.weights.items()}
    except (WeightsError, record.RunError) as exc:
        raise WeightsError(f"{exc}{how_to_train_again(path)}") from exc
    try:
        return Start(public_state(data), entry)
    except WeightsError as exc:
        raise WeightsError(f"{path}: {exc}") from exc


def _check_actors(path: Path, run: Mapping[str, Any], held_out: tuple[int, ...]) -> None:
    """Raise WeightsError if a run, or one that it started from, was trained on held-out actors."""
    try:
        trained, _ = actors_of(run["split"], run["fold"], validate=run["validation"])
    except ValueError as exc:
        raise WeightsError(f"{path}: {exc}") from exc
    leaked = sorted(set(trained) & set(held_out))
    if leaked:
        kind = "validation run of fold" if run["validation"] else "fold"
        raise WeightsError(
            f"{path}: its weights were trained on actors {leaked} ({run['model']}, {kind} "
            f"{run['fold']}), which this run holds out. Take weights of the same fold and split"
        )
    for start in run["init"].values():
        if start["run"] is not None:
            _check_actors(path, start["run"], held_out)


def how_to_train_again(path: Path) -> str:
    """The end of an error about a run's `last.pt`; empty for any other file."""
    if path.name != record.CHECKPOINT or not (path.parent / record.CONFIG).is_file():
        return ""
    return f". Remove {path.parent} to train that run again"
