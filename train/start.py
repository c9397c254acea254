"""The weights that encoders start from, and whether a fold may use them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cache.command import warn
from cache.files import sha256_file
from cache.ravdess import actors_of, is_sample
from cache.reader import Cache
from model.weights import WeightsError, public_state
from train import record
from train.recipe import Recipe


@dataclass(frozen=True)
class Start:
    """Weights of one encoder by public name, and what config.json records of their file."""

    state: dict[str, Tensor]
    record: dict[str, Any]
    normalized: bool = False  # of a run: whether it normalized MFCCs


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
    except (WeightsError, record.RunError) as exc:
        raise WeightsError(f"{exc}{how_to_train_again(path)}") from exc
    entry: dict[str, Any] = {"file": path.name, "sha256": sha256_file(path), "run": None}
    normalized = False
    if isinstance(data, record.Checkpoint):
        config = data.config
        if data.epoch != config.epochs:
            raise WeightsError(
                f"{path}: {data.epoch} of {config.epochs} epochs are done. Finish that run "
                "first: only the last epoch of its schedule counts"
            )
        entry["run"] = config.as_start()
        _check_actors(path, entry["run"], held_out)
        normalized = bool(data.statistics)
        data = {str(n).removeprefix(f"{part}."): t for n, t in data.weights.items()}
    try:
        return Start(public_state(data), entry, normalized)
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


def check_inputs(start: Start, path: Path, part: str, cache: Cache, recipe: Recipe) -> None:
    """Check that an encoder will see what the run that trained it saw.

    Warns of features with other settings. WeightsError if only one of the two datasets is
    synthetic, or only one of the two runs normalizes MFCCs. Nothing is known of public files.
    """
    run = start.record["run"]
    if run is None:
        return
    theirs, ours = run["cache"], cache.manifest
    if is_sample(theirs["dataset"]) != is_sample(ours["dataset"]):
        raise WeightsError(
            f"{path}: its weights were trained on {theirs['dataset']}, but {cache.directory} has "
            f"{ours['dataset']}. Take weights of a run on the same dataset"
        )
    if theirs["fingerprint"] != ours["fingerprint"]:
        warn(
            f"{path}: its weights were trained on features with other settings "
            f"({theirs['dataset']}, fingerprint {theirs['fingerprint'][:12]}) than those of "
            f"{cache.directory} ({ours['dataset']}, {ours['fingerprint'][:12]})"
        )
    if part == "audio" and start.normalized != recipe.mfcc_normalize:
        seen = "normalized" if start.normalized else "raw"
        cure = "--mfcc-normalize" if start.normalized else "--no-mfcc-normalize"
        raise WeightsError(
            f"{path}: its weights were trained on {seen} MFCCs, unlike this run. Pass {cure}, or "
            "train that run again with the same --recipe"
        )


def how_to_train_again(path: Path) -> str:
    """The end of an error about a run's `last.pt`; empty for any other file."""
    if path.name != record.CHECKPOINT or not (path.parent / record.CONFIG).is_file():
        return ""
    return f". Remove {path.parent} to train that run again"
