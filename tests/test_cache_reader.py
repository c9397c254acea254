import multiprocessing
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from cache.ravdess import expected_clips
from cache.reader import Cache
from cache.shard import CacheError

CLIPS = [*expected_clips(3)[:2], *expected_clips(4)[5:7]]


def test_every_clip_is_read_from_its_own_row(noise_cache):
    cache = Cache(noise_cache(CLIPS))
    assert cache.clips == sorted(CLIPS)
    for clip in CLIPS:
        assert cache.read(clip.clip_id, "clip_id") == clip.clip_id.encode()
        assert cache.read(clip.clip_id, "label") == clip.label
        assert cache.read(clip.clip_id, "frames").shape == (30, 224, 224, 3)
        assert cache.read(clip.clip_id, "mfcc").dtype == np.float32


def test_clips_of_actors_are_those_of_these_actors(noise_cache):
    cache = Cache(noise_cache(CLIPS))
    assert {clip.actor for clip in cache.of_actors((4, 9))} == {4}
    assert len(cache.of_actors((3, 4))) == 4


def test_a_clip_that_is_not_there_is_named(noise_cache):
    with pytest.raises(CacheError, match="no clip 01-01-08-02-02-02-24"):
        Cache(noise_cache(CLIPS)).read("01-01-08-02-02-02-24", "mfcc")


def test_another_process_opens_its_own_files(noise_cache):
    cache = Cache(noise_cache(CLIPS))
    wanted = cache.read(CLIPS[0].clip_id, "mfcc")  # opens a shard here first
    copy = pickle.loads(pickle.dumps(cache))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(copy.read, CLIPS[0].clip_id, "mfcc").result()
    np.testing.assert_array_equal(there, wanted)


def test_a_read_only_folder_can_be_read(noise_cache):
    directory = noise_cache(CLIPS)
    for path in (*directory.iterdir(), directory):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert Cache(directory).read(CLIPS[0].clip_id, "label") == CLIPS[0].label
    finally:
        directory.chmod(0o755)


def test_shards_that_changed_places_are_noticed(noise_cache):
    directory = noise_cache(CLIPS)
    shutil.copy(directory / "actor_03.h5", directory / "actor_04.h5")
    cache = Cache(directory)
    with pytest.raises(CacheError, match="are not the 2 of the manifest"):
        cache.read(CLIPS[2].clip_id, "mfcc")


def test_threads_may_read_side_by_side(noise_cache):
    cache = Cache(noise_cache(CLIPS))
    names = [clip.clip_id for clip in CLIPS]
    wanted = {name: Cache(cache.directory).read(name, "frames") for name in names}
    with ThreadPoolExecutor(8) as pool:
        for name, frames in pool.map(lambda name: (name, cache.read(name, "frames")), names * 16):
            assert (frames == wanted[name]).all()


def test_a_callers_array_is_filled_and_a_wrong_one_refused(noise_cache):
    cache = Cache(noise_cache(CLIPS))
    name = CLIPS[0].clip_id
    out = np.zeros((30, 224, 224, 3), np.uint8)
    assert cache.read(name, "frames", out=out) is out
    np.testing.assert_array_equal(out, cache.read(name, "frames"))
    for wrong in (out[:29], out.astype(np.int8), np.zeros((3, 224, 224, 30), np.uint8).T):
        with pytest.raises(ValueError, match="expected uint8"):
            cache.read(name, "frames", out=wrong)


def test_a_shard_that_shrinks_while_it_is_open_is_named(noise_cache):
    cache = Cache(noise_cache(CLIPS))
    cache.read(CLIPS[0].clip_id, "label")
    with (cache.directory / "actor_03.h5").open("r+b") as file:
        file.truncate(4096)
    with pytest.raises(CacheError, match=r"actor_03\.h5: ends within frames"):
        cache.read(CLIPS[1].clip_id, "frames")
