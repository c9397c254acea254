"""Write a run's state: weights, optimiser, place in the schedule and settings, never code."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cache.files import atomic_path
from model.checkpoint import CHECKPOINT_VERSION

PREVIOUS = "previous.pt"  # beside last.pt: the checkpoint before it


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
