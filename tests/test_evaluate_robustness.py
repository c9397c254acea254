"""Robustness: each change is what it claims, each figure is of its run, nothing is done twice."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from finished import clips_with_sound, finished_run
from noise import noise_arrays, write_noise_cache
from torch.nn import functional

import model
from cache.ravdess import Clip, expected_clips
from cache.reader import Cache
from cache.schema import FIELDS, SAMPLE_COUNT
from evaluate.robustness import measure as measuring
from evaluate.robustness.cli import main
from evaluate.robustness.conditions import CONDITIONS, brighter, frozen, generator, noisy
from evaluate.robustness.measure import measure
from evaluate.robustness.table import FILE_NAME, RobustnessError, collect, read_measured
from model.inputs import MEAN, STD
from preprocess.audio import mfcc
from train.record import CHECKPOINT, PREDICTIONS, load_checkpoint

CLIP = Clip.parse("01-01-03-02-01-02-04")
OF = {condition.name: condition for condition in CONDITIONS}
NETWORKS = ("audio_mfcc_cnn", "erann", "cfn_sr")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return clips_with_sound(tmp_path_factory.mktemp("robustness") / "cache", actors=range(1, 9))


@pytest.fixture(scope="module")
def measured(cache, tmp_path_factory):
    """Runs of three networks, two folds of cfn_sr, measured by one command."""
    runs = tmp_path_factory.mktemp("measured")
    for name in NETWORKS:
        finished_run(runs, cache, name)
    finished_run(runs, cache, "cfn_sr", fold=1)
    assert call(runs, cache) == 0
    return runs


@pytest.fixture
def run(measured, tmp_path):
    """A copy of a measured run, in a folder of its own."""
    return shutil.copytree(measured / "erann" / "fold_0", tmp_path / "runs" / "erann" / "fold_0")


def call(runs, cache, *more):
    return main(["--runs", str(runs), "--cache", str(cache), "--device", "cpu", *more])


def test_noise_has_the_power_of_its_name_and_differs_between_clips():
    waveform = (8_000 * np.sin(np.arange(SAMPLE_COUNT) / 7)).astype(np.int16)
    power = np.mean(waveform.astype(np.float64) ** 2)
    weak, strong = (noisy(waveform, db, generator(CLIP, 0)) - waveform for db in (20, 0))
    for noise, snr_db in ((weak, 20), (strong, 0)):
        assert 10 * np.log10(power / np.mean(noise**2)) == pytest.approx(snr_db, abs=1e-2)
        assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.02  # white
        assert abs(np.corrcoef(noise, waveform)[0, 1]) < 0.02
    other = noisy(waveform, 0, generator(expected_clips(4)[0], 0)) - waveform
    assert np.corrcoef(weak, strong)[0, 1] > 0.999 > 0.02 > np.corrcoef(other, strong)[0, 1]
    assert not noisy(np.zeros(1_000, np.int16), 0, generator(CLIP, 0)).any()


@pytest.mark.parametrize(("share", "lost"), [(0.5, 15), (0.8, 24)])
def test_lost_frames_repeat_the_last_shown_one_and_the_first_is_never_lost(share, lost):
    frames = np.arange(30)
    results = [frozen(frames, share, generator(clip, 1)) for clip in expected_clips(1)]
    for got in results:
        assert got[0] == 0
        assert (got != frames).sum() == lost
        assert all(got[at] in (at, got[at - 1]) for at in range(1, 30))
    assert len(set(map(tuple, results))) == 60


@pytest.mark.parametrize(("factor", "expected"), [(1.5, [0, 4, 150, 255]), (0.5, [0, 2, 50, 86])])
def test_light_is_multiplied_rounded_and_clipped(factor, expected):
    picture = brighter(np.array([0, 3, 100, 171], np.uint8), factor)
    assert (picture.tolist(), picture.dtype) == (expected, np.uint8)


def test_a_missing_picture_is_zero_to_networks_and_sound_changes_as_in_preprocessing(cache):
    opened = Cache(cache)
    clip = opened.clips[0]
    fields = {name: opened.read(clip.clip_id, name) for name in ("frames", "mfcc", "waveform")}
    gray = OF["picture_missing"].change(clip, fields)["frames"]
    assert (gray.shape, gray.dtype) == (FIELDS["frames"].shape, np.uint8)
    assert np.abs((gray[0] / 255 - MEAN) / STD).max() < 0.01
    silent, noise = (OF[name].change(clip, fields) for name in ("sound_missing", "noise_10_db"))
    assert not silent["waveform"].any()
    assert np.array_equal(silent["mfcc"], mfcc(np.zeros(SAMPLE_COUNT, np.float32)))
    expected = noisy(fields["waveform"], 10, generator(clip, 0)) / np.float32(32_768)
    assert np.array_equal(noise["mfcc"], mfcc(expected))
    assert np.abs(noise["mfcc"] - fields["mfcc"]).max() > 1
    mean = np.arange(13, dtype=np.float32)[:, None]
    found = OF["sound_mean"].change(clip, fields | {"mfcc_mean": mean})
    assert (found["mfcc"] == mean).all()
    assert not found["waveform"].any()  # the mean of a waveform
    assert not OF["sound_mean"].change(clip, fields)["mfcc"].any()


def test_predictions_do_not_depend_on_the_order_of_clips(measured, cache):
    trained = load_checkpoint(measured / "cfn_sr" / "fold_0" / CHECKPOINT).network()
    clips = Cache(cache).clips[:3]
    one = measure(trained, Cache(cache), clips, CONDITIONS, CPU)
    two = measure(trained, Cache(cache), clips[::-1], CONDITIONS, CPU)
    assert all(np.array_equal(one[name], two[name][::-1]) for name in OF)


def test_known_answers_of_a_network_that_sees_light_and_hears_silence(tmp_path):
    """Clips as bright as their label; silence is predicted as sad, whatever is seen."""
    sound = noise_arrays(0) | {"mfcc": np.zeros(FIELDS["mfcc"].shape, np.float32)}

    def arrays(clip):
        return sound | {"frames": np.full(FIELDS["frames"].shape, 10 * clip.label + 10, np.uint8)}

    def probabilities(fields):
        seen = (fields["frames"].float().mean(dim=(1, 2, 3, 4)) / 10 - 1).round().clamp(0, 7)
        silent = fields["mfcc"][:, 0].mean(dim=1) < -1_000
        return functional.one_hot(torch.where(silent, 3, seen.long()), 8).float()

    clips = [clip for clip in expected_clips(1) if (clip.intensity, clip.repetition) == (1, 1)]
    opened = Cache(write_noise_cache(tmp_path / "cache", clips, arrays))
    stub = SimpleNamespace(
        fields=("frames", "mfcc"),
        probabilities=probabilities,
        prepare=SimpleNamespace(mfcc_mean=torch.full((13, 1), -2_000.0)),
    )
    possible = [condition for condition in CONDITIONS if not condition.needs]
    found = measure(stub, opened, opened.clips, possible, CPU)
    labels = [clip.label for clip in opened.clips]
    assert set(labels) == set(range(8))
    for name in ("as_cached", "frames_frozen_50", "frames_frozen_80"):
        assert found[name].tolist() == labels
    assert set(found["sound_missing"]) == set(found["sound_mean"]) == {3}
    assert set(found["picture_missing"]) == {7}  # (124 + 116 + 104) / 3 is as bright as any
    darker = [max(0, round((10 * label + 10) * 0.5 / 10 - 1)) for label in labels]
    assert found["brightness_0.5"].tolist() == darker


def test_a_condition_that_cannot_be_measured_has_a_reason(measured, fold_cache, tmp_path):
    folder = finished_run(tmp_path, fold_cache, "audio_mfcc_cnn")
    assert call(tmp_path, fold_cache) == 0
    no_waveform, sound, wave, both = (
        {each.name: each.reason for each in read_measured(run).conditions if each.reason}
        for run in (folder, *(measured / name / "fold_0" for name in NETWORKS))
    )
    of_video = [each.name for each in CONDITIONS if each.modality == "video"]
    no_video = dict.fromkeys(of_video, "the network does not look at frames")
    assert (sound, wave, both) == (no_video, no_video, {})
    noise = [each.name for each in CONDITIONS if each.needs]
    assert no_waveform == no_video | dict.fromkeys(noise, "the cache contains no waveform")


def test_a_run_is_measured_again_if_its_checkpoint_or_predictions_changed(run, cache, capsys):
    def is_measured_now():
        assert call(run.parent.parent, cache, "--only", "erann") == 0
        out = capsys.readouterr().out
        assert re.search(r"\nerann +1 +\d+\.\d ", out)
        return "1 runs measured" in out

    first = read_measured(run).conditions
    assert not is_measured_now()
    state = torch.load(run / CHECKPOINT, weights_only=True)
    torch.save(state | {"training": {"more": 1}}, run / CHECKPOINT)
    assert is_measured_now()
    rows = (run / PREDICTIONS).read_bytes()
    (run / PREDICTIONS).write_bytes(rows.replace(b"\n", b"\r\n"))
    with pytest.raises(RobustnessError, match="it does not match the"):
        collect([run])
    assert is_measured_now()
    (run / FILE_NAME).write_text("not JSON")
    assert is_measured_now()
    assert (read_measured(run).conditions, is_measured_now()) == (first, False)


def test_what_does_not_belong_together_is_refused_by_name(run, cache, fold_cache, capsys):
    (run / FILE_NAME).unlink()
    runs, checkpoint = run.parent.parent, run / CHECKPOINT
    state = torch.load(checkpoint, weights_only=True)
    biased = {"fc2.bias": state["model"]["fc2.bias"] + 100 * torch.arange(8)}
    for own, part, change, match in (
        (fold_cache, "model", {}, "has other clips of the test actors than the run"),
        (cache, "model", biased, "the clips or the weights are from another run"),
        (cache, "config", {"seed": 1}, "config.json and last.pt are from different"),
    ):
        torch.save(state | {part: state[part] | change}, checkpoint)
        assert call(runs, own) == 1
        assert re.search(f"error: erann/fold_0: .*{match}", capsys.readouterr().err)
    checkpoint.unlink()
    assert call(runs, cache) == 1
    assert "last.pt: no such file" in capsys.readouterr().err
    assert collect([run]) == []
    assert call(run, cache) == call(runs, run) == 2  # no runs; no cache
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (r"(?s).*", "[" * 100_000, "cannot be used"),
        (r'"clips"', '"more": 0, "clips"', "a key is missing or unknown"),
        (r'"schema_version": 2', '"schema_version": 3', "another schema version"),
        (r'"as_cached"', '"other"', "different conditions"),
    ],
)
def test_a_damaged_file_is_refused(run, old, new, match):
    text, count = re.subn(old, new, (run / FILE_NAME).read_text(), count=1)
    (run / FILE_NAME).write_text(text)
    with pytest.raises(RobustnessError, match=f"erann/fold_0: .*{match}"):
        collect([run])
    assert count == 1


@pytest.mark.parametrize("name", ["video_resnext50", "cfn_sr"])
def test_facial_points_are_no_sound_and_no_frames(name):
    fields = model.inputs(name, "landmarks")
    reasons = {each.name: measuring._why_not(each, fields, FIELDS) for each in CONDITIONS}
    assert reasons["as_cached"] is None
    assert reasons["picture_missing"] == "the network does not look at frames"
    assert (reasons["sound_missing"] is None) == (name == "cfn_sr")
