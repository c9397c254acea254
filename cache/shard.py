"""One HDF5 file with all clips of one actor: written whole, checked before it is read."""

import errno
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path

import h5py
import numpy as np

from cache import jpeg
from cache.files import atomic_path
from cache.ravdess import Clip
from cache.schema import COMPUTED, FIELDS, JPEG_FIELDS, NAMED, OPTIONAL, PICTURE, Field

ADVICE = "Fetch it again, or delete it and rebuild it with `make features RAVDESS=DIR`"

_SPARE_BYTES = 2**20  # for HDF5's own structure

# Clips with their computed arrays, by the name of the field.
Rows = Iterable[tuple[Clip, Mapping[str, np.ndarray]]]


class CacheError(ValueError):
    """A cache, shard or manifest is not valid; the message says what to do."""


def write_shard(
    path: Path, count: int, computed: Collection[str], rows: Rows, *, as_jpeg: bool = False
) -> None:
    """Write clips as one shard; the same rows always give the same bytes.

    Args:
        path: the file, which appears when all rows are written.
        count: the number of rows, needed in advance because the datasets are contiguous.
        computed: the fields of `schema.COMPUTED` that the rows contain.
        rows: each clip with its computed arrays, sorted by `clip_id`. Only one row at a time is
            held in memory (with `as_jpeg` the JPEG files of all rows too, about 35 MB).

    ValueError if the rows are not sorted, or an array has the wrong type or shape; OSError if the
    disk is full or fails.
    """
    stored = {name: FIELDS[name] for name in FIELDS if name in NAMED or name in computed}
    needed = count * sum(_row_bytes(field) for field in stored.values())
    free = shutil.disk_usage(path.parent).free
    if free < needed + _SPARE_BYTES:  # HDF5 itself may crash on a full disk
        raise OSError(errno.ENOSPC, f"{path.name} needs {needed} bytes, {free} are free")
    try:
        # Without HDF5's file lock, which some network file systems lack: no other process knows
        # the temporary name.
        with atomic_path(path) as temporary, h5py.File(temporary, "w", locking=False) as file:
            written = _write_rows(file, count, stored, rows, as_jpeg)
            if written != count:
                raise ValueError(f"{path.name}: got {written} clips, expected {count}")
    except RuntimeError as exc:  # how h5py reports a failed write
        raise OSError(errno.EIO, f"{path.name} cannot be written: {exc}") from exc


def _write_rows(
    file: h5py.File, count: int, stored: Mapping[str, Field], rows: Rows, as_jpeg: bool
) -> int:
    """Write all rows into `file`; returns how many there were."""
    datasets = {
        name: file.create_dataset(name, (count, *field.shape), field.dtype, track_times=False)
        for name, field in stored.items()
        if not (as_jpeg and name == "frames")
    }
    pictures: list[bytes] = []
    previous, written = "", 0
    for clip, arrays in rows:
        if clip.clip_id <= previous:
            raise ValueError(f"clip {clip.clip_id} comes after {previous}, expected sorted")
        for name in stored:
            value = _value(clip, name, arrays)
            if name in datasets:
                datasets[name][written] = value
            else:
                pictures += jpeg.encode(value)
        previous, written = clip.clip_id, written + 1
    if as_jpeg:
        ends = np.cumsum([len(picture) for picture in pictures], dtype=np.uint64)
        flat = np.frombuffer(b"".join(pictures), np.uint8)
        file.create_dataset("frames_jpeg", data=flat, track_times=False)
        file.create_dataset("frames_end", data=ends.reshape(written, -1), track_times=False)
    return written


