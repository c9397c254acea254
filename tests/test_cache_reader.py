"""Caches are read clip by clip, and checked against their manifest."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor

import h5py
import numpy as np
import pytest

from cache.__main__ import main
from cache.ravdess import expected_clips
from cache.reader import Cache
from cache.schema import FIELDS
from cache.shard import CacheError, open_shard

CLIPS = [*expected_clips(3)[:2], *expected_clips(4)[5:7]]


def test_every_clip_is_read_from_its_own_row(noise_cache):
    cache = Cache(noise_cache(CLIPS))
    assert cache.clips == cache.of_actors((3, 4)) == sorted(CLIPS)
    assert cache.of_actors((4, 9)) == sorted(CLIPS[2:])
    for clip in CLIPS:
        assert cache.read(clip.clip_id, "clip_id") == clip.clip_id.encode()
        assert cache.read(clip.clip_id, "label") == clip.label
        assert cache.read(clip.clip_id, "frames").shape == FIELDS["frames"].shape
        assert cache.read(clip.clip_id, "mfcc").dtype == np.float32


def test_what_is_not_there_is_named(noise_cache):
    cache = Cache(noise_cache(CLIPS))
    with pytest.raises(CacheError, match="no clip 01-01-08-02-02-02-24"):
        cache.read("01-01-08-02-02-02-24", "mfcc")
    with pytest.raises(CacheError, match=r"its clips have no waveform, only frames"):
        cache.read(CLIPS[0].clip_id, "waveform")


def test_another_process_opens_its_own_files(noise_cache):
    cache = Cache(noise_cache(CLIPS))
    wanted = cache.read(CLIPS[0].clip_id, "mfcc")  # opens a shard here first
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(cache.read, CLIPS[0].clip_id, "mfcc").result()
    np.testing.assert_array_equal(there, wanted)


def test_a_read_only_folder_can_be_read(noise_cache):
    directory = noise_cache(CLIPS)
    for path in (*directory.iterdir(), directory):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert Cache(directory).read(CLIPS[0].clip_id, "label") == CLIPS[0].label
    finally:
        directory.chmod(0o755)


def test_a_callers_array_is_filled_and_a_wrong_one_refused(noise_cache):
    cache = Cache(noise_cache(CLIPS))
    name, shape = CLIPS[0].clip_id, FIELDS["frames"].shape
    out = np.zeros(shape, np.uint8)
    assert cache.read(name, "frames", out=out) is out
    np.testing.assert_array_equal(out, cache.read(name, "frames"))
    for wrong in (out[1:], out.astype(np.int8), np.zeros(shape[::-1], np.uint8).T):
        with pytest.raises(ValueError, match="expected contiguous uint8"):
            cache.read(name, "frames", out=wrong)


def test_a_shard_that_shrinks_while_it_is_open_is_named(noise_cache):
    cache = Cache(noise_cache(CLIPS))
    cache.read(CLIPS[0].clip_id, "label")
    with (cache.directory / "actor_03.h5").open("r+b") as file:
        file.truncate(4096)
    with pytest.raises(CacheError, match=r"actor_03\.h5: ends within frames"):
        cache.read(CLIPS[1].clip_id, "frames")


def problems(cache):
    return [problem for problem in Cache(cache).problems() if problem]


def test_a_valid_cache_has_no_problem_and_another_shard_is_named(noise_cache, capsys):
    cache = noise_cache(CLIPS)
    Cache(cache).check()
    assert main(["verify", str(cache)]) == 0
    assert "2 shards checked, 0 problems" in capsys.readouterr().out
    shutil.copy(cache / "actor_03.h5", cache / "actor_09.h5")
    assert "actor_09.h5: not in the manifest" in problems(cache)[0]


def test_a_flipped_bit_anywhere_in_a_shard_is_found(noise_cache):
    cache = noise_cache(CLIPS[2:3])
    path = cache / "actor_04.h5"
    random, content = np.random.default_rng(0), path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        # The first KiB are structure, which HDF5 checks too.
        for place in (*random.integers(0, 1024, 20), *random.integers(0, len(content), 80)):
            file.seek(place)
            file.write(bytes([content[place] ^ 1 << int(random.integers(0, 8))]))
            (found,) = problems(cache)
            assert str(path) in found
            file.seek(place)
            file.write(content[place : place + 1])
    assert problems(cache) == []


def test_a_shard_that_was_cut_anywhere_is_refused(noise_cache):
    cache = noise_cache(CLIPS[2:3])
    path = cache / "actor_04.h5"
    size = path.stat().st_size
    after = np.random.default_rng(0).integers(2**20, size, 50)
    for length in (*sorted(after)[::-1], *range(2**20, -1, -4096)):
        with path.open("r+b") as file:
            file.truncate(length)
        with pytest.raises(CacheError, match=r"actor_04\.h5"):
            open_shard(path)
        assert f"{length} bytes, manifest says {size}" in problems(cache)[0]


def swap(three, four):
    three.rename(three.with_suffix(".x"))
    four.rename(three)
    three.with_suffix(".x").rename(four)


def change_frames(three, _):
    """The same clip with other frames, as made with another crop."""
    with h5py.File(three, "r+") as file:
        file["frames"][0] = np.roll(file["frames"][0], 1)


def change_label(three, _):
    with h5py.File(three, "r+") as file:
        file["label"][0] = 7


@pytest.mark.parametrize(
    ("change", "full", "quick"),
    [
        (swap, ["actor_03.h5: sha256", "actor_04.h5: sha256"], "actor_03.h5: its 2 clips are not"),
        (lambda _, four: four.unlink(), ["actor_04.h5: missing"], "actor_04.h5: missing"),
        (change_frames, ["actor_03.h5: sha256"], None),
        (change_label, ["actor_03.h5: sha256"], "actor_03.h5: label does not match"),
    ],
)
def test_a_shard_of_another_manifest_is_named(noise_cache, capsys, change, full, quick):
    cache = noise_cache(CLIPS)
    change(cache / "actor_03.h5", cache / "actor_04.h5")
    assert main(["verify", str(cache)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(full)
    for line, expected in zip(lines, full, strict=True):
        assert expected in line
        assert "make features RAVDESS=DIR" in line
    if quick:
        with pytest.raises(CacheError, match=quick):
            Cache(cache).check()
    else:
        Cache(cache).check()


def test_only_the_shards_of_the_given_actors_are_checked_and_opened(noise_cache):
    directory = noise_cache(CLIPS)
    (directory / "actor_04.h5").unlink()
    cache = Cache(directory)
    cache.check([3])
    assert cache.read(CLIPS[0].clip_id, "label") == CLIPS[0].label
    with pytest.raises(CacheError, match=r"actor_04\.h5: missing"):
        cache.check([3, 4])
