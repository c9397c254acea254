"""Small files that declare much: each is refused, and reading it takes little memory."""

import pickle
import resource
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from processes import begin

from model.weights import read_data
from preprocess.dataset import RawFile, find_clips
from preprocess.landmarks import read_track
from preprocess.settings import Settings

MOST_MB = 64
TABLE = "01-01-06-01-02-01-05.csv"
HEADER = ",".join(["frame", "confidence", *(f"{xy}_{p}" for xy in "xy" for p in range(68))])


def checkpoint(path: Path, method: int = zipfile.ZIP_STORED, **changes: bytes) -> None:
    """A file of torch.save, but for the changed records; written without torch, which checks."""
    torch.save({"a": torch.zeros(3)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, changes.get(Path(name).stem, content))


def table(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(TABLE, content)


def names(path: Path) -> None:
    """A zip whose list says a million times that there is an empty file x."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"x"
    end = b"PK\x05\x06" + bytes(8) + struct.pack("<L", len(entry) * 1_000_000) + bytes(6)
    path.write_bytes(entry * 1_000_000 + end)


def early(path: Path) -> None:
    """The format of torch before 1.6: pickles one after another, the weights in the fourth."""
    start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    path.write_bytes(b"".join(pickle.dumps(each, 2) for each in start) + LISTS)


BYTES = bytes(2**27)
LINE = f"{HEADER}\n".encode() + b"," * (2**24 - 2000)
LISTS = b"\x80\x02](" + b"]" * 2**22 + b"e."
ALLOCATION = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (2**30).to_bytes(5, "little") + b"\x85R."
BOMBS = {
    "deflated.pt": (lambda p: checkpoint(p, zipfile.ZIP_DEFLATED, **{"0": BYTES}), "is comp"),
    "objects.pt": (lambda p: checkpoint(p, data=LISTS), "it requires far more memory than a net"),
    "early.pt": (early, "it requires far more memory than a network"),
    "bytes.pt": (lambda p: checkpoint(p, data=ALLOCATION), "requires far more memory than"),
    "names.zip": (names, "not a readable zip (its list of files has 47000000 bytes, expected"),
    "header.csv.zip": (
        lambda p: table(p, b"x," * 2**25),
        "has 16777217 bytes in 0 lines, expected",
    ),
    "line.csv.zip": (
        lambda p: table(p, LINE),
        "has a line of 16775216 bytes, expected at most 65536",
    ),
}


def read(arguments: list[str]) -> int:
    """Read a file as the program does, and print what it says and the growth of the peak in MB."""
    path = Path(arguments[0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        if path.suffix == ".pt":
            read_data(path)
        elif path.name.endswith(".csv.zip"):
            read_track(RawFile(TABLE, path, TABLE).read())
        else:
            raise ValueError(find_clips(path.parent, Settings()).failures[path.name])
    except ValueError as exc:
        print(exc)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)
    return 0


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory(name, tmp_path):
    make, problem = BOMBS[name]
    make(tmp_path / name)
    assert (tmp_path / name).stat().st_size < 2**26
    process = begin(read, tmp_path / "out", [tmp_path / name])
    process.join(120)
    printed = (tmp_path / "out" / "stdout").read_text()
    said, megabytes = printed.splitlines()
    assert problem in said
    assert float(megabytes) < MOST_MB
