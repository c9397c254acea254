"""Recipes: their schedule, and each change that they make to a batch."""

import math
from dataclasses import asdict

import librosa
import numpy as np
import pytest
import scipy.fft
import torch

from cache.reader import Cache
from model.prepare import Prepare
from train.augment import change_mfcc, change_style, draw_styles, drop_modality, mix
from train.cli import _parser, main
from train.inputs import Changes, batch_sizes, mfcc_statistics, mfcc_styles, to_targets
from train.recipe import RECIPES, Recipe, from_arguments, learning_rate
from train.stream import Clips
from train.vocal_tract import STEPS, change_vocal_tract, warps


def parse(*more):
    return from_arguments(_parser().parse_args(["--cache", "c", "--fold", "0", *more]))


def test_the_papers_recipe_is_plain_adam():
    recipe = parse()
    assert recipe == RECIPES["paper"]
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (70, 16, 1e-3)
    extras = set(asdict(recipe).items()) - {("epochs", 70), ("batch_size", 16)}
    assert not any(value for name, value in extras if name != "learning_rate")
    assert {learning_rate(recipe, p / 10) for p in range(10)} == {1e-3}


def test_the_modern_recipe_is_the_one_whose_figures_are_published():
    recipe = parse("--recipe", "modern")
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (150, 16, 1e-3)
    assert (recipe.weight_decay, recipe.label_smoothing, recipe.ema) == (0.3, 0.1, 0.99)
    assert (recipe.mfcc_style, recipe.mixup, recipe.vocal_tract) == (0.2, 0.0, 0.2)
    assert (recipe.mfcc_shift, recipe.mfcc_mask_steps, recipe.mfcc_mask_coefficients) == (20, 30, 3)


def test_each_setting_of_a_recipe_can_be_changed():
    recipe = parse("--recipe", "modern", "--no-cosine", "--mixup", "0.5", "--epochs", "3")
    assert (recipe.cosine, recipe.mixup, recipe.epochs) == (False, 0.5, 3)
    assert recipe.ema == RECIPES["modern"].ema


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (["--epochs", "0"], "epochs is 0, expected 1 or more"),
        (["--batch-size", "1"], "batch_size is 1, expected 2 or more"),
        (["--lr", "0"], "learning_rate is 0.0, expected a number above 0"),
        (["--lr", "nan"], "learning_rate is nan"),
        (["--warmup", "1"], "warmup is 1.0, expected 0 or more, below 1"),
        (["--ema", "1"], "ema is 1.0"),
        (["--mfcc-style", "-1"], "mfcc_style is -1.0, expected 0 to 100"),
        (["--mfcc-style", "nan"], "mfcc_style is nan, expected 0 to 100"),
        (["--mixup", "-1"], "mixup is -1.0, expected 0 or more"),
        (["--mfcc-mask-coefficients", "13"], "mfcc_mask_coefficients is 13, expected 0 to 12"),
        (["--modality-dropout", "2"], "modality_dropout is 2.0"),
    ],
)
def test_settings_out_of_range_are_wrong_use(setting, message, tmp_path, capsys):
    assert main(["--cache", str(tmp_path), "--fold", "0", *setting]) == 2
    assert message in capsys.readouterr().err


def test_the_rate_rises_linearly_and_falls_along_a_cosine():
    recipe = Recipe(learning_rate=2.0, warmup=0.2, cosine=True)
    assert learning_rate(recipe, 0.0) == 0
    assert learning_rate(recipe, 0.1) == pytest.approx(1.0)
    assert learning_rate(recipe, 0.2) == pytest.approx(2.0)
    assert learning_rate(recipe, 0.6) == pytest.approx(1.0)
    assert learning_rate(recipe, 0.8) == pytest.approx(1 + math.cos(0.75 * math.pi))
    assert learning_rate(recipe, 1.0) == pytest.approx(0.0)


NOTHING = {"shift": 0, "mask_steps": 0, "mask_coefficients": 0}


def test_mfccs_are_moved_in_time_and_repeat_their_edge():
    mfcc = torch.arange(10.0).expand(3, 13, 10)
    draws = torch.tensor([[0.0] * 5, [0.5, 0, 0, 0, 0], [0.999, 0, 0, 0, 0]])
    moved = change_mfcc(mfcc, draws, **{**NOTHING, "shift": 2})
    assert moved[0, 0].tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 9, 9]
    assert moved[1, 0].tolist() == list(range(10))
    assert moved[2, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]


