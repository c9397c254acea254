import multiprocessing
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from cache.clips import expected_clips
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