def _value(clip: Clip, name: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray | bytes | int:
    """A clip's value of a field: from its name, or from its computed arrays once checked."""
    if name in NAMED:
        return clip.clip_id.encode("ascii") if name == "clip_id" else getattr(clip, name)
    value, field = arrays[name], FIELDS[name]
    if (value.dtype, value.shape) != (field.dtype, field.shape):
        found, expected = (f"{each.dtype} {each.shape}" for each in (value, field))
        raise ValueError(f"{clip.clip_id}: {name} is {found}, expected {expected}")
    return value


@dataclass(frozen=True)
class Block:
    """Where a dataset is in its file: `count` rows of `size` bytes from byte `start`."""

    start: int
    count: int
    size: int


@dataclass
class Shard(AbstractContextManager):
    """An open shard: HDF5 said where its arrays are, and they are read from there without it.

    Reading needs no lock and no file position, so several threads may read at once.
    """

    path: Path
    _blocks: dict[str, Block]
    _descriptor: int
    clip_ids: list[str] = field(default_factory=list)  # of the rows

    def __contains__(self, name: str) -> bool:
        return name in self._blocks or (name == "frames" and self.is_jpeg)

    @property
    def is_jpeg(self) -> bool:
        """Whether frames are stored as JPEG files."""
        return "frames_jpeg" in self._blocks

    @property
    def computed(self) -> tuple[str, ...]:
        """The fields of `schema.COMPUTED` that the shard contains."""
        return tuple(name for name in COMPUTED if name in self)

    def read(self, name: str, row: int, out: np.ndarray | None = None) -> np.ndarray:
        """Read one field of one clip, with the type and shape of `schema.FIELDS`.

        The shard must contain the field; `row` is the clip's, 0..N-1, and `out` the contiguous
        array to fill, by default a new one. ValueError if `out` has the wrong type or shape,
        CacheError if the file cannot be read.
        """
        field = FIELDS[name]
        if out is None:
            out = np.empty(field.shape, field.dtype)
        elif (out.dtype, out.shape) != (field.dtype, field.shape) or not out.flags.c_contiguous:
            found, expected = (f"{each.dtype} {each.shape}" for each in (out, field))
            raise ValueError(f"out is {found}, expected contiguous {expected}")
        if name in self._blocks:
            block = self._blocks[name]
            self._fill(name, block.start + row * block.size, out)
        else:
            out[:] = self._decode_frames(row)
        return out

    def column(self, name: str) -> np.ndarray:
        """Read a field of all clips, (N, ...)."""
        block, field = self._blocks[name], (FIELDS | JPEG_FIELDS)[name]
        values = np.empty((block.count, *field.shape), field.dtype)
        self._fill(name, block.start, values)
        return values

    def _decode_frames(self, row: int) -> np.ndarray:
        files = self._blocks["frames_jpeg"]
        frames = FIELDS["frames"].shape[0]
        ends = [0, *self.column("frames_end").ravel().tolist()]
        cuts = ends[row * frames : (row + 1) * frames + 1]
        if cuts != sorted(cuts) or cuts[-1] > files.count:
            raise CacheError(f"{self.path}: frames_end is unsorted or past the end. {ADVICE}")
        pictures = []
        for start, end in pairwise(cuts):
            picture = np.empty(end - start, np.uint8)
            self._fill("frames_jpeg", files.start + start, picture)
            pictures.append(picture.tobytes())
        try:
            return jpeg.decode(pictures)
        except ValueError as exc:
            raise CacheError(f"{self.path}: row {row}: {exc}. {ADVICE}") from exc

    def _fill(self, name: str, start: int, values: np.ndarray) -> None:
        """Fill `values` with the bytes of the file from `start`."""
        left = memoryview(values.reshape(-1).view(np.uint8))
        while left:
            try:
                count = os.preadv(self._descriptor, [left], start)
            except OSError as exc:
                raise CacheError(f"{self.path}: cannot read {name} ({exc})") from exc
            if not count:
                raise CacheError(f"{self.path}: ends within {name}. {ADVICE}")
            left, start = left[count:], start + count

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def open_shard(path: Path | str) -> Shard:
    """Open a shard for reading, after checking that its structure is the schema's.

    A shard may come from a stranger, and HDF5 would silently follow links and external storage out
    of the file, decompress without bounds, and load plug-ins. So HDF5 only reads metadata here,
    and only plain contiguous datasets of the expected types and shapes pass that are inside the
    file and do not overlap. Their bytes are then read without HDF5. CacheError if the file is
    missing, damaged or not a shard.
    """
    path = Path(path)
    try:
        # No file lock: shards are never changed in place, and NFS or a read-only disk has none.
        with h5py.File(path, "r", locking=False) as file:
            blocks = _check_structure(file, path)
        shard = Shard(path, blocks, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except CacheError:
        raise
    except OSError as exc:
        raise CacheError(f"{path}: not a readable HDF5 file ({exc}). {ADVICE}") from exc
    except (TypeError, ValueError, RuntimeError, KeyError) as exc:  # from h5py, on damaged files
        raise CacheError(f"{path}: not a valid shard ({exc}). {ADVICE}") from exc
    # Damaged names become names that no clip has.
    shard.clip_ids = [name.decode("ascii", "replace") for name in shard.column("clip_id").tolist()]
    return shard


def _check_structure(file: h5py.File, path: Path) -> dict[str, Block]:
    """Where the datasets of `file` are; CacheError unless they are exactly those of the schema.

    The fields of `PICTURE` may be missing together, with landmarks only frames, those of `OPTIONAL`
    each; JPEG files may replace frames.
    """
    if len(file) > len(FIELDS) + len(JPEG_FIELDS):
        raise CacheError(f"{path}: {len(file)} objects at its root, expected the schema's datasets")
    names = set(file)
    expected = set(FIELDS) - (set(OPTIONAL) - names)
    if not names & {*PICTURE, *JPEG_FIELDS, "landmarks"}:
        expected -= set(PICTURE)
    elif names & set(JPEG_FIELDS):
        expected = (expected - {"frames"}) | set(JPEG_FIELDS)
    elif "landmarks" in names and "frames" not in names:
        expected -= {"frames"}
    if names != expected:
        odd = ", ".join(name[:40] for name in sorted(names ^ expected))
        raise CacheError(f"{path}: datasets {odd} are missing or unknown")
    if len(file.attrs):
        raise CacheError(f"{path}: has attributes, expected none")
    blocks = {name: _check_dataset(file, name, path) for name in sorted(names)}
    # All have one row per clip, but for the JPEG files.
    count = blocks["clip_id"].count
    for name, block in blocks.items():
        if block.count != count and name != "frames_jpeg":
            raise CacheError(f"{path}: {name} has {block.count} rows, clip_id has {count}")
    # All are inside the file, and none overlaps another.
    size, end, before = path.stat().st_size, 0, ""
    for start, name in sorted((block.start, name) for name, block in blocks.items()):
        if start < end:
            raise CacheError(f"{path}: {name} overlaps {before}")
        end, before = start + blocks[name].count * blocks[name].size, name
        if end > size:
            raise CacheError(f"{path}: has {size} bytes, but {name} ends at byte {end}")
    return blocks


def _check_dataset(file: h5py.File, name: str, path: Path) -> Block:
    """Where one dataset is; CacheError unless it is plain, with the type and shape of its field."""
    field = (FIELDS | JPEG_FIELDS)[name]
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise CacheError(f"{path}: {name} is a link, expected a dataset")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise CacheError(f"{path}: {name} is a {type(dataset).__name__}, expected a dataset")
    storage = dataset.id.get_create_plist()
    if (
        storage.get_layout() != h5py.h5d.CONTIGUOUS
        or storage.get_external_count()
        or storage.get_nfilters()
    ):
        raise CacheError(f"{path}: {name} is not stored as one contiguous block in the file")
    if dataset.id.get_type() != h5py.h5t.py_create(field.dtype, logical=True):
        raise CacheError(f"{path}: {name} has type {dataset.dtype}, expected {field.dtype}")
    if len(dataset.attrs):
        raise CacheError(f"{path}: {name} has attributes, expected none")
    if not dataset.shape or dataset.shape[1:] != field.shape:
        expected = ", ".join(map(str, ("N", *field.shape)))
        raise CacheError(f"{path}: {name} has shape {dataset.shape}, expected ({expected})")
    start = dataset.id.get_offset()
    if start is None:
        raise CacheError(f"{path}: {name} was never written")
    return Block(start, dataset.shape[0], _row_bytes(field))


def _row_bytes(field: Field) -> int:
    return field.dtype.itemsize * prod(field.shape)
