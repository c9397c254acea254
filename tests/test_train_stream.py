"""Clips from the cache to the trainer: each once, as it is in its shard, in few buffers."""

import threading

import pytest
import torch
from training import CPU, assert_clips_of_batches

from cache.reader import Cache
from train import stream
from train.seeds import AUGMENTATION, ORDER, generator, seed_of
from train.stream import AHEAD, Clips, Resident, Streamed, place


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


def test_streaming_uses_a_few_buffers_each_unchanged_until_the_next_batch(make_clips):
    clips = make_clips("mfcc")
    source, addresses = Streamed(clips, 2), set()
    for _ in range(2):  # epochs
        for positions, fields, _ in source.batches(torch.arange(16).split(1), CPU):
            addresses.add(fields["mfcc"].data_ptr())
            expected = clips.cache.read(clips.clips[positions[0]].clip_id, "mfcc")
            assert torch.equal(fields["mfcc"][0], torch.from_numpy(expected))
    assert len(addresses) == AHEAD + 1


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


@pytest.mark.parametrize("count", [10, 16])
def test_frames_are_subsampled_evenly(make_clips, count):
    every, some = make_clips("frames"), make_clips("frames", frames=count)
    wide, narrow = every.buffers(1), some.buffers(1)
    every.read(3, wide, 0)
    some.read(3, narrow, 0)
    kept = [number * 30 // count for number in range(count)]
    assert torch.equal(narrow["frames"], wide["frames"][:, kept])


def test_random_numbers_differ_by_run_epoch_and_purpose_and_are_the_same_again():
    seeds = {seed_of(s, e, p) for s in (0, 1) for e in (0, 1) for p in (ORDER, AUGMENTATION)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    orders = [torch.randperm(50, generator=generator(0, epoch, ORDER)) for epoch in (1, 1, 2)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
