"""A run's state on disk: weights, optimiser, place in the schedule and settings, never code."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cache.files import atomic_path
from model.weights import WeightsError, read_data

CHECKPOINT_VERSION = 2
PREVIOUS = "previous.pt"  # beside last.pt: the checkpoint before it

# `model` are the weights that are tested and used, `training` what training needs to go on.
_KEYS = {"checkpoint_version", "epoch", "config", "model", "inputs", "training"}


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or belongs to another run."""


def save(
    path: Path,
    *,
    epoch: int,
    config: Mapping[str, Any],
    model: Mapping[str, Any],
    inputs: Mapping[str, Any],
    training: Mapping[str, Any],
) -> None:
    """Write a state to `path`, whole or not at all; what was there before becomes `PREVIOUS`.

    The file holds tensors, numbers and strings alone, so `torch.load(..., weights_only=True)`
    reads it.

    Args:
        path: `last.pt` of a run.
        epoch: how many epochs are done.
        config: of the run.
        model: state of the network that is tested.
        inputs: what its inputs are normalised with, tensors by name.
        training: everything else that a run needs to go on.
    """
    state = {
        "checkpoint_version": CHECKPOINT_VERSION,
        "epoch": epoch,
        "config": dict(config),
        "model": dict(model),
        "inputs": dict(inputs),
        "training": dict(training),
    }
    try:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
            if path.is_file():  # killed right after this, a run goes on from there
                os.replace(path, path.with_name(PREVIOUS))
    except RuntimeError as exc:  # torch's way to say that a write failed
        raise OSError(errno.EIO, f"{path} cannot be written: {str(exc).splitlines()[0]}") from exc


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what `save` wrote; code in the file is refused.

    Returns:
        `epoch`, `config`, `model`, `inputs` and `training`.

    Raises:
        CheckpointError: if the file is damaged, holds more than data, or is of another version.
    """
    try:
        state = read_data(path, device)
    except WeightsError as exc:
        raise CheckpointError(str(exc)) from exc
    try:
        check_version(state)
    except CheckpointError as exc:
        raise CheckpointError(f"{path}: {exc}") from exc
    if not is_checkpoint(state):
        raise CheckpointError(f"{path}: not a checkpoint of this program")
    return state


def check_version(data: Any) -> None:
    """Raise CheckpointError for what another version of `save` wrote."""
    version = data.get("checkpoint_version") if isinstance(data, dict) else None
    if version not in (None, CHECKPOINT_VERSION):
        raise CheckpointError(
            f"a checkpoint of version {version!r:.80}, expected {CHECKPOINT_VERSION}. "
            "Train that run again, in a new folder"
        )


def is_checkpoint(data: Any) -> bool:
    """Whether what a file holds is laid out as `save` does it."""
    return isinstance(data, dict) and set(data) == _KEYS