def test_a_span_of_time_and_one_of_coefficients_are_hidden_behind_the_mean():
    mfcc = torch.randn(1, 13, 10)
    mean = mfcc.mean(dim=2, keepdim=True).expand_as(mfcc)
    draws = torch.tensor([[0.0, 0.999, 0.5, 0.0, 0.0]])  # 4 steps, from (10 - 4 + 1) / 2 on
    hidden = change_mfcc(mfcc, draws, **{**NOTHING, "mask_steps": 4})
    assert torch.equal(hidden[..., 3:7], mean[..., 3:7])
    assert torch.equal(hidden[..., :3], mfcc[..., :3])
    assert torch.equal(hidden[..., 7:], mfcc[..., 7:])
    draws = torch.tensor([[0.0, 0.0, 0.0, 0.7, 0.999]])  # 2 of up to 2 rows, the last ones
    hidden = change_mfcc(mfcc, draws, **{**NOTHING, "mask_coefficients": 2})
    assert torch.equal(hidden[:, 11:], mean[:, 11:])
    assert torch.equal(hidden[:, :11], mfcc[:, :11])


def test_without_strength_nothing_is_changed():
    mfcc = torch.randn(4, 13, 212)
    assert torch.equal(change_mfcc(mfcc, torch.rand(4, 5), **NOTHING), mfcc)


def test_each_clip_loses_one_modality_at_most():
    frames, sound = torch.ones(4, 3, 2, 5, 5), torch.ones(4, 13, 7)
    draws = torch.tensor([0.05, 0.15, 0.25, 0.95])
    kept_frames, kept_sound = drop_modality(frames, sound, draws, 0.2)
    assert kept_frames.flatten(1).mean(dim=1).tolist() == [0, 1, 1, 1]
    assert kept_sound.flatten(1).mean(dim=1).tolist() == [1, 0, 1, 1]


def test_clips_are_mixed_with_those_across_the_batch():
    x = torch.tensor([[1.0], [2.0], [4.0]])
    assert mix(x, 0.75).flatten().tolist() == [1.75, 2.0, 3.25]


def test_targets_are_smoothed_distributions():
    assert to_targets(torch.tensor([2])).tolist() == [[0, 0, 1, 0, 0, 0, 0, 0]]
    smooth = to_targets(torch.tensor([2]), 0.16)[0].tolist()
    assert smooth == pytest.approx([0.02, 0.02, 0.86, 0.02, 0.02, 0.02, 0.02, 0.02])


def test_mixup_mixes_inputs_and_targets_alike_and_keeps_the_greater_part():
    recipe = Recipe(batch_size=4, mixup=0.4)
    changes = Changes(recipe, seed=0, epoch=1, clips=8)
    sound, labels = torch.randn(4, 13, 212), torch.arange(4)
    _, mixed, targets = changes(1, torch.arange(4), None, sound, labels)
    weight = changes.weights[1]
    assert all(0.5 <= each <= 1 for each in changes.weights)
    torch.testing.assert_close(mixed, mix(sound, weight))
    torch.testing.assert_close(targets, mix(to_targets(labels), weight))
    assert changes.weights == Changes(recipe, seed=0, epoch=1, clips=8).weights
    assert changes.weights != Changes(recipe, seed=0, epoch=2, clips=8).weights


def test_each_process_drops_out_by_a_seed_of_its_own_in_each_step():
    def seeds(seed, epoch):
        changes = Changes(Recipe(), seed=seed, epoch=epoch, clips=2)
        return [changes.dropout_seed(step, rank) for step in range(3) for rank in range(3)]

    assert seeds(0, 1) == seeds(0, 1)
    assert len({*seeds(0, 1), *seeds(0, 2), *seeds(1, 1)}) == 27


@pytest.mark.parametrize(
    ("clips", "sizes"),
    [(8, [4, 4]), (10, [4, 4, 2]), (9, [4, 5]), (1, [1]), (5, [5]), (4, [4]), (2, [2])],
)
def test_no_clip_is_alone_in_the_last_batch(clips, sizes):
    assert batch_sizes(clips, 4) == sizes


