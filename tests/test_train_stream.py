import pytest
import torch

from cache.reader import Cache
from train.seeds import AUGMENTATION, ORDER, generator, seed_of
from train.stream import Clips, batches

CPU = torch.device("cpu")


def clips_of(fold_cache, frames=30, inputs=("frames", "mfcc")):
    cache = Cache(fold_cache)
    return Clips(cache, cache.clips, inputs, frames)


def test_every_clip_comes_once_with_its_own_label_and_sound(fold_cache):
    clips = clips_of(fold_cache)
    seen = []
    for positions, inputs, labels in batches(clips, 5, CPU, workers=0):
        frames, mfcc = inputs["frames"], inputs["mfcc"]
        assert frames.dtype == torch.uint8
        assert frames.shape[1:] == (30, 224, 224, 3)
        for row, position in enumerate(positions.tolist()):
            clip = clips.clips[position]
            seen.append(clip)
            assert labels[row] == clip.label
            expected = torch.from_numpy(clips.cache.read(clip.clip_id, "mfcc"))
            assert torch.equal(mfcc[row], expected)
    assert seen == clips.clips


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_depends_on_seed_and_epoch_alone(fold_cache, workers):
    clips = clips_of(fold_cache, frames=10)

    def order(seed, epoch):
        drawn = generator(seed, epoch, ORDER)
        found = batches(clips, 4, CPU, workers=workers, order=drawn)
        return torch.cat([positions for positions, *_ in found]).tolist()

    first = order(0, 1)
    assert sorted(first) == list(range(len(clips)))
    expected = torch.randperm(len(clips), generator=generator(0, 1, ORDER)).tolist()
    assert first == expected


def test_frames_are_thinned_evenly(fold_cache):
    _, every, _ = clips_of(fold_cache)[0]
    _, third, _ = clips_of(fold_cache, frames=10)[0]
    assert torch.equal(third["frames"], every["frames"][::3])


def test_only_what_the_network_looks_at_is_read(fold_cache):
    _, inputs, _ = clips_of(fold_cache, inputs=("mfcc",))[0]
    assert list(inputs) == ["mfcc"]


def test_seeds_differ_by_run_epoch_and_purpose():
    seeds = {seed_of(s, e, p) for s in (0, 1) for e in (0, 1) for p in (ORDER, AUGMENTATION)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
