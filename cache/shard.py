"""One HDF5 file with all clips of one actor: written whole, checked before it is read."""

import errno
import shutil
from collections.abc import Collection, Iterable, Mapping
from math import prod
from pathlib import Path

import h5py
import numpy as np

from cache.clips import Clip
from cache.files import atomic_path
from cache.schema import COMPUTED, FIELDS, NAMED, OPTIONAL, PICTURE, Field

_SPARE_BYTES = 2**20  # for HDF5's own structure


class CacheError(ValueError):
    """A cache, shard or manifest is not what it should be; the message says what to do."""


def write_shard(
    path: Path, count: int, computed: Collection[str], rows: Iterable[tuple[Clip, Mapping]]
) -> None:
    """Write `count` clips as one shard; the same rows always give the same bytes.

    Args:
        path: where the shard appears, whole, when all rows are written.
        count: how many rows `rows` yields; the datasets are contiguous, so it is needed ahead.
        computed: which of `schema.COMPUTED` the rows hold.
        rows: a clip and its computed arrays, in the order of `clip_id`. Only one row is held in
            memory.

    Raises:
        ValueError: if a row is out of order, or has an array of another type or shape.
        OSError: if the disk is full or fails.
    """
    stored = {name: field for name, field in FIELDS.items() if name in NAMED or name in computed}
    needed = count * sum(field.dtype.itemsize * prod(field.shape) for field in stored.values())
    free = shutil.disk_usage(path.parent).free
    if free < needed + _SPARE_BYTES:  # HDF5 itself takes a full disk badly
        raise OSError(errno.ENOSPC, f"{path.name} needs {needed} bytes, {free} are free")
    try:
        _write(path, count, stored, rows)
    except RuntimeError as exc:  # HDF5's way to say that a write failed
        raise OSError(errno.EIO, f"{path.name} cannot be written: {exc}") from exc


def _write(
    path: Path, count: int, stored: Mapping[str, Field], rows: Iterable[tuple[Clip, Mapping]]
) -> None:
    # Without HDF5's lock, which some network file systems do not have: nobody else knows the
    # temporary name.
    with atomic_path(path) as temporary, h5py.File(temporary, "w", locking=False) as file:
        datasets = {
            name: file.create_dataset(name, (count, *field.shape), field.dtype, track_times=False)
            for name, field in stored.items()
        }
        previous = ""
        written = 0
        for row, (clip, arrays) in enumerate(rows):
            if clip.clip_id <= previous:
                raise ValueError(f"clip {clip.clip_id} comes after {previous}, expected sorted")
            previous = clip.clip_id
            for name, dataset in datasets.items():
                value = arrays[name] if name in COMPUTED else _from_name(clip, name)
                dataset[row] = _checked(clip, name, value)
            written += 1
        if written != count:
            raise ValueError(f"{path.name}: {written} clips came, expected {count}")


def open_shard(path: Path) -> h5py.File:
    """Open a shard for reading after checking that its structure is the schema's.

    Reads metadata alone. A shard may come from a stranger, and HDF5 would follow links and
    external storage out of the file without a word, so only plain contiguous datasets of the
    expected type and shape pass.

    Raises:
        CacheError: naming the file, what was found and what was expected.
    """
    try:
        # No file lock: shards are never changed in place, and NFS or a read-only disk has none.
        file = h5py.File(path, "r", locking=False)
    except OSError as exc:
        raise CacheError(
            f"{path}: not a readable HDF5 file ({exc}). Fetch it again, or rebuild it"
        ) from exc
    try:
        check_structure(file, path)
    except CacheError:
        file.close()
        raise
    except (TypeError, ValueError, RuntimeError, KeyError, OSError) as exc:  # of h5py, on rot
        file.close()
        raise CacheError(f"{path}: not a sound shard ({exc}). Fetch or build it again") from exc
    return file


def clip_ids(file: h5py.File) -> list[str]:
    """The clips of a shard, row by row; bytes that no name has come out as they would never be."""
    return [name.decode("ascii", "replace") for name in file["clip_id"][:]]


def check_structure(file: h5py.File, path: Path) -> None:
    """Raise CacheError unless the datasets of `file` are exactly those of the schema.

    The picture's may be missing together, the optional ones each.
    """
    names = set(file)
    expected = set(FIELDS) - (set(OPTIONAL) - names)
    if not names & set(PICTURE):
        expected -= set(PICTURE)
    if names != expected:
        odd = sorted(names ^ expected)
        raise CacheError(f"{path}: datasets {', '.join(odd)} are missing or unknown")
    count = None
    for name in sorted(names):
        field = FIELDS[name]
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise CacheError(f"{path}: {name} is a link out of its place, expected a dataset")
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise CacheError(f"{path}: {name} is a {type(dataset).__name__}, expected a dataset")
        plain = dataset.id.get_create_plist()
        if plain.get_layout() != h5py.h5d.CONTIGUOUS or plain.get_external_count():
            raise CacheError(f"{path}: {name} is not stored as one contiguous block in the file")
        if dataset.dtype != field.dtype:
            raise CacheError(f"{path}: {name} has type {dataset.dtype}, expected {field.dtype}")
        if count is None:
            count = dataset.shape[0] if dataset.shape else 0
        if dataset.shape != (count, *field.shape):
            raise CacheError(
                f"{path}: {name} has shape {dataset.shape}, expected {(count, *field.shape)}"
            )
        if dataset.id.get_offset() is None:
            raise CacheError(f"{path}: {name} was never written")
        end = dataset.id.get_offset() + dataset.nbytes
        if path.stat().st_size < end:
            raise CacheError(f"{path}: {path.stat().st_size} bytes, {name} ends at {end}")


def read_row(file: h5py.File, row: int) -> dict[str, np.ndarray]:
    """The computed arrays of one row, as `write_shard` takes them."""
    return {name: file[name][row] for name in COMPUTED if name in file}


def _from_name(clip: Clip, name: str) -> bytes | int:
    return clip.clip_id.encode("ascii") if name == "clip_id" else getattr(clip, name)


def _checked(clip: Clip, name: str, value) -> np.ndarray:
    field = FIELDS[name]
    if name in COMPUTED and (value.dtype != field.dtype or value.shape != field.shape):
        raise ValueError(
            f"{clip.clip_id}: {name} is {value.dtype} {value.shape}, "
            f"expected {field.dtype} {field.shape}"
        )
    return value
