"""Trained networks from disk: a run's checkpoint, and the network in it ready for use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.prepare import Inputs, Prepare
from model.registry import NAMES, PRESETS, build, input_size
from model.registry import inputs as of_network
from model.weights import WeightsError, read_data

CHECKPOINT_VERSION = 3

# `model` are the weights that are tested and used, `training` what training needs to go on.
_KEYS = {"checkpoint_version", "epoch", "config", "model", "inputs", "training"}
_PRECISIONS = ("float32", "bfloat16")


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or belongs to another run."""


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a run's `last.pt`; code in the file is refused.

    Returns:
        `epoch`, `config`, `model`, `inputs` and `training`.

    Raises:
        CheckpointError: if the file is damaged, holds more than data, or is of another version.
        FileNotFoundError: if there is none.
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
    """Raise CheckpointError for a checkpoint that another version of this program wrote."""
    version = data.get("checkpoint_version") if isinstance(data, dict) else None
    if version not in (None, CHECKPOINT_VERSION):
        raise CheckpointError(
            f"a checkpoint of version {version!r:.80}, expected {CHECKPOINT_VERSION}. "
            "Train that run again, in a new folder"
        )


def is_checkpoint(data: Any) -> bool:
    """Whether what a file holds is laid out as a run's checkpoint."""
    return isinstance(data, dict) and set(data) == _KEYS


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode, with what its inputs go through: as its run tested it.

    `config` is the run's, `epoch` how many of its epochs were done, `frames` how many of a clip's
    30 frames the network looks at.
    """

    config: dict[str, Any]
    epoch: int
    net: nn.Module
    prepare: Prepare
    frames: int
    precision: torch.dtype

    def inputs(self, fields: dict[str, Tensor]) -> Inputs:
        """Frames and sound for `net`, from fields of the cache, each with B in front."""
        if "frames" in fields:
            frames = fields["frames"]
            fields = fields | {"frames": frames[:, :: frames.shape[1] // self.frames]}
        return self.prepare(fields)

    @torch.no_grad()
    def probabilities(self, fields: dict[str, Tensor]) -> Tensor:
        """Of the eight emotions, float32 (B, 8), from fields of the cache with B in front."""
        return classify(self.net, *self.inputs(fields), self.precision).softmax(dim=1)


def classify(
    net: nn.Module, frames: Tensor | None, sound: Tensor | None, precision: torch.dtype
) -> Tensor:
    """Logits float32 (B, 8), with autocast inside unless `precision` is float32."""
    device = sound.device if frames is None else frames.device
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        return net(frames, sound).float()


def load_trained(path: Path, device: torch.device | str = "cpu") -> Trained:
    """Read a checkpoint and build its network.

    Args:
        path: `last.pt` of a run.
        device: to load it to.

    Raises:
        CheckpointError: if the file is no checkpoint, or contradicts itself.
        FileNotFoundError: if there is none.
    """
    state = load(path, device)
    config, inputs = state["config"], state["inputs"]
    try:
        for name, known in (
            *(("model", NAMES), ("preset", tuple(PRESETS)), ("precision", _PRECISIONS)),
        ):
            if config[name] not in known:
                raise CheckpointError(
                    f"{path}: {name} is {config[name]!r:.80}, expected one of {', '.join(known)}"
                )
        _check_history(state["epoch"], config)
        frames, size = input_size(config["preset"])
        _check_statistics(inputs)
        net = build(config["model"], config["preset"])
        load_weights(net, state["model"])
        prepare = Prepare(size, **inputs)
    except CheckpointError:
        raise
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as exc:
        problem = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise CheckpointError(f"{path}: not a whole checkpoint ({problem:.200})") from exc
    net.to(device).eval()
    if "frames" in of_network(config["model"]):
        net.to(memory_format=torch.channels_last_3d)
    precision = getattr(torch, config["precision"])
    return Trained(config, state["epoch"], net, prepare, frames, precision)


def _check_history(epoch: Any, config: dict[str, Any]) -> None:
    """Raise ValueError unless a run says of which epoch it is, of how many, on what clips."""
    cache = config.get("cache")
    dataset = cache.get("dataset") if isinstance(cache, dict) else None
    epochs = config.get("epochs")
    for name, value in (("epochs", epochs), ("cache.dataset", dataset)):
        if value is None:
            raise ValueError(f"{name} is missing")
    if type(epochs) is not int or epochs < 1:
        raise ValueError(f"epochs is {epochs!r:.80}, expected 1 or more")
    if type(epoch) is not int or not 0 <= epoch <= epochs:
        raise ValueError(f"epoch is {epoch!r:.80}, expected 0 to {epochs}")
    if not isinstance(dataset, str) or not dataset.strip() or not dataset.isprintable():
        raise ValueError(f"cache.dataset is {dataset!r:.80}, expected printable text")


def load_weights(net: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a network's state.

    Raises:
        RuntimeError: if its tensors are not those of the network.
        ValueError: for a tensor of another dtype, which loading would convert in silence, and for
            weights that no training can leave.
    """
    for name, own in net.state_dict().items():
        if name in state and state[name].dtype != own.dtype:
            raise ValueError(f"{name} is {state[name].dtype}, expected {own.dtype}")
    net.load_state_dict(state)
    for name, tensor in net.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite")
        if name.endswith("running_var") and (tensor < 0).any():
            raise ValueError(f"{name} is below 0")


def _check_statistics(inputs: dict[str, Any]) -> None:
    """Raise ValueError unless MFCCs are normalised by thirteen means and deviations, or not."""
    if set(inputs) not in (set(), {"mfcc_mean", "mfcc_std"}):
        raise ValueError(f"inputs are {sorted(map(str, inputs))}")
    for name, values in inputs.items():
        if (values.dtype, values.shape) != (torch.float32, (13, 1)) or not values.isfinite().all():
            raise ValueError(f"{name} is not 13 finite numbers of float32")
    if inputs and not (inputs["mfcc_std"] > 0).all():
        raise ValueError("mfcc_std is not above 0")
