"""Where the raw clips lie: loose mp4 files, or the Zenodo zips side by side."""

import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cache.clips import AUDIO_ONLY, FULL_AV, SONG, VIDEO_ONLY, Clip
from cache.manifest import RAVDESS
from preprocess.decode import MAX_BYTES, ClipError

SAMPLE_NAME = "sample.json"

_RECORDINGS = {".mp4", ".wav"}
_KINDS = {FULL_AV: "full-AV", VIDEO_ONLY: "video-only", AUDIO_ONLY: "audio-only"}


@dataclass(frozen=True)
class Source:
    """One clip and where its bytes are: the file `path`, or the `member` of the zip `path`."""

    clip: Clip
    name: str
    path: Path
    member: str | None = None

    def read(self) -> bytes:
        """All bytes of the clip.

        Raises:
            ClipError: if the file or zip member cannot be read, or is far too large for a clip.
        """
        try:
            if self.member is None:
                with self.path.open("rb") as opened:
                    return opened.read(MAX_BYTES + 1)
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as opened:
                return opened.read(MAX_BYTES + 1)
        except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError) as exc:
            raise ClipError(f"cannot be read ({exc})") from exc


@dataclass
class Found:
    """What lies in a raw folder.

    Attributes:
        sources: the full-AV speech clips, one of each, sorted by `clip_id`.
        left_out: kind ("video-only", "audio-only", "song") to how many were passed over.
        failures: name to reason, for what looks like a clip and cannot be one.
        warnings: lines about everything else that lies there.
    """

    sources: list[Source] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def find_clips(raw: Path) -> Found:
    """Look through `raw` for RAVDESS clips, in `Actor_NN` folders, in zips, or loose.

    A clip that lies there twice is taken once: a loose file before one in a zip.

    Raises:
        FileNotFoundError: if `raw` is no folder.
    """
    if not raw.is_dir():
        raise FileNotFoundError(f"{raw}: no such folder, expected RAVDESS's Actor_NN or zips")
    found = Found()
    taken: dict[Clip, Source] = {}
    copies = 0
    for name, path, member in _recordings(raw, found):
        try:
            clip = Clip.parse(PurePosixPath(name).stem)
        except ValueError as exc:
            found.failures[name] = str(exc)
            continue
        if not clip.is_full_av_speech:
            kind = "song" if clip.channel == SONG else _KINDS[clip.modality]
            found.left_out[kind] = found.left_out.get(kind, 0) + 1
        elif clip in taken:
            copies += 1
        else:
            taken[clip] = Source(clip, name, path, member)
    if copies:
        found.warnings.append(f"{copies} clips lie there more than once: the first was taken")
    found.sources = [taken[clip] for clip in sorted(taken)]
    return found


def origin(raw: Path) -> dict[str, str]:
    """`dataset`, `license` and `citation` of the clips in `raw`, for the manifest."""
    marker = raw / SAMPLE_NAME
    if not marker.is_file():
        return RAVDESS
    seed = json.loads(marker.read_text(encoding="utf-8"))["seed"]
    return {
        "dataset": f"synthetic sample, seed {seed}",
        "license": "CC0 1.0",
        "citation": "Drawn by CFN-SR's preprocess.sample; it shows and says nothing of a person.",
    }


def _files(raw: Path) -> Iterator[Path]:
    """Every file below `raw` in sorted order, through linked folders, without hidden ones."""
    seen = set()
    for folder, folders, names in os.walk(raw, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _recordings(raw: Path, found: Found) -> Iterator[tuple[str, Path, str | None]]:
    """Name, path and zip member of every recording: loose files first, then those in zips.

    Anything else is noted in `found`.
    """
    zips = []
    for path in _files(raw):
        name = path.relative_to(raw).as_posix()
        if path.suffix.lower() == ".zip":
            zips.append((name, path))
        elif path.suffix.lower() in _RECORDINGS:
            yield name, path, None
        elif path.name != SAMPLE_NAME:
            found.warnings.append(f"{name} is no RAVDESS clip: left alone")
    for name, path in zips:
        try:
            with zipfile.ZipFile(path) as archive:
                members = sorted(archive.namelist())
        except (OSError, zipfile.BadZipFile) as exc:
            found.failures[name] = f"not a readable zip ({exc}). Download it again"
            continue
        for member in members:
            if PurePosixPath(member).suffix.lower() in _RECORDINGS:
                yield f"{name}/{member}", path, member
