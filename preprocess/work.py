"""The folder where finished clips wait for their shard, and what a stopped run left in it."""

import json
import os
import platform
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cache.files import atomic_path, sweep, write_json
from cache.shard import CacheError
from preprocess.settings import Settings

_STATE = "state.json"
_CLIP = "-".join(["[0-9][0-9]"] * 7)

# The libraries whose version can change a byte: of sound, of pictures, of faces by MTCNN.
_OF_SOUND = ("h5py", "librosa", "numpy", "scipy", "soxr")
_OF_PICTURES = ("av",)
_OF_MTCNN = ("facenet-pytorch", "torch", "torchvision")


def library_versions(settings: Settings) -> dict[str, str]:
    """The versions of what these settings use, as installed where this runs."""
    names = [*_OF_SOUND, *(_OF_PICTURES if settings.modality == "av" else ())]
    names += _OF_MTCNN if settings.modality == "av" and settings.faces == "mtcnn" else ()
    return {name: version(name) for name in sorted(names)}


@dataclass(frozen=True)
class Work:
    """Finished clips in `folder`: `<clip_id>.npz` with the arrays, `<clip_id>.json` the record.

    The record stays when the arrays have gone into a shard, until the manifest holds it.
    """

    folder: Path

    def exists(self) -> bool:
        """Whether a run is under way, or was stopped before its end."""
        return self.folder.is_dir()

    def begin(self, state: Mapping[str, Any]) -> None:
        """Make the folder, note what the clips in it are made from, sweep up after a kill."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        for leftover in self.folder.glob("*.running"):
            leftover.unlink()
        write_json(self.folder / _STATE, state)

    @contextmanager
    def mark(self, clip_id: str) -> Iterator[None]:
        """Mark a clip as under way; the mark outlives a worker that dies."""
        path = self.folder / f"{clip_id}.running"
        path.touch()
        yield
        # It may be gone: a worker that lost its cluster goes on for a clip beside the next run.
        path.unlink(missing_ok=True)

    def running(self) -> set[str]:
        """The clips under way, or under way when their worker died."""
        return {path.stem for path in self.folder.glob(f"{_CLIP}.running")}

    def state(self) -> dict[str, Any] | None:
        """What `begin` noted, or None if no run has begun here."""
        path = self.folder / _STATE
        if not path.is_file():
            return None
        state = self._load(path)
        if not all(isinstance(state.get(key), dict) for key in ("origin", "config", "versions")):
            raise self._damaged(path, "origin, config or versions is missing")
        return state

    def check_worker(self) -> None:
        """Raise CacheError unless this process can do the work: another machine may be unlike."""
        begun = self.state()
        if begun is None:
            raise CacheError(
                f"{self.folder}: not there on {platform.node()}. All workers must see the raw "
                "folder and the cache under the same paths"
            )
        differing = [
            f"{name} {version(name)}, expected {expected}"
            for name, expected in begun["versions"].items()
            if version(name) != expected
        ]
        if differing:
            raise CacheError(f"{platform.node()} has other versions: {'; '.join(differing)}")

    def save(
        self,
        clip_id: str,
        arrays: Mapping[str, np.ndarray],
        record: Mapping[str, Any],
        read_ns: int,
    ) -> None:
        """Keep a finished clip; a record is there only when its arrays are.

        The arrays' file has the time `read_ns` when the raw clip was about to be read, in
        nanoseconds of the epoch, so that a raw clip which changes later is noticed.
        """
        path = self.folder / f"{clip_id}.npz"
        with atomic_path(path) as temporary:
            with temporary.open("wb") as opened:
                np.savez(opened, **arrays)
            os.utime(temporary, ns=(read_ns, read_ns))
        write_json(self.folder / f"{clip_id}.json", record)

    def record(self, clip_id: str) -> dict[str, Any]:
        """A clip's entry for the manifest: `source`, `source_sha256`, `notes`."""
        return self._load(self.folder / f"{clip_id}.json")

    def note_shard(self, entry: Mapping[str, Any]) -> None:
        """Keep a written shard's entry for the manifest."""
        write_json(self.folder / f"{entry['file']}.json", entry)

    def shards(self) -> dict[str, dict[str, Any]]:
        """The entries of the shards that were written here, by file name."""
        entries = (self._load(path) for path in sorted(self.folder.glob("*.h5.json")))
        return {entry["file"]: entry for entry in entries}

    def records(self) -> dict[str, dict[str, Any]]:
        """The records of all clips that were finished here, by clip_id."""
        names = sorted(path.stem for path in self.folder.glob(f"{_CLIP}.json"))
        return {clip_id: self.record(clip_id) for clip_id in names}

    def waiting(self) -> set[str]:
        """The clips whose arrays wait here."""
        return {path.stem for path in self.folder.glob(f"{_CLIP}.npz")}

    def read_ns(self, clip_id: str) -> int:
        """When the raw file of a waiting clip was read, in nanoseconds of the epoch."""
        return (self.folder / f"{clip_id}.npz").stat().st_mtime_ns

    def arrays(self, clip_id: str) -> dict[str, np.ndarray]:
        """The arrays of a waiting clip, by the names of `schema.COMPUTED`."""
        path = self.folder / f"{clip_id}.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        except (ValueError, EOFError, zipfile.BadZipFile) as exc:
            raise self._damaged(path, exc) from exc

    def forget(self, clip_ids: Iterable[str]) -> None:
        """Drop the arrays of clips that are in their shard now."""
        for clip_id in clip_ids:
            (self.folder / f"{clip_id}.npz").unlink()

    def remove(self) -> None:
        """All is in the manifest: the folder goes."""
        shutil.rmtree(self.folder)

    def _load(self, path: Path) -> dict[str, Any]:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as exc:
            raise self._damaged(path, exc) from exc
        if not isinstance(content, dict):
            raise self._damaged(path, "no object")
        return content

    def _damaged(self, path: Path, reason: object) -> CacheError:
        return CacheError(
            f"{path}: damaged ({reason}). Remove {self.folder}: its clips are made again"
        )
