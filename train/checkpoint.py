"""A run's state on disk: weights, optimiser, epoch and settings, never code."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cache.files import atomic_path

CHECKPOINT_VERSION = 1


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
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what `save` wrote; code in the file is refused.

    Returns:
        `epoch`, `config`, `model` and `optimizer`.

    Raises:
        CheckpointError: if the file is damaged, holds more than data, or is of another version.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as exc:
        reason = str(exc).splitlines()[0]
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from exc
    if not isinstance(state, dict) or state.get("checkpoint_version") != CHECKPOINT_VERSION:
        raise CheckpointError(f"{path}: not a checkpoint of version {CHECKPOINT_VERSION}")
    return state
