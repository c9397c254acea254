import pytest
import torch

from cache.reader import Cache
from train import stream
from train.seeds import AUGMENTATION, ORDER, generator, seed_of
from train.stream import AHEAD, Clips, Resident, Streamed, place

CPU = torch.device("cpu")


def clips_of(fold_cache, frames=30, inputs=("frames", "mfcc")):
    cache = Cache(fold_cache)
    return Clips(cache, cache.clips, inputs, frames)


def source_of(kind, clips):
    if kind == "resident":
        source, _ = place(clips, CPU)
        assert isinstance(source, Resident)
        return source
    return Streamed(clips, readers=kind)


@pytest.mark.parametrize("kind", ["resident", 1, 3])
def test_every_clip_comes_once_with_its_own_label_picture_and_sound(fold_cache, kind):
    clips = clips_of(fold_cache)
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0))
    seen = []
    for positions, inputs, labels in source_of(kind, clips).batches(order.split(5), CPU):
        frames, mfcc = inputs["frames"], inputs["mfcc"]
        assert frames.dtype == torch.uint8
        assert frames.shape[1:] == (30, 224, 224, 3)
        for row, position in enumerate(positions.tolist()):
            clip = clips.clips[position]
            seen.append(position)
            assert labels[row] == clip.label
            for name, tensor in (("mfcc", mfcc), ("frames", frames)):
                expected = torch.from_numpy(clips.cache.read(clip.clip_id, name))
                assert torch.equal(tensor[row], expected)
    assert seen == order.tolist()


def test_streaming_holds_a_few_batches_whatever_the_number_of_clips(fold_cache):
    clips = clips_of(fold_cache, inputs=("mfcc",))
    addresses = {
        inputs["mfcc"].data_ptr()
        for _, inputs, _ in Streamed(clips, 2).batches(torch.arange(16).split(1), CPU)
    }
    assert len(addresses) == AHEAD + 1


def test_a_batch_stays_as_it_is_until_the_next_is_asked_for(fold_cache):
    clips = clips_of(fold_cache, inputs=("mfcc",))
    for positions, inputs, _ in Streamed(clips, 2).batches(torch.arange(16).split(2), CPU):
        copy = inputs["mfcc"].clone()
        torch.testing.assert_close(inputs["mfcc"], copy, rtol=0, atol=0)
        expected = clips.cache.read(clips.clips[positions[0]].clip_id, "mfcc")
        assert torch.equal(copy[0], torch.from_numpy(expected))


def test_leaving_in_the_middle_ends_the_readers(fold_cache):
    import threading

    before = threading.active_count()
    batches = Streamed(clips_of(fold_cache), 2).batches(torch.arange(16).split(2), CPU)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_an_error_while_reading_reaches_the_trainer(fold_cache, monkeypatch):
    clips = clips_of(fold_cache)

    def broken(position, into, row):
        raise OSError("the disk is gone")

    monkeypatch.setattr(clips, "read", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        list(Streamed(clips, 2).batches(torch.arange(16).split(2), CPU))


def test_clips_are_streamed_where_they_do_not_fit(fold_cache, monkeypatch):
    clips = clips_of(fold_cache)
    assert clips.bytes_per_clip == 30 * 224 * 224 * 3 + 13 * 212 * 4
    source, words = place(clips, CPU)
    assert isinstance(source, Resident)
    assert words == "0.07 GB of clips in memory"
    monkeypatch.setattr(stream, "MEMORY_BYTES", 16 * clips.bytes_per_clip - 1)
    source, words = place(clips, CPU)
    assert isinstance(source, Streamed)
    assert words == "0.07 GB of clips streamed"


def test_frames_are_thinned_evenly(fold_cache):
    every, third = clips_of(fold_cache), clips_of(fold_cache, frames=10)
    wide, thin = every.buffers(1), third.buffers(1)
    every.read(3, wide, 0)
    third.read(3, thin, 0)
    assert torch.equal(thin["frames"], wide["frames"][:, ::3])


def test_only_what_the_network_looks_at_is_read(fold_cache):
    clips = clips_of(fold_cache, inputs=("mfcc",))
    assert list(clips.buffers(1)) == ["mfcc"]
    assert clips.bytes_per_clip == 13 * 212 * 4


def test_seeds_differ_by_run_epoch_and_purpose():
    seeds = {seed_of(s, e, p) for s in (0, 1) for e in (0, 1) for p in (ORDER, AUGMENTATION)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_order_is_drawn_from_seed_and_epoch():
    orders = [torch.randperm(50, generator=generator(0, epoch, ORDER)) for epoch in (1, 1, 2)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
