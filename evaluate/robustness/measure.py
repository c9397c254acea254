"""Test the network of a finished run on changed clips."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from cache.files import sha256_file
from cache.ravdess import Clip
from cache.reader import Cache
from evaluate.robustness.conditions import CONDITIONS, Condition
from evaluate.robustness.table import Measured, Outcome, RobustnessError, read_measured
from evaluate.runs import check_same_run, load_result, tested_clips
from model.device import describe
from model.inference import TrainedNetwork
from train.record import CHECKPOINT, PREDICTIONS, Run

_BATCH_SIZE = 8
# In bfloat16, or on another kind of device, rounding decides between equally probable emotions.
_ROUNDING_SHARE = 0.02


def measure_run(
    run: Run, cache: Cache, device: torch.device, advance: Callable[[int], Any], allow_code: Any
) -> bool:
    """Write robustness.json of a run; returns False if it is there already.

    `advance` is called with the number of clips of each batch when it is done; `allow_code` is as
    for `Checkpoint.network`. ValueError if cache, checkpoint and predictions do not belong
    together, or one is damaged.
    """
    # The cache, the checkpoint and the predictions must belong together.
    clips = tested_clips(cache, run.config)
    if clips != sorted(run.predictions.clips):
        raise RobustnessError(f"{cache.directory} has other clips of the test actors than the run")
    checkpoint = load_result(run.folder / CHECKPOINT)
    check_same_run(checkpoint, run)
    digest = sha256_file(checkpoint.path)
    with suppress(RobustnessError):
        if read_measured(run.folder).checkpoint_sha256 == digest:
            advance(len(clips))
            return False

    # Predict, and check first of all that unchanged clips are predicted as in the run.
    trained = checkpoint.network(device, allow_code)
    in_cache = cache.fields(clips[0].clip_id)
    reasons = {each: _why_not(each, trained.fields, in_cache) for each in CONDITIONS}
    possible = [each for each in CONDITIONS if not reasons[each]]
    predicted = measure(trained, cache, clips, possible, device, advance)
    same_rounding = run.config.precision == "float32" and run.config.device.startswith(device.type)
    _check_as_cached(predicted["as_cached"], clips, run, 0 if same_rounding else _ROUNDING_SHARE)

    labels = np.array([clip.label for clip in clips])
    accuracies = {name: float(np.mean(found == labels)) for name, found in predicted.items()}
    outcomes = tuple(
        Outcome(each.name, each.modality, accuracies.get(each.name), len(clips), reasons[each])
        for each in CONDITIONS
    )
    hashes = digest, sha256_file(run.folder / PREDICTIONS)
    Measured(*hashes, describe(device), outcomes).write(run.folder)
    return True


def measure(
    trained: TrainedNetwork,
    cache: Cache,
    clips: Sequence[Clip],
    conditions: Sequence[Condition],
    device: torch.device | str = "cpu",
    advance: Callable[[int], Any] = lambda clips: None,
) -> dict[str, np.ndarray]:
    """The classes that a network on `device` predicts, int64 (N,) by the name of the condition."""
    mean = trained.prepare.mfcc_mean  # of the training clips, (13, 1); None if not normalized
    constants = {} if mean is None else {"mfcc_mean": mean.cpu().numpy()}
    wanted = {*trained.fields, *(each.needs for each in conditions if each.needs)}
    predicted: dict[str, list[np.ndarray]] = {each.name: [] for each in conditions}
    for start in range(0, len(clips), _BATCH_SIZE):
        batch = clips[start : start + _BATCH_SIZE]
        read = [
            constants | {name: cache.read(clip.clip_id, name) for name in wanted} for clip in batch
        ]
        for condition in conditions:
            both = zip(batch, read, strict=True)
            changed = [fields | condition.change(clip, fields) for clip, fields in both]
            inputs = {
                name: torch.from_numpy(np.stack([fields[name] for fields in changed])).to(device)
                for name in trained.fields
            }
            classes = trained.probabilities(inputs).argmax(dim=1)
            predicted[condition.name].append(classes.cpu().numpy())
        advance(len(batch))
    return {name: np.concatenate(parts) for name, parts in predicted.items()}


def _why_not(condition: Condition, fields: Sequence[str], in_cache: Sequence[str]) -> str | None:
    """Why a network that looks at `fields` is not measured under a condition; None if it is."""
    changed = {None: fields, "audio": ("mfcc", "waveform"), "video": ("frames",)}
    if not set(fields) & set(changed[condition.modality]):
        return f"the network does not look at {' or '.join(changed[condition.modality])}"
    if condition.needs and condition.needs not in in_cache:
        return f"the cache contains no {condition.needs}"
    return None


def _check_as_cached(predicted: np.ndarray, clips: list[Clip], run: Run, tolerance: float) -> None:
    """Raise RobustnessError unless all clips but a share are predicted as in the run."""
    recorded = dict(zip(run.predictions.clips, run.predictions.predicted, strict=True))
    different = int(np.sum(predicted != [recorded[clip] for clip in clips]))
    allowed = math.ceil(tolerance * len(clips))
    if different > allowed:
        raise RobustnessError(
            f"predictions of {different} of {len(clips)} clips differ from {PREDICTIONS}, expected "
            f"at most {allowed}: the clips or the weights are from another run"
        )
