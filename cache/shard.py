"""One HDF5 file with all clips of one actor: written whole, checked before it is read."""

import errno
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path

import h5py
import numpy as np

from cache import jpeg
from cache.files import atomic_path
from cache.ravdess import Clip
from cache.schema import COMPUTED, FIELDS, JPEG_FIELDS, NAMED, Field
from cache.structure import Block, CacheError, check_structure

_SPARE_BYTES = 2**20  # for HDF5's own structure
_ADVICE = "Fetch it again, or delete it and run `make features`"


def write_shard(
    path: Path,
    count: int,
    computed: Collection[str],
    rows: Iterable[tuple[Clip, Mapping]],
    *,
    as_jpeg: bool = False,
) -> None:
    """Write `count` clips as one shard; the same rows always give the same bytes.

    Args:
        path: where the shard appears, whole, when all rows are written.
        count: how many rows `rows` yields; the datasets are contiguous, so it is needed ahead.
        computed: which of `schema.COMPUTED` the rows hold.
        rows: a clip and its computed arrays, in the order of `clip_id`. Only one row is held in
            memory (of JPEGs all, some 35 MB).
        as_jpeg: whether frames are stored as JPEGs.

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
        # Without HDF5's lock, which some network file systems do not have: nobody else knows the
        # temporary name.
        with atomic_path(path) as temporary, h5py.File(temporary, "w", locking=False) as file:
            written = _write(file, count, stored, rows, as_jpeg)
            if written != count:
                raise ValueError(f"{path.name}: {written} clips came, expected {count}")
    except RuntimeError as exc:  # HDF5's way to say that a write failed
        raise OSError(errno.EIO, f"{path.name} cannot be written: {exc}") from exc


def _write(
    file: h5py.File,
    count: int,
    stored: Mapping[str, Field],
    rows: Iterable[tuple[Clip, Mapping]],
    as_jpeg: bool,
) -> int:
    datasets = {
        name: file.create_dataset(name, (count, *field.shape), field.dtype, track_times=False)
        for name, field in stored.items()
        if not (as_jpeg and name == "frames")
    }
    pictures: list[bytes] = []
    previous = ""
    written = 0
    for row, (clip, arrays) in enumerate(rows):
        if clip.clip_id <= previous:
            raise ValueError(f"clip {clip.clip_id} comes after {previous}, expected sorted")
        previous = clip.clip_id
        for name, dataset in datasets.items():
            value = arrays[name] if name in COMPUTED else _from_name(clip, name)
            dataset[row] = _checked(clip, name, value)
        if as_jpeg:
            pictures += jpeg.encode(_checked(clip, "frames", arrays["frames"]))
        written += 1
    if as_jpeg:
        ends = np.cumsum([len(picture) for picture in pictures], dtype=np.uint64)
        flat = np.frombuffer(b"".join(pictures), np.uint8)
        file.create_dataset("frames_jpeg", data=flat, track_times=False)
        file.create_dataset("frames_end", data=ends.reshape(written, -1), track_times=False)
    return written


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


@dataclass
class Shard:
    """An opened shard: HDF5 has told where its arrays lie, and they are read from there.

    Reading needs no lock and holds no place in the file, so threads may read side by side.

    Attributes:
        path: the file.
        clip_ids: the clip of each row.
    """

    path: Path
    _blocks: dict[str, Block]
    _descriptor: int
    clip_ids: list[str] = field(default_factory=list)

    def __contains__(self, name: str) -> bool:
        return name in self._blocks or (name == "frames" and self.is_jpeg)

    @property
    def is_jpeg(self) -> bool:
        """Whether frames are stored as JPEGs."""
        return "frames_jpeg" in self._blocks

    @property
    def computed(self) -> tuple[str, ...]:
        """Which of `schema.COMPUTED` it holds."""
        return tuple(name for name in COMPUTED if name in self)

    def read(self, name: str, row: int, out: np.ndarray | None = None) -> np.ndarray:
        """One clip's value of a field, with the type and shape of `schema.FIELDS`.

        Args:
            name: of the field; it must be in the shard.
            row: 0..N-1.
            out: the array to fill, contiguous, of that type and shape; else a new one.

        Raises:
            CacheError: if it cannot be read.
        """
        field = FIELDS[name]
        if out is None:
            out = np.empty(field.shape, field.dtype)
        elif (out.dtype, out.shape) != (field.dtype, field.shape) or not out.flags.c_contiguous:
            raise ValueError(
                f"out is {out.dtype} {out.shape}, expected {field.dtype} {field.shape}"
            )
        if name not in self._blocks:
            out[:] = self._decoded(row)
            return out
        block = self._blocks[name]
        self._fill(name, block.start + row * block.size, out)
        return out

    def column(self, name: str) -> np.ndarray:
        """A field of all clips, one behind the other."""
        block, field = self._blocks[name], (FIELDS | JPEG_FIELDS)[name]
        values = np.empty((block.count, *field.shape), field.dtype)
        self._fill(name, block.start, values)
        return values

    def _decoded(self, row: int) -> np.ndarray:
        files = self._blocks["frames_jpeg"]
        frames = FIELDS["frames"].shape[0]
        ends = [0, *self.column("frames_end").ravel().tolist()]
        cuts = ends[row * frames : (row + 1) * frames + 1]
        if cuts != sorted(cuts) or cuts[-1] > files.count:
            raise CacheError(f"{self.path}: frames_end does not rise within frames_jpeg. {_ADVICE}")
        pictures = []
        for start, end in pairwise(cuts):
            picture = np.empty(end - start, np.uint8)
            self._fill("frames_jpeg", files.start + start, picture)
            pictures.append(picture.tobytes())
        try:
            return jpeg.decode(pictures)
        except ValueError as exc:
            raise CacheError(f"{self.path}: row {row}: {exc}. {_ADVICE}") from exc

    def _fill(self, name: str, start: int, values: np.ndarray) -> None:
        left = memoryview(values.reshape(-1).view(np.uint8))
        while left:
            try:
                count = os.preadv(self._descriptor, [left], start)
            except OSError as exc:
                raise CacheError(f"{self.path}: cannot read {name} ({exc})") from exc
            if not count:
                raise CacheError(f"{self.path}: ends within {name}. {_ADVICE}")
            left, start = left[count:], start + count

    def close(self) -> None:
        """Let go of the file; reading is over."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "Shard":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def open_shard(path: Path) -> Shard:
    """Open a shard for reading after checking that its structure is the schema's.

    A shard may come from a stranger, and HDF5 would follow links and external storage out of the
    file, unpack without bounds, and load plug-ins, without a word. So HDF5 is asked for metadata
    alone, and only plain contiguous datasets of the expected types and shapes pass, which lie
    within the file and apart; they are then read without it.

    Raises:
        CacheError: naming the file, what was found and what was expected.
    """
    try:
        # No file lock: shards are never changed in place, and NFS or a read-only disk has none.
        with h5py.File(path, "r", locking=False) as file:
            blocks = check_structure(file, path)
    except CacheError:
        raise
    except OSError as exc:
        raise CacheError(f"{path}: not a readable HDF5 file ({exc}). {_ADVICE}") from exc
    except (TypeError, ValueError, RuntimeError, KeyError) as exc:  # of h5py, on rot
        raise CacheError(f"{path}: not a sound shard ({exc}). {_ADVICE}") from exc
    try:
        shard = Shard(path, blocks, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as exc:
        raise CacheError(f"{path}: cannot be opened ({exc})") from exc
    # Bytes that no name has come out as they would never be.
    shard.clip_ids = [name.decode("ascii", "replace") for name in shard.column("clip_id").tolist()]
    return shard
