"""Published weights into our encoders, by their public names, from torch or safetensors files."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.mfcc_cnn import MfccCnn
from model.resnext3d import ResNeXt3D
from model.unimodal import AudioNetwork, VideoNetwork

# For each part: its network with a classifier, the encoder alone, the classifier's public name.
_PARTS = {"video": (VideoNetwork, ResNeXt3D, "fc"), "audio": (AudioNetwork, MfccCnn, "fc1")}
PARTS = tuple(_PARTS)

_SHOWN = 5  # names a message lists


class WeightsError(ValueError):
    """A file holds no weights, or not those of the encoder."""


def read_data(path: Path, device: torch.device | str = "cpu") -> Any:
    """Read a file of `torch.save`, or of tensors alone if it ends in .safetensors.

    Raises:
        WeightsError: if the file is damaged or holds more than data: no code in it is run.
        FileNotFoundError: if there is none.
    """
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path, device)
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise
    except pickle.UnpicklingError as exc:  # torch's own words advise to run the code in it
        raise WeightsError(f"{path}: holds more than data, or is damaged: refused") from exc
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as exc:
        problem = (str(exc) or type(exc).__name__).splitlines()[0]
        raise WeightsError(f"{path}: damaged ({problem})") from exc


def _read_safetensors(path: Path, device: torch.device | str) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as exc:
        raise WeightsError(
            f"{path}: reading it needs the package safetensors: pip install '.[weights]'"
        ) from exc
    try:
        return load_file(path, device=str(device))
    except SafetensorError as exc:
        raise WeightsError(f"{path}: damaged ({exc})") from exc


def public_state(data: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint under their public names.

    Takes off what training scripts put around them: a dictionary with the key `state_dict`, and
    `module.` before every name.

    Raises:
        WeightsError: if there is anything but tensors by name.
    """
    if isinstance(data, Mapping) and isinstance(data.get("state_dict"), Mapping):
        data = data["state_dict"]
    if not isinstance(data, Mapping) or not data:
        raise WeightsError(f"holds {type(data).__name__}, expected tensors by name")
    strange = [name for name, value in data.items() if not _is_plain(name, value)]
    if strange:
        raise WeightsError(f"expected tensors alone, found also {_some(map(str, strange))}")
    return {name.removeprefix("module."): tensor for name, tensor in data.items()}


def _is_plain(name: Any, value: Any) -> bool:
    """Whether an entry is a name and a tensor that can be copied: dense, and with its content."""
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and value.device.type != "meta"
    )


def load_encoder(net: nn.Module, part: str, state: Mapping[str, Tensor]) -> str:
    """Copy weights into one encoder of a network, and into its classifier where both have one.

    Args:
        net: any network of the registry that has this encoder; changed only if all is well.
        part: "video", named as the public 3D-ResNets code, or "audio", as the public MFCC CNN.
        state: tensors by public name, as from `public_state`. Counters of batches, which old
            checkpoints lack, may be missing.

    Returns:
        What was loaded and what was left out, as a line to print.

    Raises:
        WeightsError: if the network has no such encoder, or naming the tensors that are missing,
            unexpected, of another shape or not finite.
    """
    encoder, classifier = _find(net, part)
    name_of_classifier = f"{_PARTS[part][2]}."
    of_classifier = {
        name.removeprefix(name_of_classifier): tensor
        for name, tensor in state.items()
        if name.startswith(name_of_classifier)
    }
    of_encoder = {
        name: tensor for name, tensor in state.items() if not name.startswith(name_of_classifier)
    }
    expected = encoder.state_dict()
    problems = [
        _listed("missing", [n for n in expected if n not in state and not _is_counter(n)]),
        _listed("unexpected", [n for n in of_encoder if n not in expected]),
        _listed(
            "of another shape",
            [
                f"{n} ({_shape(tensor)}, expected {_shape(expected[n])})"
                for n, tensor in of_encoder.items()
                if n in expected and tensor.shape != expected[n].shape
            ],
        ),
        _listed("not finite", [n for n, tensor in state.items() if not tensor.isfinite().all()]),
    ]
    if any(problems):
        raise WeightsError(
            f"does not fit the {part} encoder: {'; '.join(filter(None, problems))}. "
            f"Expected the names and sizes of the public {part} network and this --preset"
        )
    encoder.load_state_dict(of_encoder, strict=False)
    loaded = f"{part} encoder: {len(of_encoder)} tensors loaded"
    if not of_classifier:
        return f"{loaded}; no classifier in the file"
    found = ", ".join(f"{n} {_shape(t)}" for n, t in of_classifier.items())
    if classifier is None:
        return f"{loaded}; its classifier ({found}) is left out, the network has another"
    wanted = {n: tensor.shape for n, tensor in classifier.state_dict().items()}
    if wanted != {n: tensor.shape for n, tensor in of_classifier.items()}:
        sizes = ", ".join(f"{n} {_shape(t)}" for n, t in classifier.state_dict().items())
        return f"{loaded}; its classifier ({found}) is left out, the network's is {sizes}"
    classifier.load_state_dict(of_classifier)
    return f"{loaded}, and its classifier"


def _find(net: nn.Module, part: str) -> tuple[nn.Module, nn.Module | None]:
    """The encoder of a part in `net`, and the classifier that follows on it, if one does."""
    network, encoder, classifier = _PARTS[part]
    for module in net.modules():
        if isinstance(module, network):
            return getattr(module, part), getattr(module, classifier)
        if isinstance(module, encoder):
            return module, None
    raise WeightsError(f"the network has no {part} encoder to load it into")


def _is_counter(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _listed(what: str, names: list[str]) -> str:
    return f"{what}: {_some(names)}" if names else ""


def _some(names: Any) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
