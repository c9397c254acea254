"""Recipes, and each random change that they make to a clip."""

import math
from dataclasses import asdict

import librosa
import numpy as np
import pytest
import scipy.fft
import torch
from training import fields_of

from cache.reader import Cache
from model.inputs import Prepare
from train.augment import (
    CROP_AREA,
    Augmentation,
    change_mfcc,
    change_style,
    draw_crops,
    draw_styles,
    drop_modality,
    mfcc_statistics,
    mfcc_styles,
    mix,
    to_targets,
)
from train.cli import make_parser
from train.recipe import RECIPES, Recipe, from_arguments, learning_rate
from train.stream import Clips
from train.vocal_tract import STEPS, change_vocal_tract, warps

# Recipes. --------------------------------------------------------------------------------------


def parse(*more):
    return from_arguments(make_parser().parse_args(["--cache", "c", "--fold", "0", *more]))


def test_the_papers_recipe_is_plain_adam():
    recipe = parse()
    assert recipe == RECIPES["paper"]
    assert {name: value for name, value in asdict(recipe).items() if value} == {
        **{"epochs": 70, "batch_size": 16, "learning_rate": 1e-3, "started_rate": 1.0}
    }
    assert {learning_rate(recipe, p / 10) for p in range(10)} == {1e-3}


def test_the_modern_recipe_is_the_one_whose_figures_are_published():
    recipe = asdict(parse("--recipe", "modern"))
    assert {name: value for name, value in recipe.items() if value} == {
        **{"epochs": 150, "batch_size": 16, "learning_rate": 1e-3, "warmup": 0.1, "cosine": True},
        **{"weight_decay": 0.3, "label_smoothing": 0.1, "ema": 0.99},
        **{"mfcc_normalize": True, "mfcc_style": 0.2, "vocal_tract": 0.2, "mfcc_shift": 20},
        **{"mfcc_mask_steps": 30, "mfcc_mask_coefficients": 3, "modality_dropout": 0.2},
        "started_rate": 1.0,
    }


def test_each_setting_of_a_recipe_can_be_changed():
    recipe = parse("--recipe", "modern", "--no-cosine", "--mixup", "0.5", "--epochs", "3")
    assert (recipe.cosine, recipe.mixup, recipe.epochs) == (False, 0.5, 3)
    assert recipe.ema == RECIPES["modern"].ema


def test_the_learning_rate_rises_linearly_and_falls_along_a_cosine():
    recipe = Recipe(learning_rate=2.0, warmup=0.2, cosine=True)
    expected = {0.0: 0, 0.1: 1, 0.2: 2, 0.6: 1, 0.8: 1 + math.cos(0.75 * math.pi), 1.0: 0}
    for progress, rate in expected.items():
        assert learning_rate(recipe, progress) == pytest.approx(rate)


# Crops. ----------------------------------------------------------------------------------------


def test_crops_stay_inside_keep_most_of_the_picture_and_differ_in_shape():
    crops = draw_crops(1000, torch.Generator().manual_seed(0))
    assert torch.equal(crops, draw_crops(1000, torch.Generator().manual_seed(0)))
    left, top, width, height, flip = crops.unbind(1)
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6
    # A side that is cut to the picture makes the area smaller than was drawn.
    assert (width * height).min() > 0.6
    assert (width * height).max() <= CROP_AREA[1] + 1e-6
    assert (width / height).max() > 1.2
    assert (width / height).min() < 0.85
    assert 0.4 < flip.mean() < 0.6


# Sound. ----------------------------------------------------------------------------------------

NOTHING = {"shift": 0, "mask_steps": 0, "mask_coefficients": 0}


def test_mfccs_are_shifted_in_time_and_repeat_their_edge():
    mfcc = torch.arange(10.0).expand(3, 13, 10)
    draws = torch.tensor([[0.0] * 5, [0.5, 0, 0, 0, 0], [0.999, 0, 0, 0, 0]])
    moved = change_mfcc(mfcc, draws, **{**NOTHING, "shift": 2})
    assert moved[0, 0].tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 9, 9]
    assert moved[1, 0].tolist() == list(range(10))
    assert moved[2, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]


def test_a_span_of_time_and_one_of_coefficients_are_replaced_by_the_mean():
    mfcc = torch.randn(1, 13, 10)
    mean = mfcc.mean(dim=2, keepdim=True).expand_as(mfcc)
    expected = mfcc.clone()
    expected[..., 3:7] = mean[..., 3:7]
    draws = torch.tensor([[0.0, 0.999, 0.5, 0.0, 0.0]])  # 4 steps, from (10 - 4 + 1) / 2 on
    assert torch.equal(change_mfcc(mfcc, draws, **{**NOTHING, "mask_steps": 4}), expected)
    expected = mfcc.clone()
    expected[:, 11:] = mean[:, 11:]
    draws = torch.tensor([[0.0, 0.0, 0.0, 0.7, 0.999]])  # 2 of up to 2 rows, the last ones
    assert torch.equal(change_mfcc(mfcc, draws, **{**NOTHING, "mask_coefficients": 2}), expected)
    assert torch.equal(change_mfcc(mfcc, torch.rand(1, 5), **NOTHING), mfcc)


