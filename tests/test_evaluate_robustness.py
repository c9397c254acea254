"""Robustness: each change is what it says, each figure is of its run, nothing is done twice."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import noise_arrays
from finished import clips_with_sound, finished_run, write_cache
from torch.nn import functional

from cache.ravdess import Clip, expected_clips
from cache.reader import Cache
from evaluate.robustness.cli import main
from evaluate.robustness.conditions import CONDITIONS, brighter, frozen, generator, noisy
from evaluate.robustness.measure import measure
from evaluate.robustness.table import FILE_NAME, RobustnessError, collect, table
from model.checkpoint import load_trained
from model.prepare import MEAN, STD
from preprocess.audio import mfcc

CLIP = Clip.parse("01-01-03-02-01-02-04")
OF = {condition.name: condition for condition in CONDITIONS}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return clips_with_sound(tmp_path_factory.mktemp("robustness") / "cache", actors=range(1, 9))


@pytest.fixture(scope="module")
def measured(cache, tmp_path_factory):
    """Runs of three networks, of cfn_sr two folds, measured by one command."""
    runs = tmp_path_factory.mktemp("measured")
    finished_run(runs, cache, "cfn_sr", fold=0)
    finished_run(runs, cache, "cfn_sr", fold=1)
    finished_run(runs, cache, "audio_mfcc_cnn")
    finished_run(runs, cache, "erann")
    assert call(runs, cache) == 0
    return runs


def call(runs, cache, *more):
    return main(["--runs", str(runs), "--cache", str(cache), "--device", "cpu", *more])


def conditions_of(folder):
    content = json.loads((folder / FILE_NAME).read_text())
    return {each["name"]: each for each in content["conditions"]}


@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_noise_has_exactly_the_power_that_it_is_said_to_have(snr_db):
    waveform = (8_000 * np.sin(np.arange(108_045) / 7)).astype(np.int16)
    noise = noisy(waveform, snr_db, generator(CLIP, 0)).astype(np.float64) - waveform
    power = np.mean(waveform.astype(np.float64) ** 2)
    assert 10 * np.log10(power / np.mean(noise**2)) == pytest.approx(snr_db, abs=1e-3)
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.02  # white
    assert abs(np.corrcoef(noise, waveform)[0, 1]) < 0.02


def test_noise_on_silence_is_silence():
    assert not noisy(np.zeros(1_000, np.int16), 0, generator(CLIP, 0)).any()


@pytest.mark.parametrize(("share", "lost"), [(0.5, 15), (0.8, 24)])
def test_lost_frames_show_the_last_shown_one_and_the_first_is_never_lost(share, lost):
    frames = np.arange(30)[:, None] * np.ones((1, 4), int)
    drawn = set()
    for clip in expected_clips(1):
        got = frozen(frames, share, generator(clip, 1))[:, 0]
        assert got[0] == 0
        assert (got != np.arange(30)).sum() == lost
        assert all(got[at] in (at, got[at - 1]) for at in range(1, 30))
        drawn.add(tuple(got))
    assert len(drawn) == 60


def test_light_is_multiplied_rounded_and_cut_off():
    picture = np.array([[0, 3, 100, 171, 255]], np.uint8)
    assert brighter(picture, 1.5).tolist() == [[0, 4, 150, 255, 255]]
    assert brighter(picture, 0.5).tolist() == [[0, 2, 50, 86, 128]]
    assert brighter(picture, 1.5).dtype == np.uint8


def test_a_missing_picture_is_what_networks_see_as_zero():
    (frames,) = (
        OF["picture_missing"].change(CLIP, {"frames": np.ones((30, 8, 8, 3), "u1")}).values()
    )
    assert frames.shape == (30, 8, 8, 3)
    assert frames.dtype == np.uint8
    assert np.abs((frames / 255 - MEAN) / STD).max() < 0.01


def test_missing_sound_is_silence_through_the_same_mfccs():
    fields = {"mfcc": np.ones((13, 212), np.float32)}
    changed = OF["sound_missing"].change(CLIP, fields)
    assert np.array_equal(changed["mfcc"], mfcc(np.zeros(108_045, np.float32)))
    assert not changed["waveform"].any()


def test_noise_reaches_the_mfccs_at_the_scale_of_the_cache(cache):
    opened = Cache(cache)
    clip = opened.clips[0]
    fields = {name: opened.read(clip.clip_id, name) for name in ("mfcc", "waveform")}
    changed = OF["noise_10_db"].change(clip, fields)
    expected = noisy(fields["waveform"], 10, generator(clip, 0)) / np.float32(32_768)
    assert np.array_equal(changed["mfcc"], mfcc(expected))
    assert np.abs(changed["mfcc"] - fields["mfcc"]).max() > 1


def test_levels_of_noise_share_their_noise_and_clips_do_not():
    waveform = np.full(2_000, 100, np.int16)
    weak, strong = (noisy(waveform, db, generator(CLIP, 0)) - waveform for db in (20, 0))
    assert np.allclose(strong, 10 * weak, rtol=1e-3, atol=1e-3)
    other = noisy(waveform, 0, generator(expected_clips(4)[0], 0)) - waveform
    assert abs(np.corrcoef(strong, other)[0, 1]) < 0.2
    assert not np.array_equal(generator(CLIP, 0).random(3), generator(CLIP, 1).random(3))


def test_figures_do_not_depend_on_the_order_of_clips(measured, cache):
    trained, opened = load_trained(measured / "cfn_sr" / "fold_0" / "last.pt"), Cache(cache)
    clips = opened.of_actors((1, 2, 3))
    forwards, backwards = (measure(trained, opened, part, CPU) for part in (clips, clips[::-1]))
    for name in OF:
        assert np.array_equal(forwards[name], backwards[name][::-1]), name


def test_known_answers_of_a_network_that_sees_light_and_hears_silence(tmp_path):
    """Clips as bright as their label says; silence is taken for sad, whatever is seen."""

    def arrays(clip):
        made = noise_arrays(0) | {"mfcc": np.zeros((13, 212), np.float32)}
        return made | {"frames": np.full(made["frames"].shape, 10 * clip.label + 10, np.uint8)}

    def probabilities(fields):
        seen = (fields["frames"].float().mean(dim=(1, 2, 3, 4)) / 10 - 1).round().clamp(0, 7)
        silent = fields["mfcc"][:, 0].mean(dim=1) < -1_000
        return functional.one_hot(torch.where(silent, 3, seen.long()), 8).float()

    clips = [clip for clip in expected_clips(1) if (clip.intensity, clip.repetition) == (1, 1)]
    opened = Cache(write_cache(tmp_path / "cache", clips, arrays))
    stub = SimpleNamespace(config={"model": "cfn_sr"}, probabilities=probabilities)
    found = measure(stub, opened, opened.clips, CPU)
    labels = [clip.label for clip in opened.clips]
    assert sorted(labels) == sorted([*range(8), *range(8)])  # two statements each
    for name in ("as_cached", "frames_frozen_50", "frames_frozen_80"):
        assert found[name].tolist() == labels
    assert set(found["sound_missing"]) == {3}
    assert set(found["picture_missing"]) == {7}  # (124 + 116 + 104) / 3 is as bright as any
    darker = {label: max(0, round((10 * label + 10) * 0.5 / 10 - 1)) for label in range(8)}
    assert found["brightness_0.5"].tolist() == [darker[label] for label in labels]
    assert found["noise_0_db"] == "the cache holds no waveform"


def test_networks_are_not_measured_on_what_they_do_not_look_at(measured):
    of_sound = conditions_of(measured / "audio_mfcc_cnn" / "fold_0")
    assert of_sound["picture_missing"]["accuracy"] is None
    assert of_sound["picture_missing"]["reason"] == "the network looks at no video"
    assert of_sound["noise_0_db"]["accuracy"] is not None
    assert None not in [
        each["accuracy"] for each in conditions_of(measured / "cfn_sr" / "fold_0").values()
    ]
    assert conditions_of(measured / "erann" / "fold_0")["noise_0_db"]["reason"] is None


def test_without_waveforms_noise_has_a_reason_and_silence_a_figure(fold_cache, tmp_path):
    folder = finished_run(tmp_path, fold_cache, "audio_mfcc_cnn")
    assert call(tmp_path, fold_cache) == 0
    found = conditions_of(folder)
    assert found["noise_10_db"]["reason"] == "the cache holds no waveform"
    assert found["noise_10_db"]["accuracy"] is None
    assert found["sound_missing"]["accuracy"] is not None


def test_a_second_run_computes_nothing_and_another_checkpoint_is_measured_anew(
    measured, cache, tmp_path, monkeypatch, capsys
):
    runs = shutil.copytree(measured, tmp_path / "runs")
    written = runs / "erann" / "fold_0" / FILE_NAME
    first = written.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("evaluate.robustness.measure.measure", None)
        assert call(runs, cache) == 0
    assert "as cached" in capsys.readouterr().out
    checkpoint = written.with_name("last.pt")
    state = torch.load(checkpoint, weights_only=True)
    torch.save(state | {"training": {"more": 1}}, checkpoint)
    assert call(runs, cache, "--only", "erann") == 0
    again = written.read_bytes()
    assert again != first
    assert json.loads(again)["conditions"] == json.loads(first)["conditions"]
    written.write_text("not JSON")
    assert call(runs, cache, "--only", "erann") == 0
    assert written.read_bytes() == again


def test_a_run_of_another_cache_or_with_other_weights_is_refused_by_name(
    measured, cache, fold_cache, tmp_path, capsys
):
    runs = tmp_path / "runs"
    folder = shutil.copytree(measured / "cfn_sr" / "fold_0", runs / "cfn_sr" / "fold_0")
    (folder / FILE_NAME).unlink()
    assert call(runs, fold_cache) == 1
    assert "cfn_sr/fold_0: the cache has fingerprint" in capsys.readouterr().err
    state = torch.load(folder / "last.pt", weights_only=True)
    state["model"]["head.bias"][2] += 100
    torch.save(state, folder / "last.pt")
    assert call(runs, cache) == 1
    assert "not the clips or the weights of that run" in capsys.readouterr().err
    (folder / "last.pt").unlink()
    assert call(runs, cache) == 1
    assert "has no last.pt" in capsys.readouterr().err
    assert not (folder / FILE_NAME).exists()


def test_wrong_use_is_one_line_and_status_2(cache, tmp_path, capsys):
    assert call(tmp_path, cache) == 2
    assert call(tmp_path, tmp_path) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_rows_are_means_over_folds_with_their_difference_to_as_cached(measured):
    folders = [measured / "cfn_sr" / "fold_0", measured / "cfn_sr" / "fold_1"]
    for folder, base, dark in zip(folders, (0.75, 0.5), (0.25, 0.5), strict=True):
        rewrite(folder, "as_cached", accuracy=base)
        rewrite(folder, "brightness_0.5", accuracy=dark)
    rows = {row.name: row for row in collect(folders)}
    assert rows["as_cached"].accuracy == 0.625
    assert rows["as_cached"].difference == 0
    assert rows["brightness_0.5"].accuracy == 0.375
    assert rows["brightness_0.5"].difference == -0.25
    assert (rows["as_cached"].folds, rows["as_cached"].clips) == (2, 16)
    rewrite(folders[1], "brightness_0.5", accuracy=None, reason="why not")
    (row,) = (row for row in collect(folders) if row.name == "brightness_0.5")
    assert (row.accuracy, row.difference, row.reason) == (None, None, "why not")
    assert "62.5" in table(collect(folders)).splitlines()[1]


def rewrite(folder, name, **entries):
    content = json.loads((folder / FILE_NAME).read_text())
    (each,) = (each for each in content["conditions"] if each["name"] == name)
    each |= entries
    (folder / FILE_NAME).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (r"\A{", "[", "cannot be read as JSON"),
        (r"(?s).*", "[" * 100_000, "cannot be read as JSON"),
        (r"(?s).*", "[]", "found \\[\\]"),
        (r'"schema_version": 1', '"schema_version": 2', "expected an object of schema version 1"),
        (r'"device"', '"more": 0, "device"', "its keys are"),
        (r'"as_cached"', '"other"', "as_cached: found 'other'"),
        (r'"clips": 8', '"clips": -8', "expected 1 or more"),
        (r'"accuracy": [0-9.]+', '"accuracy": 1.01', "accuracy is 1.01, expected 0"),
        (r'"accuracy": [0-9.]+', '"accuracy": NaN', "accuracy is nan, expected 0"),
        (r'"accuracy": [0-9.]+', '"accuracy": true', "accuracy is True, expected 0"),
        (r'"accuracy": [0-9.]+', '"accuracy": null', "no accuracy, and the reason is None"),
        (r'"reason": null', '"reason": "because"', "an accuracy, and a reason for none"),
        (r'"reason": "[^"]*"', '"reason": "a\\\\nb"', "the reason is 'a"),
        (r'"predictions_sha256": "', '"predictions_sha256": "<b>', "64 hexadecimal"),
    ],
)
def test_a_damaged_file_is_refused(measured, tmp_path, old, new, match):
    folder = shutil.copytree(measured / "erann" / "fold_0", tmp_path / "erann" / "fold_0")
    text, count = re.subn(old, new, (folder / FILE_NAME).read_text(), count=1)
    assert count == 1
    (folder / FILE_NAME).write_text(text)
    with pytest.raises(RobustnessError, match=match):
        collect([folder])


def test_figures_of_other_predictions_are_refused_and_missing_ones_left_out(measured, tmp_path):
    folder = shutil.copytree(measured / "erann" / "fold_0", tmp_path / "erann" / "fold_0")
    with (folder / "predictions.csv").open("a") as opened:
        opened.write("\n")
    with pytest.raises(RobustnessError, match="of other predictions"):
        collect([folder])
    (folder / FILE_NAME).unlink()
    assert collect([folder]) == []
