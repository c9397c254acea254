"""From the fields of the cache to what networks take."""

import pytest
import torch

from model.inputs import MEAN, STD, Prepare, reduce, subsample, to_input

CROPS = torch.tensor(  # left, top, width, height, flip
    [[0.1, 0.0, 0.8, 0.9, 0.0], [0.0, 0.2, 1.0, 0.8, 1.0], [0.25, 0.25, 0.75, 0.75, 1.0]]
)


def pictures(*shape):
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("total", "count", "kept"),
    [
        (30, 10, range(0, 30, 3)),
        (16, 10, [0, 1, 3, 4, 6, 8, 9, 11, 12, 14]),
        (30, 16, [0, 1, 3, 5, 7, 9, 11, 13, 15, 16, 18, 20, 22, 24, 26, 28]),
        (10, 10, range(10)),
        (7, 10, range(7)),
    ],
)
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_frames_are_subsampled_evenly_from_the_first_on(total, count, kept, dim):
    frames = torch.arange(total)[:, None, None].expand(-1, 2, 2).movedim(0, dim)
    assert subsample(frames, count, dim).movedim(dim, 0)[:, 0, 0].tolist() == list(kept)


def test_larger_frames_are_reduced_by_averaging_square_patches():
    frames = torch.randn(1, 3, 30, 12, 12)
    found = reduce(frames, 10, 4)
    assert found.shape == (1, 3, 10, 4, 4)
    torch.testing.assert_close(found[0, 1, 2, 3, 0], frames[0, 1, 6, 9:, :3].mean())
    assert torch.equal(reduce(frames, 30, 12), frames)


def test_without_crops_pixels_are_normalized_by_rgb_statistics_and_nothing_else():
    assert MEAN == (0.485, 0.456, 0.406)
    assert STD == (0.229, 0.224, 0.225)
    frames = pictures(2, 3, 8, 8)
    result = to_input(frames, 8)
    assert result.shape == (2, 3, 3, 8, 8)
    for channel in range(3):
        expected = (frames[..., channel] / 255 - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(result[:, channel], expected)


def test_a_clip_has_its_own_crop_the_same_in_all_its_frames_and_is_left_as_it_was():
    frames = pictures(3, 1, 32, 32).repeat(1, 30, 1, 1, 1)
    copy = frames.clone()
    together = to_input(frames, 16, CROPS)
    assert torch.equal(together, together[:, :, :1].expand_as(together))
    for index in range(3):
        single = to_input(frames[index : index + 1], 16, CROPS[index : index + 1])
        assert torch.equal(single[0], together[index])
    assert torch.equal(frames, copy)


def test_a_crop_shows_the_part_that_was_drawn_and_a_flip_mirrors_it():
    frames = pictures(1, 2, 40, 40)
    crops = (torch.tensor([[0.5, 0.0, 0.5, 0.5, flip]]) for flip in (0.0, 1.0))
    found, mirrored = (to_input(frames, 20, crop) for crop in crops)
    torch.testing.assert_close(found, to_input(frames[:, :, :20, 20:], 20))
    assert torch.equal(mirrored, found.flip(4))


def test_a_smaller_picture_is_averaged_not_picked():
    frames = torch.zeros(1, 1, 64, 64, 3, dtype=torch.uint8)
    frames[:, :, :, ::2] = 200
    assert to_input(frames, 16)[0, 0].std().item() == pytest.approx(0, abs=0.05)


def test_a_batch_is_prepared_field_by_field():
    mean, std = torch.arange(13.0)[:, None], torch.full((13, 1), 2.0)
    prepare = Prepare(10, 56, mean, std)
    frames, mfcc = pictures(2, 30, 112, 112), torch.randn(2, 13, 212)
    found, sound = prepare({"frames": frames, "mfcc": mfcc}, CROPS[:2])
    torch.testing.assert_close(found, to_input(frames[:, ::3], 56, CROPS[:2]))
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(sound, (mfcc - mean) / 2)
    assert torch.equal(Prepare(10, 56)({"mfcc": mfcc})[1], mfcc)
    frames, sound = prepare({"waveform": torch.tensor([[-32_768, 0, 16_384]], dtype=torch.int16)})
    assert frames is None
    assert sound.tolist() == [[-1.0, 0.0, 0.5]]