@pytest.mark.parametrize(
    "only", [{"mfcc_shift": 9}, {"mfcc_mask_steps": 50}, {"mfcc_mask_coefficients": 9}]
)
def test_each_change_of_sound_works_without_the_others_and_leaves_waveforms(only):
    augment = Augmentation(Recipe(**only), seed=0, epoch=1, num_clips=8)
    for sound, is_changed in ((torch.randn(8, 13, 212), True), (torch.randn(8, 900), False)):
        _, changed = augment.change_inputs(0, torch.arange(8), None, sound)
        assert torch.equal(changed, sound) != is_changed


def styles_of(mfcc):
    return torch.stack([mfcc.mean(dim=2), mfcc.std(dim=2, correction=0)], dim=2)


def test_statistics_are_those_of_all_clips_and_normalize_them(fold_cache):
    cache = Cache(fold_cache)
    clips = Clips(cache, cache.of_actors((5, 6)), ("mfcc",), 30)
    whole = fields_of(cache, clips.clips, ["mfcc"])["mfcc"]
    styles = mfcc_styles(clips)
    torch.testing.assert_close(styles.float(), styles_of(whole), rtol=1e-4, atol=1e-5)
    mean, std = mfcc_statistics(styles)
    torch.testing.assert_close(mean[:, 0], whole.mean(dim=(0, 2)), rtol=1e-4, atol=1e-5)
    expected = whole.transpose(0, 1).flatten(1).std(dim=1, correction=0)
    torch.testing.assert_close(std[:, 0], expected, rtol=1e-4, atol=1e-5)
    _, normal = Prepare(10, 56, mean, std)({"mfcc": whole})
    torch.testing.assert_close(normal.mean(dim=(0, 2)), torch.zeros(13), rtol=0, atol=1e-4)
    torch.testing.assert_close(normal.square().mean(dim=(0, 2)), torch.ones(13))


def test_a_clip_takes_the_mean_and_deviation_of_another_in_part():
    torch.manual_seed(0)
    mfcc, others = (torch.randn(3, 13, 40, dtype=torch.float64) * 9 + 4 for _ in range(2))
    kept = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    changed = change_style(mfcc, styles_of(mfcc), styles_of(others), kept)
    part = kept[:, None, None]
    expected = part * styles_of(mfcc) + (1 - part) * styles_of(others)
    torch.testing.assert_close(styles_of(changed), expected)
    torch.testing.assert_close(changed[2], mfcc[2])
    # What was said stays: the course of a coefficient over time, up to place and size.
    course = torch.corrcoef(torch.stack([mfcc[0, 5], changed[0, 5]]))[0, 1]
    assert course.item() == pytest.approx(1)


def test_a_silent_clip_neither_gives_a_style_nor_becomes_loud():
    """A constant coefficient deviates only by rounding errors."""
    silent = torch.full((1, 13, 40), -600.0) + 1e-6 * torch.randn(1, 13, 40, dtype=torch.float64)
    loud = torch.tensor([[[0.0, 50.0]] * 13], dtype=torch.float64)
    assert change_style(silent, styles_of(silent), loud, torch.zeros(1)).abs().max() < 1
    quiet = silent + 0.1 * torch.randn(1, 13, 40, dtype=torch.float64)
    changed = change_style(quiet, styles_of(quiet), loud, torch.zeros(1))
    torch.testing.assert_close(styles_of(changed), loud)
    kept = change_style(quiet, styles_of(quiet), styles_of(silent), torch.zeros(1))
    torch.testing.assert_close(kept, quiet)


def test_about_half_of_the_clips_take_a_style_and_most_of_it():
    others, kept = draw_styles(2000, 0.2, seed=1)
    assert 0.45 < (kept < 1).float().mean() < 0.55
    assert 0.2 < kept[kept < 1].mean() < 0.8  # neither always the other's nor always their own
    assert len(others.unique()) > 1000
    assert 0 <= others.min() <= others.max() < 2000


