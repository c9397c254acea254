"""Whether an HDF5 file is laid out as a shard: asked of its metadata, before a byte is read."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import h5py

from cache.schema import FIELDS, JPEG_FIELDS, OPTIONAL, PICTURE


class CacheError(ValueError):
    """A cache, shard or manifest is not what it should be; the message says what to do."""


@dataclass(frozen=True)
class Block:
    """Where a dataset lies in its file: `count` rows of `size` bytes from `start` on."""

    start: int
    count: int
    size: int


def check_structure(file: h5py.File, path: Path) -> dict[str, Block]:
    """Where the datasets of `file` lie; CacheError unless they are exactly those of the schema.

    The picture's may be missing together, the optional ones each; JPEGs may stand for frames.
    """
    if len(file) > len(FIELDS) + len(JPEG_FIELDS):
        raise CacheError(f"{path}: {len(file)} things at its root, expected the schema's datasets")
    names = set(file)
    expected = set(FIELDS) - (set(OPTIONAL) - names)
    if not names & {*PICTURE, *JPEG_FIELDS}:
        expected -= set(PICTURE)
    elif names & set(JPEG_FIELDS):
        expected = (expected - {"frames"}) | set(JPEG_FIELDS)
    if names != expected:
        odd = ", ".join(name[:40] for name in sorted(names ^ expected))
        raise CacheError(f"{path}: datasets {odd} are missing or unknown")
    if len(file.attrs):
        raise CacheError(f"{path}: has attributes, expected none")
    size = path.stat().st_size
    blocks: dict[str, Block] = {}
    count = None
    for name in sorted(names):
        blocks[name] = _block(file, name, path, count, size)
        if name != "frames_jpeg":
            count = blocks[name].count
    end, before = 0, ""
    for start, name in sorted((block.start, name) for name, block in blocks.items()):
        if start < end:
            raise CacheError(f"{path}: {name} lies within {before}")
        end, before = start + blocks[name].count * blocks[name].size, name
    return blocks


def _block(file: h5py.File, name: str, path: Path, count: int | None, size: int) -> Block:
    """Where one dataset lies; `count` is the number of rows of the others, `size` of the file."""
    field = (FIELDS | JPEG_FIELDS)[name]
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise CacheError(f"{path}: {name} is a link out of its place, expected a dataset")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise CacheError(f"{path}: {name} is a {type(dataset).__name__}, expected a dataset")
    plain = dataset.id.get_create_plist()
    if (
        plain.get_layout() != h5py.h5d.CONTIGUOUS
        or plain.get_external_count()
        or plain.get_nfilters()
    ):
        raise CacheError(f"{path}: {name} is not stored as one contiguous block in the file")
    if dataset.id.get_type() != h5py.h5t.py_create(field.dtype, logical=True):
        raise CacheError(f"{path}: {name} has type {dataset.dtype}, expected {field.dtype}")
    if len(dataset.attrs):
        raise CacheError(f"{path}: {name} has attributes, expected none")
    rows = dataset.shape[0] if dataset.shape else 0
    if name == "frames_jpeg" or count is None:
        count = rows
    if dataset.shape != (count, *field.shape):
        raise CacheError(
            f"{path}: {name} has shape {dataset.shape}, expected {(count, *field.shape)}"
        )
    start = dataset.id.get_offset()
    if start is None:
        raise CacheError(f"{path}: {name} was never written")
    row_bytes = field.dtype.itemsize * prod(field.shape)
    if start + rows * row_bytes > size:
        raise CacheError(f"{path}: {size} bytes, {name} ends at {start + rows * row_bytes}")
    return Block(start, rows, row_bytes)
