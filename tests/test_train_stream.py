"""Clips from the cache to the trainer: each once, as it is in its shard, in few buffers."""

import threading

import pytest
import torch
from training import CPU, assert_clips_of_batches

from cache.reader import Cache
from train import stream
from train.stream import Clips, Resident, Streamed, place


@pytest.fixture
def make_clips(fold_cache):
    """Makes the clips of the cache for some fields and a number of frames."""
    cache = Cache(fold_cache)
    return lambda *fields, frames=30: Clips(cache, cache.clips, fields, frames)


@pytest.mark.parametrize("readers", [None, 1, 3])
def test_every_clip_comes_once_with_its_own_label_frames_and_sound(make_clips, readers):
    clips = make_clips("frames", "mfcc")
    source = Streamed(clips, readers) if readers else place(clips, CPU)[0]
    assert_clips_of_batches(source, clips, CPU)


def test_leaving_early_ends_the_reading_threads(make_clips):
    before = threading.active_count()
    batches = Streamed(make_clips("mfcc"), 2).batches(torch.arange(16).split(2), CPU)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_an_error_while_reading_reaches_the_trainer(make_clips, monkeypatch):
    clips = make_clips("mfcc")

    def broken(position, into, row):
        raise OSError("the disk is gone")

    monkeypatch.setattr(clips, "read", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        list(Streamed(clips, 2).batches(torch.arange(16).split(2), CPU))


def test_clips_are_streamed_if_they_do_not_fit_in_memory(make_clips, monkeypatch):
    assert make_clips("mfcc").bytes_per_clip == 13 * 212 * 4  # no field besides is read
    clips = make_clips("frames", "mfcc")
    assert clips.bytes_per_clip == 30 * 224 * 224 * 3 + 13 * 212 * 4
    for kind, where, limit in ((Resident, "in memory", 0), (Streamed, "streamed", -1)):
        monkeypatch.setattr(stream, "MEMORY_BYTES", 16 * clips.bytes_per_clip + limit)
        source, words = place(clips, CPU)
        assert isinstance(source, kind)
        assert words == f"0.07 GB of clips {where}"
