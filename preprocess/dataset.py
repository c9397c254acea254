"""Finds the raw clips in a folder: loose files, or Zenodo's zips as they were downloaded."""

import json
import lzma
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from cache import ravdess
from cache.files import zip_members
from cache.manifest import CONTROL
from cache.ravdess import AUDIO_ONLY, FULL_AV, SONG, VIDEO_ONLY, Clip
from preprocess.landmarks import MAX_TABLE_BYTES
from preprocess.limits import MAX_BYTES, ClipError
from preprocess.settings import Settings

SAMPLE_NAME = "sample.json"

_VIDEO = {".mp4"}
_SOUND = {".wav", ".flac"}
_TABLE = {".csv"}
_FOLDER = re.compile(r"Actor_(\d+)")
_KINDS = {FULL_AV: "full-AV", VIDEO_ONLY: "video-only", AUDIO_ONLY: "audio-only"}

# What reading a file or a damaged zip may raise: RuntimeError for encryption and unknown methods,
# ValueError for names that are not text, KeyError for a member that has gone.
_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, KeyError)
_UNREADABLE += (zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class RawFile:
    """The file `path`, or the `member` of the zip `path`; `name` is for messages."""

    name: str
    path: Path
    member: str | None = None

    def read(self) -> bytes:
        """All bytes, or one more than allowed of a larger file; ClipError if unreadable."""
        most = MAX_TABLE_BYTES if self.suffix in _TABLE else MAX_BYTES
        try:
            if self.member is None:
                with self.path.open("rb") as opened:
                    return opened.read(most + 1)
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as opened:
                return opened.read(most + 1)
        except _UNREADABLE as exc:
            raise ClipError(f"{self.name} cannot be read ({exc})") from exc

    @property
    def suffix(self) -> str:
        """The extension of the name in lower case, `.mp4`."""
        return PurePosixPath(self.name).suffix.lower()


@dataclass(frozen=True)
class Source:
    """One clip: its file, and its separate recording and landmarks where the settings need them."""

    clip: Clip
    file: RawFile
    recording: RawFile | None = None
    landmarks: RawFile | None = None

    @property
    def name(self) -> str:
        """The name of the clip's file within the raw folder."""
        return self.file.name

    @property
    def files(self) -> dict[str, RawFile]:
        """All files, the clip's first, by the names of `preprocess.clip.compute`'s arguments."""
        named = {"content": self.file, "recording": self.recording, "landmarks": self.landmarks}
        return {name: file for name, file in named.items() if file}

    def stamps(self) -> list[list[int]]:
        """Size, ctime, inode and mtime of each file: while all stay the same, so do the bytes.

        Copies can keep an mtime, but not a ctime. Raises OSError if a file is missing.
        """
        stats = [file.path.stat() for file in self.files.values()]
        return [[each.st_size, each.st_ctime_ns, each.st_ino, each.st_mtime_ns] for each in stats]


@dataclass
class Found:
    """What a raw folder contains."""

    sources: list[Source] = field(default_factory=list)  # wanted, each once, sorted by `clip_id`
    skipped: Counter[str] = field(default_factory=Counter)  # the number of others, such as "song"
    # Name to reason, of files that should be clips but cannot be used.
    failures: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)  # one line for each other file


def find_clips(raw: Path | str, settings: Settings, landmarks: Path | str | None = None) -> Found:
    """Find the RAVDESS clips in `raw`: in `Actor_NN` folders, in zips, or loose.

    If a clip is found twice, the first file is used; loose files come before zips. Recordings with
    landmarks are named as the video of both, `01-...`. CSVs of landmarks, if settings need them,
    are in the folder or zip `landmarks`. ValueError if a folder is missing.
    """
    found = Found()
    files = _list_files(raw, found)
    videos = _by_clip(files, _VIDEO, found)
    recordings = _by_clip(files, _SOUND, found)
    wanted, modality = (videos, FULL_AV) if settings.has_video else (recordings, AUDIO_ONLY)
    needs_recordings = settings.has_video and settings.audio == "wav" and bool(videos)
    for clip, file in sorted((videos | recordings).items()):
        if clip.channel == SONG:
            found.skipped["song"] += 1
        elif clip.modality != modality:
            if not (needs_recordings and clip.modality == AUDIO_ONLY):
                found.skipped[_KINDS[clip.modality]] += 1
        elif clip in wanted:
            found.sources.append(Source(clip, wanted[clip]))
        else:
            expected = " or ".join(sorted(_VIDEO if settings.has_video else _SOUND))
            found.failures[file.name] = f"named as a {_KINDS[modality]} clip, expected {expected}"
    known = _VIDEO | _SOUND | _TABLE | {".zip"}
    for file in files:
        if file.suffix not in known and file.member is None and file.name != SAMPLE_NAME:
            found.warnings.append(f"{file.name} is ignored, because it is not a RAVDESS clip")
    if needs_recordings:
        _join(found, "recording", ".wav or .flac", recordings, AUDIO_ONLY)
    if settings.has_tables:
        tables = _by_clip(_list_files(landmarks, found), _TABLE, found)
        _join(found, "landmarks", ".csv", tables, FULL_AV)
        found.sources = [replace(s, clip=replace(s.clip, modality=FULL_AV)) for s in found.sources]
    return found


