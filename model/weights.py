"""Load published weights into encoders by their public names, from torch or safetensors files."""

import os
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from cache.files import zip_members
from model.landmarks import LandmarkEncoder
from model.mfcc_cnn import MfccCnn
from model.resnext3d import ResNeXt3D
from model.unimodal import AudioNetwork, VideoNetwork

# For each part: its network with a classifier, its encoder, the classifier's public name.
_PARTS = {
    "video": (VideoNetwork, (ResNeXt3D, LandmarkEncoder), "fc"),
    "audio": (AudioNetwork, MfccCnn, "fc1"),
}
PARTS = tuple(_PARTS)

_COUNTER = ".num_batches_tracked"  # the end of a batch norm's counter
_SHOWN = 5  # the number of names that a message lists
# What a file may ask for: that of a full-size network with its optimizer has a tenth. Each of these
# operations takes at most some dozens of bytes in memory, and the rest is in the file as it is.
_MOST_OPERATIONS = 500_000
_EARLY_PICKLES = 5  # at the beginning of a file in torch's format before 1.6
# The keys that training scripts store their tensors under.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64)
# What torch and pickle raise for damaged bytes.
_DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError),
    *(RuntimeError, TypeError, ValueError, struct.error, zipfile.BadZipFile),
)


class WeightsError(ValueError):
    """A file contains no usable weights for the encoder."""


def read_data(path: Path | str, device: torch.device | str = "cpu") -> Any:
    """Read a file of `torch.save`, or a .safetensors file; code in a file is never run.

    Raises:
        WeightsError: if the file is damaged or contains code.
        FileNotFoundError: if the file does not exist.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder, expected a file such as {path / 'last.pt'}")
    try:
        if path.suffix.lower() == ".safetensors":
            return _read_safetensors(path, device)
        with warnings.catch_warnings(action="ignore"):  # about old protocols and TorchScript
            _check_memory(path)
            return torch.load(path, map_location=device, weights_only=True)
    except WeightsError:
        raise
    except pickle.UnpicklingError as exc:  # torch's own message advises running the code
        raise WeightsError(f"{path}: {_refusal(exc)}") from exc
    except _DAMAGE as exc:
        problem = (str(exc) or type(exc).__name__).splitlines()[0]
        if "weights_only" in problem:  # the same advice
            raise WeightsError(f"{path}: {_refusal(exc)}") from exc
        if isinstance(exc, KeyError):  # its text is only the key
            problem = f"KeyError: {problem}"
        raise WeightsError(f"{path}: damaged ({problem})") from exc


def _refusal(problem: Exception) -> str:
    """Why torch does not load a file, in our words."""
    found = re.search(r"GLOBAL ([\w.]+)", str(problem))
    if not found:
        return "contains code or is damaged, so it was not loaded"
    return (
        f"contains {found[1]}, expected only tensors, numbers and text. It was not loaded, because "
        "such objects can run code. Replace them, as by float(x) or x.tolist(), and save it again"
    )


def _check_memory(path: Path) -> None:
    """Raise WeightsError for a file of torch that would take much more memory than its size."""
    with path.open("rb") as opened:
        if opened.read(4) != b"PK\x03\x04":
            opened.seek(0)
            for _ in range(_EARLY_PICKLES):
                _check_pickle(opened)
            return
        _check_end(opened)
    members = zip_members(path)
    stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not stored or sum(member.file_size for member in members) > path.stat().st_size:
        raise WeightsError(
            f"{path}: is compressed, as TorchScript is, so it was not loaded. Expected a file of "
            "torch.save, such as of a state_dict"
        )
    with zipfile.ZipFile(path) as archive:
        for member in members:
            if member.filename.lower().endswith("data.pkl"):
                with archive.open(member) as opened:
                    _check_pickle(opened)


def _check_end(opened: BinaryIO) -> None:
    """Raise ValueError unless a zip ends as torch writes it, so that all find the same members."""
    end = opened.seek(-22, os.SEEK_END)
    mark, size, start, comment_length = struct.unpack("<4s8xLLH", opened.read())
    opened.seek(max(0, end - 76))
    tail = opened.read(76)
    expected = end
    if tail[-20:-16] == b"PK\x06\x07":  # zip64
        size, start, end = struct.unpack("<40xQQ8xQ4x", tail)
        expected -= 76
    if mark != b"PK\x05\x06" or comment_length or not start + size == end == expected:
        raise ValueError("the zip is cut off, or was changed")


def _check_pickle(opened: BinaryIO) -> None:
    """Raise ValueError for a pickle that makes too many objects, or one of a declared size."""
    try:
        for count, (_, argument, _) in enumerate(pickletools.genops(opened)):
            declares_size = isinstance(argument, str) and argument.endswith(" bytearray")
            if count > _MOST_OPERATIONS or declares_size:
                raise OverflowError
    except OverflowError as exc:
        raise ValueError("it requires far more memory than a network") from exc
    except (ValueError, MemoryError):  # damaged, and torch says where
        return


def _read_safetensors(path: Path, device: torch.device | str) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as exc:
        raise WeightsError(
            f"{path}: safetensors is not installed: pip install '.[weights]'"
        ) from exc
    try:
        return load_file(path, device=str(device))
    except SafetensorError as exc:
        raise WeightsError(f"{path}: damaged ({exc})") from exc


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a .safetensors file that `read_data` has read, texts by name."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        return opened.metadata() or {}


def public_state(data: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint under their public names.

    Removes what training scripts wrap around them: dictionaries with the key `state_dict`,
    `model_state_dict`, `model` or `net`, and the prefix `module.`. WeightsError if there is
    anything but tensors by name.
    """
    while isinstance(data, Mapping):
        inner = [data[key] for key in _WRAPPERS if isinstance(data.get(key), Mapping)]
        if not inner:
            break
        data = inner[0]
    if not isinstance(data, Mapping) or not data:
        raise WeightsError(f"contains {type(data).__name__}, expected tensors by name")
    strange = [name for name, value in data.items() if not _is_plain(name, value)]
    if strange:
        raise WeightsError(f"expected only dense numeric tensors, also found {_some(strange)}")
    state: dict[str, Tensor] = {}
    for name, tensor in data.items():
        while name.startswith("module."):
            name = name.removeprefix("module.")
        if name in state:
            raise WeightsError(f"contains two tensors named {_some([name])}")
        state[name] = tensor
    return state