@pytest.mark.parametrize(
    "only", [{"mfcc_shift": 9}, {"mfcc_mask_steps": 50}, {"mfcc_mask_coefficients": 9}]
)
def test_each_change_of_mfccs_works_without_the_others(only):
    changes = Changes(Recipe(**only), seed=0, epoch=1, clips=8)
    mfcc = torch.randn(8, 13, 212)
    _, changed, _ = changes(0, torch.arange(8), None, mfcc, torch.arange(8))
    assert not torch.equal(changed, mfcc)


def test_waveforms_pass_unchanged_through_what_is_made_for_mfccs():
    changes = Changes(Recipe(mfcc_shift=9, mfcc_mask_steps=9), seed=0, epoch=1, clips=2)
    waveform = torch.randn(2, 108_045)
    _, same, _ = changes(0, torch.arange(2), None, waveform, torch.arange(2))
    assert torch.equal(same, waveform)


def test_mfccs_are_normalised_by_the_training_clips_alone(fold_cache):
    cache = Cache(fold_cache)
    clips = Clips(cache, cache.of_actors((5, 6)), ("mfcc",), 30)
    styles = mfcc_styles(clips)
    mean, std = mfcc_statistics(styles)
    whole = torch.stack([torch.from_numpy(cache.read(c.clip_id, "mfcc")) for c in clips.clips])
    torch.testing.assert_close(mean[:, 0], whole.mean(dim=(0, 2)), rtol=1e-4, atol=1e-5)
    expected = whole.transpose(0, 1).flatten(1).std(dim=1, correction=0)
    torch.testing.assert_close(std[:, 0], expected, rtol=1e-4, atol=1e-5)
    each = torch.stack([whole.mean(dim=2), whole.std(dim=2, correction=0)], dim=2)
    torch.testing.assert_close(styles.float(), each, rtol=1e-4, atol=1e-5)
    _, normal = Prepare(56, mean, std)({"mfcc": whole})
    torch.testing.assert_close(normal.mean(dim=(0, 2)), torch.zeros(13), rtol=0, atol=1e-4)
    torch.testing.assert_close(normal.square().mean(dim=(0, 2)), torch.ones(13))


def styles_of(mfcc):
    return torch.stack([mfcc.mean(dim=2), mfcc.std(dim=2, correction=0)], dim=2)


def test_a_clip_takes_on_the_mean_and_deviation_of_another_in_part():
    torch.manual_seed(0)
    mfcc, others = (torch.randn(3, 13, 40, dtype=torch.float64) * 9 + 4 for _ in range(2))
    kept = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    changed = change_style(mfcc, styles_of(mfcc), styles_of(others), kept)
    part = kept[:, None, None]
    expected = part * styles_of(mfcc) + (1 - part) * styles_of(others)
    torch.testing.assert_close(styles_of(changed), expected)
    torch.testing.assert_close(changed[2], mfcc[2])
    # What was said stays: the course of a coefficient over time, apart from place and size.
    course = torch.corrcoef(torch.stack([mfcc[0, 5], changed[0, 5]]))[0, 1]
    assert course.item() == pytest.approx(1)


def test_rounding_errors_of_a_silent_clip_are_not_made_loud():
    silent = torch.full((1, 13, 40), -600.0) + 1e-6 * torch.randn(1, 13, 40, dtype=torch.float64)
    loud = torch.tensor([[[0.0, 50.0]] * 13], dtype=torch.float64)
    changed = change_style(silent, styles_of(silent), loud, torch.zeros(1))
    assert changed.abs().max() < 1
    quiet = silent + 0.1 * torch.randn(1, 13, 40, dtype=torch.float64)
    changed = change_style(quiet, styles_of(quiet), loud, torch.zeros(1))
    torch.testing.assert_close(styles_of(changed), loud)


def test_a_silent_clip_gives_no_style():
    mfcc = torch.randn(1, 13, 40, dtype=torch.float64)
    silent = torch.tensor([[[-600.0, 0.0]] * 13], dtype=torch.float64)
    changed = change_style(mfcc, styles_of(mfcc), silent, torch.zeros(1))
    torch.testing.assert_close(changed, mfcc)