def test_a_vocal_tract_moves_the_frequencies_of_a_spectrum():
    """A smooth spectrum, warped by hand on the mel bands of librosa."""
    mel = librosa.mel_frequencies(130, fmin=0, fmax=22_050)[1:-1]
    bands = np.arange(128)
    coefficients = np.random.default_rng(0).standard_normal(13) * 20
    spectrum = scipy.fft.idct(np.pad(coefficients, (0, 115)), norm="ortho")
    for step, factor in ((0, math.exp(-0.2)), (20, 1.0), (40, math.exp(0.2))):
        source = np.interp(np.clip(mel * factor, mel[0], mel[-1]), mel, bands)
        expected = scipy.fft.dct(np.interp(source, bands, spectrum), norm="ortho")[:13]
        found = warps(13, 0.2, 41)[step].numpy() @ coefficients
        np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_allclose(warps(13, 0.2, 41)[20], np.eye(13), atol=1e-6)


def test_each_clip_has_its_own_vocal_tract():
    mfcc = torch.randn(3, 13, 7)
    changed = change_vocal_tract(mfcc, torch.tensor([0.0, 0.5, 0.999]), 0.2)
    table = warps(13, 0.2, STEPS)
    for clip, step in enumerate((0, 20, 40)):
        torch.testing.assert_close(changed[clip], table[step] @ mfcc[clip])
    torch.testing.assert_close(changed[1], mfcc[1], rtol=1e-4, atol=1e-4)


# Batches. --------------------------------------------------------------------------------------


def test_each_clip_loses_at_most_one_modality():
    frames, sound = torch.ones(4, 3, 2, 5, 5), torch.ones(4, 13, 7)
    draws = torch.tensor([0.05, 0.15, 0.25, 0.95])
    kept_frames, kept_sound = drop_modality(frames, sound, draws, 0.2)
    assert kept_frames.flatten(1).mean(dim=1).tolist() == [0, 1, 1, 1]
    assert kept_sound.flatten(1).mean(dim=1).tolist() == [1, 0, 1, 1]


def test_mixup_mixes_inputs_and_targets_alike_and_keeps_the_greater_part():
    """Each clip with the one across its batch."""
    assert mix(torch.tensor([1.0, 2.0, 4.0]), 0.75).tolist() == [1.75, 2.0, 3.25]
    augment = Augmentation(Recipe(mixup=0.4), seed=0, epoch=1, num_clips=8)
    assert all(0.5 <= weight <= 1 for weight in augment.mixup)
    frames, sound, labels = torch.randn(4, 3, 2, 5, 5), torch.randn(4, 13, 212), torch.arange(4)
    for step, weight in ((0, augment.mixup[0]), (1, augment.mixup[1])):
        mixed = augment.change_inputs(step, torch.arange(4), frames, sound)
        torch.testing.assert_close(mixed, (mix(frames, weight), mix(sound, weight)))
        expected = mix(to_targets(labels), weight)
        torch.testing.assert_close(augment.targets(step, labels), expected)


def test_targets_are_smoothed_distributions():
    assert to_targets(torch.tensor([2])).tolist() == [[0, 0, 1, 0, 0, 0, 0, 0]]
    smooth = Augmentation(Recipe(label_smoothing=0.16), 0, 1, 1).targets(0, torch.tensor([2]))
    expected = [0.02, 0.02, 0.86, 0.02, 0.02, 0.02, 0.02, 0.02]
    assert smooth[0].tolist() == pytest.approx(expected)


def test_draws_follow_from_the_seed_and_the_epoch():
    recipe = Recipe(mixup=0.4, mfcc_style=0.2)

    def draws(seed, epoch):
        made = Augmentation(recipe, seed, epoch, 50, styles=torch.zeros(50, 13, 2))
        tensors = (made.crops, made.sound, made.vocal_tracts, made.modality, made.others, made.kept)
        tensors += (made.face, made.other_faces)
        return [*(tensor.tolist() for tensor in tensors), made.mixup]

    first = draws(0, 1)
    assert draws(0, 1) == first
    for other in (draws(0, 2), draws(1, 1)):
        assert not any(one == two for one, two in zip(first, other, strict=True))


def test_a_voice_is_changed_by_position_whatever_the_batch_and_before_normalization():
    torch.manual_seed(0)
    mfcc = torch.randn(12, 13, 40) * 20
    styles = styles_of(mfcc)
    recipe = Recipe(mfcc_style=0.5, vocal_tract=0.3)
    augment = Augmentation(recipe, seed=0, epoch=1, num_clips=12, styles=styles)
    styled = change_style(mfcc, styles, styles[augment.others], augment.kept)
    expected = change_vocal_tract(styled, augment.vocal_tracts, 0.3)
    assert not torch.equal(styled, mfcc)
    for positions in (torch.arange(12), torch.tensor([7, 2, 11])):
        found = augment.change_person(positions, {"mfcc": mfcc[positions]})["mfcc"]
        torch.testing.assert_close(found, expected[positions])
    unchanged = Augmentation(Recipe(), 0, 1, 12).change_person(torch.arange(12), {"mfcc": mfcc})
    assert unchanged["mfcc"] is mfcc