def _is_plain(name: Any, value: Any) -> bool:
    """Whether an entry is a name and a dense tensor of numbers in memory."""
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type != "meta"
        and value.dtype in _NUMBERS
    )


def load_weights(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the whole state of a network.

    ValueError if the tensors are not those of the network, one has another dtype, which loading
    would silently convert, or one has values that no training leaves behind.
    """
    for name, own in net.state_dict().items():
        if name in state and state[name].dtype != own.dtype:
            raise ValueError(f"{name} is {state[name].dtype}, expected {own.dtype}")
    try:
        net.load_state_dict(state)
    except RuntimeError as exc:
        raise ValueError(" ".join(str(exc).split())[:300]) from exc
    for name, tensor in net.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} contains NaN or Inf")
        if name.endswith("running_var") and (tensor < 0).any():
            raise ValueError(f"{name} contains negative values")


def load_encoder(net: nn.Module, part: str, state: Mapping[str, Tensor]) -> str:
    """Copy weights into one encoder of a network, and into its classifier if both have one.

    Args:
        net: any network that has this encoder; it is changed only if all tensors match.
        part: "video", with the names of the public 3D-ResNets, or "audio", of the public MFCC CNN.
        state: the tensors by public name, as from `public_state`. Batch counters, which old
            checkpoints lack, may be missing.

    Returns what was loaded and what was skipped, as a line to print. WeightsError if the network
    has no such encoder, or tensors are missing, unexpected, mismatched, or have impossible values.
    """
    encoder, classifier = find_encoder(net, part)
    of_classifier, of_encoder = _split(part, state)
    expected = encoder.state_dict()
    problems = {
        "missing": [n for n in expected if n not in state and not n.endswith(_COUNTER)],
        "unexpected": [n for n in of_encoder if n not in expected],
        "mismatched": [
            f"{n} ({_shape(tensor)}, expected {_shape(expected[n])})"
            for n, tensor in of_encoder.items()
            if n in expected and tensor.shape != expected[n].shape
        ],
    }
    _refuse(part, problems)
    fits = classifier is not None and has_classifier(part, classifier, state)
    # Values are checked last, when every tensor is known to be no larger than expected.
    values = {n: tensor.float() for n, tensor in of_encoder.items()}
    heads = {n: tensor.float() for n, tensor in of_classifier.items()} if fits else {}
    problems = {
        "NaN or Inf": [n for n, t in {**values, **heads}.items() if not t.isfinite().all()],
        "negative": [n for n, t in values.items() if n.endswith("_var") and (t < 0).any()],
    }
    _refuse(part, problems)
    encoder.load_state_dict(of_encoder, strict=False)
    loaded = f"{part} encoder: {len(of_encoder)} tensors loaded"
    if not of_classifier:
        return f"{loaded}; no classifier in the file"
    if fits:
        classifier.load_state_dict(of_classifier)
        return f"{loaded}, and its classifier"
    found = ", ".join(f"{n} {_shape(t)}" for n, t in of_classifier.items())
    return f"{loaded}; its classifier ({found}) is skipped, since the network has a different one"


def has_classifier(part: str, classifier: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether `state` contains a classifier of the same shape, which `load_encoder` then loads."""
    found, _ = _split(part, state)
    shapes, own = ({n: t.shape for n, t in s.items()} for s in (found, classifier.state_dict()))
    return shapes == own


def _split(part: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of a part's classifier, by their names in it, and those of its encoder."""
    prefix = f"{_PARTS[part][2]}."
    of_classifier = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    return of_classifier, {n: t for n, t in state.items() if not n.startswith(prefix)}


def classifier_of(part: str, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight and bias of a unimodal network's classifier, from `state` as for `load_encoder`.

    WeightsError if there is none.
    """
    try:
        return tuple(_split(part, state)[0][name].float() for name in ("weight", "bias"))
    except KeyError as exc:
        raise WeightsError(
            f"the weights for the {part} encoder have no classifier {exc}, which --product-start "
            "requires. Start from unimodal runs, or use --no-product-start"
        ) from exc


def _refuse(part: str, problems: dict[str, list[str]]) -> None:
    """Raise WeightsError if any tensor has a problem."""
    named = [f"{what}: {_some(names)}" for what, names in problems.items() if names]
    if named:
        raise WeightsError(
            f"does not match the {part} encoder: {'; '.join(named)}. Expected the names and sizes "
            f"of the public {part} network at this --preset"
        )


def find_encoder(net: nn.Module, part: str) -> tuple[nn.Module, nn.Module | None]:
    """The encoder of a part in `net`, and the classifier that follows it, if there is one.

    WeightsError if there is no such encoder.
    """
    network, encoder, classifier = _PARTS[part]
    for module in net.modules():
        if isinstance(module, network):
            return getattr(module, part), getattr(module, classifier)
        if isinstance(module, encoder):
            return module, None
    raise WeightsError(f"the network has no {part} encoder")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _some(names: Iterable[Any]) -> str:
    """The first few names, safe to print, and the number of others."""
    names = [ascii(name)[1:-1][:60] if isinstance(name, str) else repr(name)[:60] for name in names]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