def test_about_half_of_the_clips_take_on_a_style_drawn_anew_each_epoch():
    others, kept = draw_styles(2000, 0.2, seed=1)
    assert 0.45 < (kept < 1).float().mean() < 0.55
    assert 0.2 < kept[kept < 1].mean() < 0.8  # not all of them the other's, nor all their own
    assert len(others.unique()) > 1000
    assert 0 <= others.min() <= others.max() < 2000
    for again, same in zip(draw_styles(2000, 0.2, seed=1), (others, kept), strict=True):
        assert torch.equal(again, same)
    recipe = Recipe(mfcc_style=0.2)
    styles = torch.zeros(50, 13, 2)
    first = Changes(recipe, 0, 1, 50, styles)
    for seed, epoch in ((0, 2), (1, 1)):
        second = Changes(recipe, seed, epoch, 50, styles)
        assert not torch.equal(first.others, second.others)
        assert not torch.equal(first.kept, second.kept)


def test_styles_go_with_positions_whoever_trains_on_them():
    torch.manual_seed(0)
    mfcc = torch.randn(12, 13, 40, dtype=torch.float64) * 20
    changes = Changes(Recipe(mfcc_style=0.5), 0, 1, 12, styles_of(mfcc))
    whole = changes.of_fields(torch.arange(12), {"mfcc": mfcc})["mfcc"]
    for position in range(12):
        expected = change_style(
            mfcc[position : position + 1],
            styles_of(mfcc)[position : position + 1],
            styles_of(mfcc)[changes.others[position]][None],
            changes.kept[position : position + 1],
        )
        torch.testing.assert_close(whole[position], expected[0])
    positions = (changes.kept < 0.9).nonzero().flatten().flip(0)
    assert len(positions) > 1
    part = changes.of_fields(positions, {"mfcc": mfcc[positions]})["mfcc"]
    torch.testing.assert_close(part, whole[positions])
    assert not torch.equal(whole, mfcc)


def test_a_vocal_tract_moves_the_frequencies_of_a_spectrum():
    """A smooth spectrum, warped by hand on the mel bands of librosa."""
    mel = librosa.mel_frequencies(130, fmin=0, fmax=22_050)[1:-1]
    bands = np.arange(128)
    rng = np.random.default_rng(0)
    coefficients = rng.standard_normal(13) * 20
    spectrum = scipy.fft.idct(np.pad(coefficients, (0, 115)), norm="ortho")
    for step, factor in ((0, math.exp(-0.2)), (20, 1.0), (40, math.exp(0.2))):
        source = np.interp(np.clip(mel * factor, mel[0], mel[-1]), mel, bands)
        expected = scipy.fft.dct(np.interp(source, bands, spectrum), norm="ortho")[:13]
        found = warps(13, 0.2, 41)[step].numpy() @ coefficients
        np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_allclose(warps(13, 0.2, 41)[20], np.eye(13), atol=1e-6)


def test_each_clip_has_a_throat_of_its_own():
    mfcc = torch.randn(3, 13, 7)
    changed = change_vocal_tract(mfcc, torch.tensor([0.0, 0.5, 0.999]), 0.2)
    table = warps(13, 0.2, STEPS)
    for clip, step in enumerate((0, 20, 40)):
        torch.testing.assert_close(changed[clip], table[step] @ mfcc[clip])
    torch.testing.assert_close(changed[1], mfcc[1], rtol=1e-4, atol=1e-4)


def test_throats_are_changed_before_mfccs_are_normalised():
    changes = Changes(Recipe(vocal_tract=0.3), seed=0, epoch=1, clips=4)
    mfcc, positions = torch.randn(2, 13, 9) * 50, torch.tensor([3, 1])
    prepare = Prepare(56, torch.full((13, 1), 5.0), torch.full((13, 1), 2.0))
    _, found = prepare(changes.of_fields(positions, {"mfcc": mfcc}))
    expected = (change_vocal_tract(mfcc, changes.throats[positions], 0.3) - 5) / 2
    torch.testing.assert_close(found, expected)
    _, plain = prepare(Changes(Recipe(), 0, 1, 4).of_fields(positions, {"mfcc": mfcc}))
    torch.testing.assert_close(plain, (mfcc - 5) / 2)
