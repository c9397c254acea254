"""Take the recordings out of a zip that nobody vouches for."""

import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from cache.files import atomic_path
from cache.transfer import DownloadError

# Anything else (.DS_Store, __MACOSX/._01-01-...) stays in the zip.
_RECORDING = re.compile(r"(?:[\w-]+/)*[\w-]+\.(?:mp4|wav|csv)", re.ASCII)
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1


def unpack(path: Path, folder: Path, *, members: int, most_bytes: int) -> tuple[int, int]:
    """Write the recordings in a zip below `folder`; nothing if anything in the zip is amiss.

    A recording that lies there with the same size is left alone: each appears whole or not at
    all. Members that are no .mp4, .wav or .csv stay in the zip.

    Args:
        path: the zip.
        folder: made if missing.
        members: how many recordings it should hold; with twice as many members it is refused.
        most_bytes: the most that its members may hold together.

    Returns:
        How many recordings were written, and how many lay there.

    Raises:
        DownloadError: if the zip is refused, or a recording lies there with another size.
        OSError: if a recording cannot be written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            recordings = _checked(archive.infolist(), members, most_bytes)
            missing = [info for info in recordings if _is_missing(info, folder)]
            for info in missing:
                final = folder / info.filename
                final.parent.mkdir(parents=True, exist_ok=True)
                with (
                    atomic_path(final) as temporary,
                    archive.open(info) as source,
                    temporary.open("wb") as sink,
                ):
                    # zipfile reads no more than the size declared, and checks the CRC at the end.
                    shutil.copyfileobj(source, sink, 1 << 20)
                    if sink.tell() != info.file_size:
                        raise zipfile.BadZipFile(f"{info.filename} ends early")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as exc:
        raise DownloadError(f"is a damaged zip ({exc}). Delete it and run again") from exc
    return len(missing), len(recordings) - len(missing)


def _checked(infos: list[zipfile.ZipInfo], members: int, most_bytes: int) -> list[zipfile.ZipInfo]:
    """The recordings among the members of a zip that is safe to unpack.

    Raises:
        DownloadError: if one of them would lie outside the folder, is no plain file, comes twice,
            or if they are too many or too large.
    """
    if len(infos) > 2 * members:
        raise _refused(f"holds {len(infos)} members, expected about {members}")
    total = sum(info.file_size for info in infos)
    if total > most_bytes:
        raise _refused(f"would unpack to {total} bytes, expected {most_bytes} at most")
    seen = set()
    for info in infos:
        name = info.orig_filename  # filename is cut at a NUL
        mode = stat.S_IFMT(info.external_attr >> 16)
        kind = stat.S_IFDIR if info.is_dir() else stat.S_IFREG
        if not _stays_inside(name):
            raise _refused(f"holds {name!r}, expected names below its own folder")
        if mode not in (0, kind):  # 0 where the zip was not made on Unix
            raise _refused(f"holds {name!r}, a link or special file, expected plain files")
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
            raise _refused(f"holds {name!r}, encrypted or packed otherwise than with deflate")
        if name.lower() in seen:
            raise _refused(f"holds {name!r} twice")
        seen.add(name.lower())
    return [info for info in infos if _RECORDING.fullmatch(info.filename)]


def _stays_inside(name: str) -> bool:
    """Whether a member's name leads below the folder it is unpacked in, on any system."""
    parts = name.removesuffix("/").split("/")
    return (
        name.isprintable() and not {"", ".", ".."}.intersection(parts) and not set(name) & {*"\\:"}
    )


def _is_missing(info: zipfile.ZipInfo, folder: Path) -> bool:
    final = folder / info.filename
    if not final.exists():
        return True
    size = final.stat().st_size
    if size != info.file_size:
        raise DownloadError(
            f"{final} lies there with {size} bytes, expected {info.file_size}. "
            "Delete it to have it unpacked again; nothing of this zip was unpacked"
        )
    return False


def _refused(reason: str) -> DownloadError:
    return DownloadError(f"{reason}: nothing was unpacked")
