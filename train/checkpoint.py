"""A run's state on disk: weights, optimiser, epoch and settings, never code."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cache.files import atomic_path
from model.weights import WeightsError, read_data

CHECKPOINT_VERSION = 1
_KEYS = {"checkpoint_version", "epoch", "config", "model", "optimizer"}


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or belongs to another run."""


def save(
    path: Path,
    *,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    config: Mapping[str, Any],
) -> None:
    """Write the state after `epoch` to `path`, whole or not at all.

    The file holds tensors, numbers and strings alone, so `torch.load(..., weights_only=True)`
    reads it.
    """
    state = {
        "checkpoint_version": CHECKPOINT_VERSION,
        "epoch": epoch,
        "config": dict(config),
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    try:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
    except RuntimeError as exc:  # torch's way to say that a write failed
        raise OSError(errno.EIO, f"{path} cannot be written: {str(exc).splitlines()[0]}") from exc


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what `save` wrote; code in the file is refused.

    Returns:
        `epoch`, `config`, `model` and `optimizer`.

    Raises:
        CheckpointError: if the file is damaged, holds more than data, or is of another version.
    """
    try:
        state = read_data(path, device)
    except WeightsError as exc:
        raise CheckpointError(str(exc)) from exc
    if not is_checkpoint(state):
        raise CheckpointError(f"{path}: not a checkpoint of this program")
    if state["checkpoint_version"] != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path}: a checkpoint of version {state['checkpoint_version']}, "
            f"expected {CHECKPOINT_VERSION}"
        )
    return state


def is_checkpoint(data: Any) -> bool:
    """Whether what a file holds is laid out as `save` does it."""
    return isinstance(data, dict) and set(data) == _KEYS
