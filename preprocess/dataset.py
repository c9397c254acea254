"""Where the raw clips lie: loose files, or the Zenodo zips side by side."""

import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from cache import ravdess
from cache.manifest import CONTROL
from cache.ravdess import AUDIO_ONLY, FULL_AV, SONG, VIDEO_ONLY, Clip
from preprocess.decode import MAX_BYTES, ClipError
from preprocess.settings import Settings

SAMPLE_NAME = "sample.json"

_VIDEO = {".mp4"}
_SOUND = {".wav", ".flac"}
_TABLE = {".csv"}
_KINDS = {FULL_AV: "full-AV", VIDEO_ONLY: "video-only", AUDIO_ONLY: "audio-only"}


@dataclass(frozen=True)
class RawFile:
    """The file `path`, or the `member` of the zip `path`; `name` is for people."""

    name: str
    path: Path
    member: str | None = None

    def read(self) -> bytes:
        """All bytes, or the first `MAX_BYTES` + 1 of a file that is too large for a clip.

        Raises:
            ClipError: if the file or zip member cannot be read.
        """
        try:
            if self.member is None:
                with self.path.open("rb") as opened:
                    return opened.read(MAX_BYTES + 1)
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as opened:
                return opened.read(MAX_BYTES + 1)
        except (OSError, zipfile.BadZipFile, EOFError, RuntimeError) as exc:
            # RuntimeError is zipfile's for a member that is encrypted or packed in a way it lacks.
            raise ClipError(f"{self.name} cannot be read ({exc})") from exc


@dataclass(frozen=True)
class Source:
    """One clip, its file, and the recording and landmarks that belong to it where wanted."""

    clip: Clip
    file: RawFile
    recording: RawFile | None = None
    landmarks: RawFile | None = None

    @property
    def name(self) -> str:
        """The name of the clip's file within the raw folder."""
        return self.file.name


@dataclass
class Found:
    """What lies in a raw folder.

    Attributes:
        sources: the wanted clips, one of each, sorted by `clip_id`.
        left_out: kind ("video-only", "audio-only", "song", ...) to how many were passed over.
        failures: name to reason, for what looks like a clip and cannot be one.
        warnings: lines about everything else that lies there.
    """

    sources: list[Source] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def find_clips(raw: Path, settings: Settings, landmarks: Path | None = None) -> Found:
    """Look through `raw` for RAVDESS clips, in `Actor_NN` folders, in zips, or loose.

    A clip that lies there twice is taken once: a loose file before one in a zip.

    Args:
        raw: the folder.
        settings: say whether the clips are videos or recordings, and what must come with them.
        landmarks: folder with landmark CSVs or their zip, for `faces="landmarks"`.

    Raises:
        FileNotFoundError: if `raw` or `landmarks` is no folder.
    """
    found = Found()
    recordings = _by_clip(raw, _SOUND, found)
    videos = _by_clip(raw, _VIDEO, found)
    wanted, modality = (videos, FULL_AV) if settings.modality == "av" else (recordings, AUDIO_ONLY)
    for clip, file in sorted((videos | recordings).items()):
        if clip.channel == SONG or clip.modality != modality:
            kind = "song" if clip.channel == SONG else _KINDS[clip.modality]
            paired = settings.audio == "wav" and kind == "audio-only"
            found.left_out[kind] = found.left_out.get(kind, 0) + (not paired)
        elif clip in wanted:
            found.sources.append(Source(clip, wanted[clip]))
        else:
            found.failures[file.name] = f"is named {_KINDS[modality]}, but is not such a file"
    found.left_out = {kind: count for kind, count in found.left_out.items() if count}
    _warn_of_others(raw, found)
    if settings.modality == "av" and settings.audio == "wav":
        _join(found, "recording", recordings, AUDIO_ONLY)
    if settings.modality == "av" and settings.faces == "landmarks":
        _join(found, "landmarks", _by_clip(landmarks, _TABLE, found), FULL_AV)
    return found


def origin(raw: Path, modality: str = "av") -> dict[str, str]:
    """`dataset`, `license` and `citation` of the clips in `raw`, for the manifest.

    Args:
        raw: the folder.
        modality: of the cache, "av" or "audio".

    Raises:
        ValueError: if the folder is marked as a sample and the mark cannot be read.
    """
    marker = raw / SAMPLE_NAME
    if not marker.is_file():
        return ravdess.FULL_AV_ORIGIN if modality == "av" else ravdess.AUDIO_ONLY_ORIGIN
    try:
        seed = int(json.loads(marker.read_text(encoding="utf-8"))["seed"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ValueError(f"{marker}: not the mark of a sample ({exc!r}). Draw it again") from exc
    return ravdess.sample_origin(seed)


def _join(found: Found, what: str, files: dict[Clip, RawFile], modality: int) -> None:
    """Give every source its recording or landmarks; those without become failures."""
    sources = []
    for source in found.sources:
        partner = replace(source.clip, modality=modality)
        if partner in files:
            sources.append(replace(source, **{what: files[partner]}))
        else:
            found.failures[source.name] = f"no {what} {partner.clip_id} for this clip"
    found.sources = sources


def _by_clip(folder: Path | None, suffixes: set[str], found: Found) -> dict[Clip, RawFile]:
    """The first file of each clip with one of these suffixes, loose files before zip members."""
    if folder is None or not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder, expected RAVDESS's files or zips")
    files: dict[Clip, RawFile] = {}
    for file in _raw_files(folder, suffixes, found):
        try:
            clip = Clip.parse(PurePosixPath(file.name).stem)
        except ValueError as exc:
            found.failures[file.name] = str(exc)
            continue
        if clip in files:
            found.warnings.append(f"{file.name} is there again: {files[clip].name} was taken")
        else:
            files[clip] = file
    return files


def _raw_files(folder: Path, suffixes: set[str], found: Found) -> Iterator[RawFile]:
    paths = list(_walk(folder, found))
    for path in paths:
        if path.suffix.lower() in suffixes:
            yield RawFile(_name(path, folder), path)
    for path in paths:
        if path.suffix.lower() != ".zip":
            continue
        name = _name(path, folder)
        try:
            with zipfile.ZipFile(path) as archive:
                members = sorted(archive.namelist())
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as exc:
            found.failures[name] = f"not a readable zip ({exc}). Download it again"
            continue
        for member in members:
            hidden = PurePosixPath(member).name.startswith(".")
            if PurePosixPath(member).suffix.lower() in suffixes and not hidden:
                yield RawFile(f"{name}/{member}", path, member)


def _warn_of_others(raw: Path, found: Found) -> None:
    known = _VIDEO | _SOUND | _TABLE | {".zip"}
    for path in _walk(raw, found):
        if path.suffix.lower() not in known and path.name != SAMPLE_NAME:
            found.warnings.append(f"{_name(path, raw)} is no RAVDESS clip: left alone")


def _name(path: Path, folder: Path) -> str:
    """A path below `folder` for people and for JSON, whatever bytes it is made of."""
    name = path.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", name)


def _walk(folder: Path, found: Found) -> Iterator[Path]:
    """Every file below `folder` in sorted order, through linked folders, without hidden ones.

    What cannot be looked into, or is no plain file, is a failure.
    """

    def note(exc: OSError) -> None:
        found.failures[_name(Path(exc.filename), folder)] = f"cannot be read ({exc.strerror})"

    seen = set()
    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(parent, name) for name in sorted(names) if not name.startswith(".")):
            if path.is_file():
                yield path
            else:
                found.failures[_name(path, folder)] = "is no plain file"
