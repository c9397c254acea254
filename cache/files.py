"""Files that appear whole or not at all."""

import errno
import fcntl
import hashlib
import io
import json
import os
import platform
import secrets
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

LOCK_NAME = ".lock"
_SIGN_OF_LIFE_S = 30  # how often the process that has a lock file renews its mtime
_WRITTEN_S = 10  # the longest time from creating a lock file to its content


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

    Processes of this machine are kept out by a lock on the folder itself, which ends with the
    process. Other machines that share the folder do not see it. For them there is the file `.lock`,
    with the name of this machine and the number of the process; its mtime is renewed as a sign of
    life. One that a killed process of this machine left is taken over, and what `atomic_path` left
    is removed. A folder that cannot be written gets no file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise _busy(folder) from exc
        except OSError as exc:
            if exc.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
                raise
        with _lock_file(folder / LOCK_NAME):
            yield
    finally:
        os.close(descriptor)


def _busy(folder: Path, who: str = "", cure: str = "") -> BusyError:
    advice = f"Wait for it, or choose another folder{cure}"
    return BusyError(f"{folder}: another run is at work there{who}. {advice}")


@contextmanager
def _lock_file(path: Path) -> Iterator[None]:
    """Keep other machines out while the block runs; BusyError if one of them has the lock file."""
    own, ended = f"{platform.node()} {os.getpid()}", threading.Event()
    try:
        with suppress(FileNotFoundError):
            _remove_left_over(path)
        with path.open("x", encoding="utf-8") as opened:
            opened.write(own)
        sweep(path.parent)
        threading.Thread(target=_give_signs_of_life, args=(path, ended), daemon=True).start()
    except FileExistsError as exc:
        raise _busy(path.parent) from exc
    except OSError as exc:  # nobody can write the folder from here
        if exc.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    try:
        yield
    finally:
        ended.set()
        with suppress(OSError):  # the work is done, even if somebody has removed the file
            if path.read_text(encoding="utf-8") == own:
                path.unlink()


def _remove_left_over(path: Path) -> None:
    """Remove the lock file of a killed process of this machine; BusyError if it is another's."""
    if not path.stat().st_size:  # its process is about to write it, or was killed before it could
        time.sleep(_WRITTEN_S)
    host, _, pid = path.read_text(encoding="utf-8").partition(" ")
    if host not in ("", platform.node()):
        silent_s = time.time() - path.stat().st_mtime
        who = f", process {pid} on {host}, last active {silent_s:.0f} s ago"
        raise _busy(path.parent, who, f"; if it was killed, remove {path}")
    path.unlink()


def _give_signs_of_life(path: Path, ended: threading.Event) -> None:
    while not ended.wait(_SIGN_OF_LIFE_S):
        with suppress(OSError):  # the file server may be away for a while
            os.utime(path)


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