def concerns(name: str, only: Collection[int]) -> bool:
    """Whether a file may be of one of these actors, by its folders and its name."""
    actors = _actors_of_folders(name)
    with suppress(ValueError):
        actors.add(Clip.parse(PurePosixPath(name).stem).actor)
    return not actors or not actors.isdisjoint(only)


def _actors_of_folders(name: str) -> set[int]:
    """The actors in the names of a file's folders and its zip."""
    return {int(number) for number in _FOLDER.findall(name)}


def has_videos(raw: Path) -> bool:
    """Whether there is any full-AV clip in `raw`, loose or in a zip."""
    clips = _by_clip(_list_files(raw, Found()), _VIDEO, Found())
    return any(clip.modality == FULL_AV for clip in clips)


def origin(raw: Path, modality: str = "av") -> dict[str, str]:
    """The origin of a cache of `raw`; ValueError if its mark as a sample is damaged."""
    marker = raw / SAMPLE_NAME
    if not marker.is_file():
        return ravdess.ORIGINS[modality]
    try:
        seed = int(json.loads(marker.read_text(encoding="utf-8"))["seed"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ValueError(f"{marker}: not a valid sample file ({exc!r}). Generate it again") from exc
    return ravdess.sample_origin(seed)


def _join(found: Found, what: str, suffix: str, files: dict[Clip, RawFile], modality: int) -> None:
    """Give every source its recording or landmarks; those without become failures."""
    sources, found.sources = found.sources, []
    for source in sources:
        partner = replace(source.clip, modality=modality)
        if partner in files:
            found.sources.append(replace(source, **{what: files[partner]}))
        else:
            found.failures[source.name] = f"no {what}, expected {partner.clip_id}{suffix}"


def _by_clip(files: list[RawFile], suffixes: set[str], found: Found) -> dict[Clip, RawFile]:
    """The first file of each clip, of the files with these suffixes."""
    chosen: dict[Clip, RawFile] = {}
    for file in [file for file in files if file.suffix in suffixes]:
        try:
            clip = Clip.parse(PurePosixPath(file.name).stem)
        except ValueError as exc:
            found.failures[file.name] = str(exc)
            continue
        if others := _actors_of_folders(file.name) - {clip.actor}:
            problem = f"named as actor {clip.actor}, but in the folder of actor {min(others)}"
            advice = "Move the file to the folder of its actor, or rename it"
            found.failures[file.name] = f"{problem}. {advice}"
        elif other := chosen.get(clip):
            found.warnings.append(f"{file.name} is ignored, because {other.name} is the same clip")
        else:
            chosen[clip] = file
    return chosen


def _list_files(folder: Path | str, found: Found) -> list[RawFile]:
    """All loose files of a folder, then the members of its zips, without hidden ones."""
    folder = Path(folder)
    if folder.is_file() and folder.suffix.lower() == ".zip":
        files = [RawFile(_text(folder.name), folder)]
    elif folder.is_dir():
        files = [RawFile(_text(path.relative_to(folder)), path) for path in _walk(folder, found)]
    else:
        raise ValueError(f"{folder}: no such folder, expected RAVDESS's clips or zips there")
    for archive in [file for file in files if file.suffix == ".zip"]:
        try:
            members = sorted(member.filename for member in zip_members(archive.path))
        except _UNREADABLE as exc:
            found.failures[archive.name] = f"not a readable zip ({exc}). Download it again"
            continue
        for member in members:
            if not PurePosixPath(member).name.startswith("."):
                files.append(RawFile(_text(f"{archive.name}/{member}"), archive.path, member))
    return files


def _text(name: Path | str) -> str:
    """A name for messages and JSON; bytes that are not text are escaped."""
    name = str(name).encode("utf-8", "backslashreplace").decode()
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", name)


def _walk(folder: Path, found: Found) -> Iterator[Path]:
    """Every file below `folder` in sorted order, through linked folders, without hidden ones.

    Folders that cannot be read, and what is not a regular file, become failures.
    """

    def note(exc: OSError) -> None:
        name = _text(os.path.relpath(exc.filename, folder))
        found.failures[name] = f"cannot be read ({exc.strerror})"

    seen = set()
    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(parent, name) for name in sorted(names) if not name.startswith(".")):
            if path.is_file():
                yield path
            else:
                found.failures[_text(path.relative_to(folder))] = "is not a regular file"
