import pytest
import torch

from model.prepare import MEAN, STD, to_input, to_waveform
from train.augment import CROP_AREA, draw_crops


def draws(count=1000, seed=0):
    return draw_crops(count, torch.Generator().manual_seed(seed))


def test_crops_stay_inside_and_keep_most_of_the_picture():
    left, top, width, height, flip = draws().unbind(1)
    assert left.min() >= 0
    assert top.min() >= 0
    assert (left + width).max() <= 1 + 1e-6
    assert (top + height).max() <= 1 + 1e-6
    # A side that is cut to the picture makes the area smaller than was drawn.
    assert (width * height).min() > 0.6
    assert (width * height).max() <= CROP_AREA[1] + 1e-6
    assert 0.4 < flip.mean() < 0.6


def test_the_same_seed_draws_the_same_crops():
    assert torch.equal(draws(seed=1), draws(seed=1))
    assert not torch.equal(draws(seed=1), draws(seed=2))


def test_without_crops_pixels_are_normalised_by_rgb_statistics_and_nothing_else():
    frames = torch.randint(0, 256, (2, 3, 8, 8, 3), dtype=torch.uint8)
    result = to_input(frames, 8)
    assert result.shape == (2, 3, 3, 8, 8)
    for channel in range(3):
        expected = (frames[..., channel] / 255 - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(result[:, channel], expected)


def test_a_clip_is_cropped_and_flipped_the_same_in_all_its_frames():
    still = torch.randint(0, 256, (1, 1, 32, 32, 3), dtype=torch.uint8).expand(1, 30, -1, -1, -1)
    for crop in draws(20):
        result = to_input(still, 32, crop[None])
        assert torch.equal(result, result[:, :, :1].expand_as(result))


def test_clips_of_a_batch_are_cropped_each_by_its_own():
    frames = torch.randint(0, 256, (3, 2, 32, 32, 3), dtype=torch.uint8)
    crops = draws(3)
    together = to_input(frames, 16, crops)
    for index in range(3):
        alone = to_input(frames[index : index + 1], 16, crops[index : index + 1])
        assert torch.equal(alone[0], together[index])


def test_a_flip_mirrors_left_and_right():
    frames = torch.randint(0, 256, (1, 2, 16, 16, 3), dtype=torch.uint8)
    crops = torch.tensor([[0, 0, 1, 1, 0], [0, 0, 1, 1, 1]], dtype=torch.float32)
    straight, mirrored = (to_input(frames, 16, crop[None]) for crop in crops)
    assert torch.equal(mirrored, straight.flip(4))


def test_a_crop_shows_the_part_that_was_drawn():
    frames = torch.zeros(1, 1, 40, 40, 3, dtype=torch.uint8)
    frames[:, :, :20, 20:] = 255  # the upper right quarter is white
    crop = torch.tensor([[0.5, 0.0, 0.5, 0.5, 0.0]])
    white = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    result = to_input(frames, 10, crop)
    torch.testing.assert_close(result, white.view(1, 3, 1, 1, 1).expand_as(result))


def test_the_frames_that_come_in_are_left_as_they_were():
    frames = torch.randint(0, 256, (2, 2, 16, 16, 3), dtype=torch.uint8)
    copy = frames.clone()
    to_input(frames, 16, draws(2))
    assert torch.equal(frames, copy)


def test_a_smaller_size_is_averaged_not_picked():
    frames = torch.zeros(1, 1, 64, 64, 3, dtype=torch.uint8)
    frames[:, :, :, ::2] = 200
    spread = to_input(frames, 16)[0, 0]
    assert spread.std().item() == pytest.approx(0, abs=0.05)


def test_statistics_are_those_of_rgb_in_that_order():
    assert MEAN == (0.485, 0.456, 0.406)
    assert STD == (0.229, 0.224, 0.225)


def test_crops_differ_in_shape():
    _, _, width, height, _ = draws().unbind(1)
    assert (width / height).max() > 1.2
    assert (width / height).min() < 0.85


def test_sixteen_bit_samples_become_shares_of_full_scale():
    samples = torch.tensor([-32_768, 0, 16_384], dtype=torch.int16)
    assert to_waveform(samples).tolist() == [-1.0, 0.0, 0.5]
