"""Files that appear whole or not at all."""

import errno
import fcntl
import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


MAX_ZIP_LIST_BYTES = 2**21  # of the list of members; that of RAVDESS's largest zip has a tenth


class BusyError(ValueError):
    """Another process is using a folder."""


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside `final`; move it there, synced, when the block succeeds.

    If the block raises, the temporary file is removed and `final` is as it was before. The
    temporary name starts with a dot and ends in `.tmp`, so no reader takes it for data.
    """
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
    sync(final.parent)  # so that the new name survives a power cut


def sync(path: Path) -> None:
    """Wait until a file is on the disk, or a folder, where its file system can do that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        refused = exc.errno in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF)
        if not (refused and path.is_dir()):  # vboxsf and old CIFS refuse folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock `folder`, created if missing, while the block runs; BusyError if another process has it.

    The lock is on the folder itself, so it leaves no file and ends with the process. On file
    systems without locks this does nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise BusyError(
                f"{folder}: another run is at work there. Wait for it, or choose another folder"
            ) from exc
        except OSError as exc:
            if exc.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
                raise
        yield
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what `atomic_path` left in `folder` when its process was killed."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()


def write_text(final: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(final) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(final: Path, content: Any) -> None:
    """Write `content` as sorted, indented UTF-8 JSON: the same content gives the same bytes."""
    write_text(final, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def load_template(path: Path, **filters: Callable) -> "jinja2.Template":
    """Load a jinja2 template: strict about missing values, and escaping for .html.j2.

    jinja2 belongs to the extras `share` and `report`, so it is imported here.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    return environment.get_template(path.name)


class _ZipList(io.FileIO):
    """A zip of which only the list of members is read, at once, by zipfile."""

    def read(self, size: int = -1) -> bytes:
        if size > MAX_ZIP_LIST_BYTES:  # each member would take ten times its entry in memory
            most = f"expected at most {MAX_ZIP_LIST_BYTES}"
            raise zipfile.BadZipFile(f"its list of files has {size} bytes, {most}")
        return super().read(size)


def zip_members(path: Path) -> list[zipfile.ZipInfo]:
    """The members of a zip; BadZipFile if it is damaged, or its list is too long to be read."""
    with _ZipList(path) as opened, zipfile.ZipFile(opened) as archive:
        return archive.infolist()


def sha256_file(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
