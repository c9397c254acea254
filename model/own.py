"""Networks from files of other people: `add_file("my_fusion.py:GatedFusion")`."""

import hashlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

from model.inputs import INPUT_SHAPES
from model.mfcc_cnn import MfccCnn
from model.registry import NAMES, SYSTEMS, System, make_video

# What a network is called with, if it has parameters of these names.
_GIVEN = {"video": make_video, "audio": lambda p: MfccCnn(**p.audio), "preset": lambda p: p}
_FILES: dict[str, tuple[dict[str, str], bytes]] = {}  # what `source_of` and `code_of` return


def add_file(given: str, sha256: str | None = None) -> str:
    """Run the code of a file, which is announced on stderr, and add the network that it makes.

    Args:
        given: the file and the name of a class or function in it, as docs/extend.md describes.
        sha256: the hash that the file must have; None takes any.

    Returns:
        The name, by which the registry knows the network from now on.

    Raises:
        ValueError: if the file cannot be run, or has no such network.
    """
    path, _, name = given.rpartition(":")
    try:
        code = Path(path).expanduser().read_bytes()
        found = hashlib.sha256(code).hexdigest()
        if sha256 not in (None, found):
            raise ValueError(f"has changed: sha256 {found[:12]}, the run has {sha256[:12]}")
        print(f"running the code of {path}, sha256 {found[:12]}", file=sys.stderr)
        module = ModuleType(f"network_{found}")
        sys.modules[module.__name__] = module  # where dataclasses look
        exec(compile(code, path, "exec"), vars(module))
        make = vars(module).get(name)
        if name in NAMES or not name.isascii() or not callable(make):
            raise ValueError("does not name a class or function of the file (ASCII, not built in)")
        fields = tuple(getattr(make, "inputs", ()))
        both = {"frames", "landmarks"} <= {*fields} or {"mfcc", "waveform"} <= {*fields}
        if both or not fields or not {*fields} <= {*INPUT_SHAPES}:
            expected = 'such as ("frames", "mfcc"): frames or landmarks, mfcc or waveform, or both'
            raise ValueError(f"inputs are {fields!a:.80}, expected fields of the cache, {expected}")
        signature = inspect.signature(make)
        taken = [part for part in _GIVEN if part in signature.parameters]
        signature.bind(**dict.fromkeys(taken))  # TypeError if it requires others
    except Exception as exc:
        reason = str(exc) if type(exc) is ValueError else f"{type(exc).__name__}: {exc}"
        raise ValueError(f"{given}: {reason}") from exc
    SYSTEMS[name] = System(lambda p: make(**{part: _GIVEN[part](p) for part in taken}), fields)
    _FILES[name] = {"file": Path(path).name, "sha256": found}, code
    return name


def named(given: str) -> str:
    """The name of a network that is given by its name, or as for `add_file`."""
    return add_file(given) if ":" in given else given


def source_of(name: str) -> dict[str, str]:
    """What identifies the code of a network, `file` and `sha256`; empty for our own networks."""
    return _FILES.get(name, ({}, b""))[0]


def code_of(name: str) -> bytes:
    """The bytes of the file that a network was added from."""
    return _FILES[name][1]
