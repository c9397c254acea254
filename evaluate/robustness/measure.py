"""Measure finished runs on changed clips: what depends on which part of them."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import model
from cache.files import sha256_file, write_json
from cache.ravdess import Clip
from cache.reader import Cache
from evaluate.origin import check_origin, is_of
from evaluate.robustness.conditions import CONDITIONS, Condition
from evaluate.robustness.table import FILE_NAME, SCHEMA_VERSION, RobustnessError, read_measured
from evaluate.runs.run import Run
from model.checkpoint import Trained, load_trained
from model.device import describe

_BATCH = 8  # clips
_FEW_PARAMETERS = 1_000_000
# In bfloat16, or on another kind of device, rounding decides between emotions that are as probable.
_OTHERWISE = 0.02


def measure(
    trained: Trained,
    cache: Cache,
    clips: Sequence[Clip],
    device: torch.device,
    advance: Callable[[int], Any] = lambda clips: None,
) -> dict[str, np.ndarray | str]:
    """What a network takes clips for, under each condition.

    Args:
        trained: on `device`.
        cache: where the clips lie.
        clips: at least one.
        device: to compute on.
        advance: called with the number of clips of each batch when it is done.

    Returns:
        By name of the condition, predicted classes int64 (N,), or why there are none.

    Raises:
        CacheError: if what the network looks at cannot be read.
    """
    names = model.inputs(trained.config["model"])
    held = cache.fields(clips[0].clip_id)
    reasons = {each.name: _why_not(each, names, held) for each in CONDITIONS}
    todo = [each for each in CONDITIONS if not reasons[each.name]]
    wanted = {*names, *(each.needs for each in todo if each.needs)}
    found: dict[str, list[np.ndarray]] = {each.name: [] for each in todo}
    for start in range(0, len(clips), _BATCH):
        batch = clips[start : start + _BATCH]
        read = [{name: cache.read(clip.clip_id, name) for name in wanted} for clip in batch]
        for condition in todo:
            changed = [
                fields | condition.change(clip, fields)
                for clip, fields in zip(batch, read, strict=True)
            ]
            fields = {
                name: torch.from_numpy(np.stack([each[name] for each in changed])).to(device)
                for name in names
            }
            predicted = trained.probabilities(fields).argmax(dim=1)
            found[condition.name].append(predicted.cpu().numpy())
        advance(len(batch))
    return {
        each.name: reasons[each.name] or np.concatenate(found[each.name]) for each in CONDITIONS
    }


def measure_run(
    folder: Path, run: Run, cache: Cache, device: torch.device, advance: Callable[[int], Any]
) -> bool:
    """Write robustness.json of a run, unless it is there; whether it had to be measured.

    Raises:
        RobustnessError: if the cache, the checkpoint and the predictions do not belong together.
        CheckpointError, CacheError, OSError: if one of them cannot be read, or nothing written.
    """
    checkpoint = folder / "last.pt"
    if not checkpoint.is_file():
        raise RobustnessError("has no last.pt beside its predictions. Copy it there")
    sha256 = sha256_file(checkpoint)
    if cache.manifest["fingerprint"] != run.config["cache"]["fingerprint"]:
        raise RobustnessError(
            f"the cache has fingerprint {cache.manifest['fingerprint'][:12]}, the run was trained "
            f"on {run.config['cache']['fingerprint'][:12]}. Name the cache of the run"
        )
    clips = cache.of_actors(tuple(run.config["test_actors"]))
    if sorted(run.clip_ids) != [clip.clip_id for clip in clips]:
        raise RobustnessError(
            f"the cache has {len(clips)} clips of its test actors, the run tested "
            f"{len(run.clip_ids)}, and they are not the same. Name the cache of the run"
        )
    if _is_measured(folder, sha256):
        advance(len(run.clip_ids))
        return False
    trained = load_trained(checkpoint, device)
    if device.type == "cpu" and model.count_parameters(trained.net) < _FEW_PARAMETERS:
        torch.set_num_threads(1)
    check_origin(checkpoint, trained)
    if not is_of(trained, run):
        raise RobustnessError("last.pt has other settings than config.json: not of that run")
    found = measure(trained, cache, clips, device, advance)
    labels = np.array([clip.label for clip in clips])
    _check_as_cached(found["as_cached"], run, trained, device)
    content = {
        "schema_version": SCHEMA_VERSION,
        "checkpoint_sha256": sha256,
        "predictions_sha256": sha256_file(folder / "predictions.csv"),
        "device": describe(device),
        "conditions": [
            _entry(condition, found[condition.name], labels) for condition in CONDITIONS
        ],
    }
    write_json(folder / FILE_NAME, content)
    return True


def _entry(condition: Condition, found: np.ndarray | str, labels: np.ndarray) -> dict[str, Any]:
    """One condition as robustness.json has it."""
    is_reason = isinstance(found, str)
    return {
        "name": condition.name,
        "modality": condition.modality,
        "accuracy": None if is_reason else float(np.mean(found == labels)),
        "clips": len(labels),
        "reason": found if is_reason else None,
    }


def _is_measured(folder: Path, checkpoint_sha256: str) -> bool:
    """Whether a folder's robustness.json can be read and belongs to a checkpoint."""
    try:
        return read_measured(folder)["checkpoint_sha256"] == checkpoint_sha256
    except RobustnessError:
        return False


def _check_as_cached(
    predicted: np.ndarray, run: Run, trained: Trained, device: torch.device
) -> None:
    """Raise RobustnessError unless unchanged clips are predicted as the run predicted them."""
    recorded = dict(zip(run.clip_ids, run.predicted.tolist(), strict=True))
    of_run = np.array([recorded[clip_id] for clip_id in sorted(recorded)])
    same_arithmetic = trained.precision == torch.float32 and run.config["device"].startswith(
        device.type
    )
    allowed = 0 if same_arithmetic else math.ceil(_OTHERWISE * len(of_run))
    otherwise = int((predicted != of_run).sum())
    if otherwise > allowed:
        raise RobustnessError(
            f"{otherwise} of {len(of_run)} clips are predicted otherwise than in predictions.csv, "
            f"expected {allowed} at most: these are not the clips or the weights of that run"
        )


def _why_not(condition: Condition, names: tuple[str, ...], held: tuple[str, ...]) -> str | None:
    """Why a network is not measured under a condition; None if it is.

    Args:
        names: fields that the network looks at.
        held: fields that the cache holds.
    """
    looks_at = {"video" if name == "frames" else "audio" for name in names}
    if condition.modality not in {None, *looks_at}:
        return f"the network looks at no {condition.modality}"
    if condition.needs and condition.needs not in held:
        return f"the cache holds no {condition.needs}"
    return None
