"""Fixtures: small caches, and the folder of real recordings where there is one."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from media import put
from noise import write_noise_cache
from server import Server

from cache.files import write_json
from cache.ravdess import Clip, expected_clips
from preprocess.cli import main as preprocess_main
from preprocess.dataset import SAMPLE_NAME
from preprocess.sample import VERSION, clip_path, write_clip
from preprocess.windows import decode

# Of `make test`, which would add a note on its variables to each message.
os.environ.pop("CFNSR_NOTE_ON_FLAGS", None)


@pytest.fixture
def noise_cache(tmp_path: Path) -> Callable[[list[Clip]], Path]:
    """Makes a cache of noise for the clips that it is given."""
    return lambda clips: write_noise_cache(tmp_path / "cache", clips)


@pytest.fixture(scope="session")
def fold_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips each of actors 1..8: enough for fold 0 and fold 1 of the paper's split."""
    clips = [clip for actor in range(1, 9) for clip in expected_clips(actor)[:8:4]]
    return write_noise_cache(tmp_path_factory.mktemp("fold") / "cache", clips)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings, or a skip where there is none."""
    folder = os.environ.get("CFNSR_REAL_DATA")
    if not folder:
        pytest.skip("no real data (CFNSR_REAL_DATA is not set)")
    return Path(folder)


@pytest.fixture(scope="session")
def sample_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic sample on disk: one clip each of actors 1 and 5, two of actor 2."""
    out = tmp_path_factory.mktemp("sample")
    for take in ("03-01-01-01-01", "05-01-02-01-02", "08-02-01-02-02", "01-01-01-01-05"):
        clip = Clip.parse(f"01-01-{take}")
        clip_path(out, clip).parent.mkdir(exist_ok=True)
        write_clip(clip, 0, clip_path(out, clip))
    write_json(out / SAMPLE_NAME, {"seed": 0, "version": VERSION})
    return out


@pytest.fixture
def one_clip(sample_clips: Path, tmp_path: Path) -> Path:
    """A raw folder with one clip of that sample."""
    for name in ("Actor_01/01-01-03-01-01-01-01.mp4", SAMPLE_NAME):
        put(tmp_path / "raw", name, (sample_clips / name).read_bytes())
    return tmp_path / "raw"


@pytest.fixture(scope="session")
def built(sample_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of that sample, by one process; only read by tests."""
    cache = tmp_path_factory.mktemp("built") / "cache"
    assert preprocess_main(["--raw", str(sample_clips), "--cache", str(cache), "--jobs", "1"]) == 0
    return cache


@pytest.fixture(scope="session")
def sample_frames(sample_clips: Path) -> np.ndarray:
    """The 30 frames of one synthetic clip, uint8 RGB (30, 720, 1280, 3)."""
    path = clip_path(sample_clips, Clip.parse("01-01-03-01-01-01-01"))
    frames = decode(path.read_bytes()).frames
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads that wait for each other are slow where other programs use the cores."""
    torch.set_num_threads(1)


@pytest.fixture
def server() -> Iterator[Server]:
    """A web server of this test."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()
