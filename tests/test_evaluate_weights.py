"""Weights that come with the project: exported, read back, predicted with, tested, refused."""

import json
import re
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from finished import finished_run
from media import contents, tone
from noise import noise_arrays, write_noise_cache
from safetensors.torch import load_file, save_file
from test_model_landmarks import faces
from training import train

import model
from cache.files import sha256_file
from cache.ravdess import EMOTIONS, LANDMARKS_ORIGIN, expected_clips
from cache.reader import Cache
from cache.schema import SAMPLE_COUNT, SAMPLE_RATE_HZ
from cache.shard import open_shard
from cache.share import fetch, pack
from evaluate import shipped, weights_check
from evaluate.export.cli import main as export_main
from evaluate.predict.cli import main as predict_main
from evaluate.predict.picture import glowing
from evaluate.predict.predictor import WindowPrediction, load, predict
from evaluate.runs import load_result, read_runs
from model.landmarks import PLACES
from preprocess.audio import mfcc
from preprocess.dataset import find_clips
from preprocess.settings import Settings
from preprocess.windows import plan
from train.record import (
    load_checkpoint,
    read_config,
    read_metrics,
    read_run,
    save_checkpoint,
    save_published,
)

RECORDING = "03-01-06-01-02-01-05"
VOICE, FACE, BOTH = "audio_mfcc_cnn", "video_resnext50", "cfn_sr"
SETTINGS = Settings(modality="landmarks", faces="landmarks", audio="wav", landmarks="csv")


def arrays_of(clip):
    """Noise of one clip, with landmarks in place of frames."""
    seed = clip.label + 8 * clip.actor
    arrays = noise_arrays(seed) | {"landmarks": faces(1, seed)[0].numpy()}
    del arrays["frames"]
    return arrays


@pytest.fixture(scope="module")
def landmark_cache(tmp_path_factory):
    """Two clips each of actors 1..8."""
    clips = [clip for actor in range(1, 9) for clip in expected_clips(actor)[:12:6]]
    return write_noise_cache(tmp_path_factory.mktemp("landmarks") / "cache", clips, arrays_of)


@pytest.fixture(scope="module")
def runs(landmark_cache, tmp_path_factory):
    """Runs of folds 0 and 1 that say that they learned from RAVDESS."""
    out, manifest = tmp_path_factory.mktemp("runs"), Cache(landmark_cache).manifest
    origin = {name: manifest[name] for name in ("fingerprint", "schema_version")}
    origin |= {"dataset": LANDMARKS_ORIGIN["dataset"], "config": SETTINGS.config()}
    for name in (VOICE, FACE, BOTH):
        for fold in (0, 1):
            changes = {"preset": "landmarks", "cache": origin, "command": ["/home/me/train.py"]}
            finished_run(out, landmark_cache, name, fold, **changes)
    return out


def export(runs, name, out):
    checkpoints = [str(runs / name / f"fold_{fold}" / "last.pt") for fold in (0, 1)]
    given = ["--checkpoint", *checkpoints, "--safetensors", str(out)]
    return export_main([*given, "--points", "a painter"])


@pytest.fixture(scope="module")
def published(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("published")
    for name in (VOICE, BOTH):
        assert export(runs, name, out / name) == 0
    return out


@pytest.fixture
def weights(published, tmp_path, monkeypatch):
    """The folder of the weights that come with the project, with those of the runs in it."""
    monkeypatch.setattr(shipped, "FOLDER", shutil.copytree(published, tmp_path / "weights"))
    return tmp_path / "weights"


def load_as_the_card_says(card, monkeypatch):
    (lines,) = re.findall(r"```python\n(.*?)```", card.read_text(), re.S)
    monkeypatch.chdir(card.parent)
    exec(lines, found := {})
    return found


def test_published_weights_are_those_of_the_runs_with_a_card_that_says_how_to_load_them(
    runs, weights, monkeypatch
):
    folder = weights / BOTH
    names = ["README.md", "fold_0.safetensors", "fold_1.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    accuracies = []
    for fold in (0, 1):
        run = runs / BOTH / f"fold_{fold}"
        read, trained = (load_checkpoint(p) for p in (folder / names[1 + fold], run / "last.pt"))
        for mine, its in ((read.weights, trained.weights), (read.statistics, trained.statistics)):
            assert mine.keys() == its.keys()
            assert all(torch.equal(mine[name], its[name]) for name in its)
        assert not read.config.differences(trained.config)
        assert read.config.command == ()  # it may name folders of a machine
        accuracies.append(read_run(run).predictions.accuracy)
        assert read.accuracy == accuracies[-1]
    card = (folder / "README.md").read_text()
    for text in ("those of a painter", "not for decisions about people", "CC BY-NC-SA 4.0"):
        assert text in card
    assert f"**{100 * np.mean(accuracies):.2f} %**" in card
    before = [sha256_file(path) for path in sorted(folder.iterdir())]
    assert export(runs, BOTH, folder) == 0
    assert before == [sha256_file(path) for path in sorted(folder.iterdir())]
    assert load_as_the_card_says(folder / "README.md", monkeypatch)["mean"].shape == (13, 1)


def test_half_weights_take_half_the_bytes_and_hardly_change_a_prediction(
    runs, landmark_cache, published, tmp_path
):
    checkpoint, half = runs / BOTH / "fold_0" / "last.pt", tmp_path / "half.safetensors"
    given = ["--checkpoint", str(checkpoint), "--safetensors", str(half), "--half"]
    assert export_main(given) == 0
    whole = published / BOTH / "fold_0.safetensors"
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    assert "stored as 16-bit floats" in half.with_suffix(".md").read_text()
    cache, networks = Cache(landmark_cache), [load_checkpoint(p).network() for p in (whole, half)]
    for clip in cache.clips[:4]:
        fields = {
            name: torch.from_numpy(cache.read(clip.clip_id, name))[None]
            for name in networks[0].fields
        }
        one, other = (network.probabilities(fields) for network in networks)
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


def test_folds_of_one_card_are_other_folds_of_one_network(runs, tmp_path, capsys):
    first, again = (str(runs / VOICE / f"fold_{k}" / "last.pt") for k in (0, 0))
    other = str(runs / BOTH / "fold_1" / "last.pt")
    for files, out, problem in (
        ([first, again], "folder", "repeats fold 0"),
        ([first, other], "folder", "has a different model"),
        ([first, first.replace("_0", "_1")], "one.safetensors", "one file for 2 checkpoints"),
    ):
        status = export_main(["--checkpoint", *files, "--safetensors", str(tmp_path / out)])
        (line,) = capsys.readouterr().err.splitlines()
        assert (status, problem in line) == (2, True)
    assert not list(tmp_path.iterdir())


def test_weights_do_not_join_those_of_another_export(runs, tmp_path, capsys):
    folder = shutil.copytree(runs / VOICE, tmp_path / "runs" / VOICE)
    assert export(tmp_path / "runs", VOICE, tmp_path / "out") == 0
    before = contents(tmp_path / "out")
    given = ["--checkpoint", str(folder / "fold_0" / "last.pt"), "--safetensors"]
    assert export_main([*given, str(tmp_path / "out")]) == 2
    assert "has fold_1.safetensors of another export" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


def test_strangers_get_the_mean_of_the_folds_and_actors_of_ravdess_the_fold_that_tested_them(
    runs, weights, tmp_path, capsys
):
    names = ["stranger", "03-01-01-01-01-01-06 (1)", "03-01-01-01-01-01-22"]
    files = [tmp_path / f"{name}.wav" for name in names]
    sound = tone(3.3, SAMPLE_RATE_HZ)[0]
    for file in files:
        soundfile.write(file, sound, SAMPLE_RATE_HZ, subtype="FLOAT")
    capsys.readouterr()
    assert predict_main([*map(str, files), "--model", VOICE, "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]

    heard = torch.from_numpy(mfcc(sound[22_050 : 22_050 + SAMPLE_COUNT]))[None]
    networks = [
        load_checkpoint(weights / VOICE / f"fold_{k}.safetensors").network() for k in (0, 1)
    ]
    each = [network.probabilities({"mfcc": heard})[0].tolist() for network in networks]
    assert each[0] != pytest.approx(each[1], abs=1e-3)
    shares = [[line["probabilities"][emotion] for emotion in EMOTIONS] for line in lines]
    assert [sum(share) for share in shares] == pytest.approx([1, 1, 1], abs=1e-5)
    assert shares[0] == pytest.approx(np.mean(each, axis=0), abs=1e-5)
    assert shares[1] == pytest.approx(each[1], abs=1e-5)
    assert shares[2] == pytest.approx(shares[0], abs=2e-6)
    assert "warnings" not in lines[0]
    trained = r"networks were trained on RAVDESS's actor \d+: "
    assert re.match(f"1 of 2 {trained}predicted by fold 1, which did", lines[1]["warnings"][-1])
    assert re.match(f"2 of 2 {trained}not a prediction for an un", lines[2]["warnings"][-1])
    assert lines[1]["warnings"][-1] in err
    both = [str(weights / VOICE / f"fold_{fold}.safetensors") for fold in (0, 1)]
    each = [argument for path in both for argument in ("--checkpoint", path)]
    twice = ["--checkpoint", *both, both[0]]
    for given in (["--checkpoint", *both], each, twice):
        assert predict_main([str(files[0]), *given]) == 0
        assert json.loads(capsys.readouterr().out) == lines[0]
        assert predict_main([*given, str(files[0])]) == 0
        assert json.loads(capsys.readouterr().out) == lines[0]
    assert predict_main([str(files[0]), "--model", "mmtm"]) == 2
    assert "the project has no weights of mmtm, found audio_m" in capsys.readouterr().err


def test_actors_that_only_the_starting_weights_saw_are_no_strangers(runs, tmp_path):
    checkpoint = load_checkpoint(runs / VOICE / "fold_0" / "last.pt")
    state = {"weights": checkpoint.weights, "statistics": checkpoint.statistics, "training": {}}
    run = load_checkpoint(runs / VOICE / "fold_1" / "last.pt").config.as_start()
    for name, kind, warned in (("known", run, (1, 0)), ("public", None, (0, 1))):
        init = {"audio": {"file": "last.pt", "sha256": "0" * 64, "run": kind}}
        (tmp_path / name).mkdir()
        config = replace(checkpoint.config, init=init)
        save_checkpoint(tmp_path / name, config, epoch=2, **state)
        predictor = load(tmp_path / name / "last.pt")
        _, seen = predictor.for_file("03-01-01-01-01-01-01.wav")  # a test actor of fold 0
        unknown = [each for each in predictor.warnings if "unknown actors" in each]
        assert (len(seen), len(unknown)) == warned


def test_networks_of_pixels_and_of_points_are_not_averaged(runs, tmp_path):
    of_points = load_checkpoint(runs / BOTH / "fold_0" / "last.pt")
    net = model.build(BOTH, "tiny")
    config = replace(of_points.config, preset="tiny", parameters=model.count_parameters(net))
    state = {"weights": net.state_dict(), "statistics": of_points.statistics, "training": {}}
    save_checkpoint(tmp_path, config, epoch=2, **state)
    with pytest.raises(ValueError, match="networks of frames and of landmarks, expected one kind"):
        load(of_points.path, tmp_path / "last.pt")


def test_python_calls_take_the_names_of_files_and_folders_as_text(runs, landmark_cache, tmp_path):
    folder = str(runs / VOICE / "fold_0")
    assert read_run(folder).config == read_config(folder)
    assert read_runs(str(runs))[0][VOICE][0].metrics == tuple(read_metrics(folder))
    assert load_result(f"{folder}/last.pt").network().name == VOICE
    assert open_shard(f"{landmark_cache}/actor_01.h5").clip_ids
    pack(str(landmark_cache), str(tmp_path / "pack"), as_jpeg=None, parts=1)
    fetch(str(tmp_path / "pack"), str(tmp_path / "fetched"), actors=[1], jobs=1)
    assert {clip.actor for clip in Cache(str(tmp_path / "fetched")).clips} == {1}
    clip = f"{tmp_path}/{RECORDING}.wav"
    soundfile.write(clip, np.zeros(3 * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    assert find_clips(str(tmp_path), Settings(modality="audio")).sources[0].file.path == Path(clip)
    predictor, _ = load(f"{folder}/last.pt").for_file(clip)
    assert len(list(predict(predictor, clip, plan(clip)))) == 1


def test_shipped_weights_are_tested_on_a_cache(weights, landmark_cache, tmp_path, capsys):
    shutil.rmtree(weights / VOICE)
    arguments = ["--cache", str(landmark_cache)]
    assert weights_check.main(arguments) == 0
    out, err = capsys.readouterr()
    percents = np.array([re.findall(r"([0-9.]+)%", line) for line in out.splitlines()], float)
    np.testing.assert_allclose(percents[:, 0], percents[:, 1])
    np.testing.assert_allclose(percents[2], percents[:2].mean(axis=0), atol=0.01)
    assert not err
    path = weights / BOTH / "fold_1.safetensors"
    checkpoint = load_checkpoint(path)
    save_published(path, checkpoint, accuracy=1 - checkpoint.accuracy / 2, about={}, half=False)
    assert weights_check.main(arguments) == 1
    assert "error: cfn_sr fold 1: more than 1% from the recorded" in capsys.readouterr().err
    few = write_noise_cache(tmp_path / "few", expected_clips(5)[:2], arrays_of)
    assert weights_check.main(["--cache", str(few)]) == 0
    out, err = capsys.readouterr()
    assert "mean of 1 folds" in out
    assert "or no clips of its test actors in the cache" in err
    assert "may differ" in err


def test_a_fusion_starts_from_published_weights_of_its_fold_only(
    runs, landmark_cache, tmp_path, capsys, monkeypatch
):
    for name in (VOICE, FACE):
        assert export(runs, name, tmp_path / name) == 0
    given = ["--model", BOTH, "--preset", "landmarks"]
    given += ["--init-video", tmp_path / FACE / "fold_0.safetensors", "--init-audio"]
    assert train(landmark_cache, tmp_path, *given, tmp_path / VOICE / "fold_1.safetensors") == 2
    assert "its weights were trained on actors [1, 2, 3, 4]" in capsys.readouterr().err
    given += [tmp_path / VOICE / "fold_0.safetensors", "--mfcc-normalize"]
    assert train(landmark_cache, tmp_path, *given) == 0
    starts = read_config(tmp_path / BOTH / "fold_0").init
    assert [starts[part]["run"]["model"] for part in ("video", "audio")] == [FACE, VOICE]
    # A network without the mean and std of MFCCs.
    load_as_the_card_says(tmp_path / FACE / "README.md", monkeypatch)


def changed(path, out, *, about=None, **tensors):
    """A copy of published weights with other tensors, or another text as metadata."""
    with path.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        text = json.loads(opened.read(length))["__metadata__"]["cfn_sr"]
    save_file(load_file(path) | tensors, out, {"cfn_sr": about(text) if about else text})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"fc1.bias": torch.full((8,), torch.nan)}, "fc1.bias contains NaN or Inf"),
        ({"fc1.bias": torch.zeros(9)}, "size mismatch for fc1.bias"),
        ({"fc1.bias": torch.zeros(8).double()}, "fc1.bias is torch.float64"),
        ({"odd\n": torch.zeros(1)}, "Unexpected key"),
        ({"mfcc_std": torch.zeros(13, 1)}, "mfcc_std is 0 or below"),
        ({"about": lambda text: "{"}, "metadata: not JSON"),
        ({"about": lambda text: text.replace("about", "odd")}, "about, odd: missing or unknown"),
        ({"about": lambda text: text.replace('"fold": 0', '"fold": 1')}, "train_actors are"),
        ({"about": lambda text: re.sub('(racy": )[0-9.]+', r"\1NaN", text)}, "accuracy is nan"),
        (struct.pack("<Q", 2**40) + b"{}", "damaged (Error while deserializing header"),
        (struct.pack("<Q", 2**21) + b"[" * 2**21, "damaged (Error while deserializing header"),
        (struct.pack("<Q", 2) + b"[]", "damaged"),
    ],
)
def test_hostile_weights_end_in_one_line(change, problem, weights, tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        changed(weights / VOICE / "fold_0.safetensors", path, **change)
    capsys.readouterr()
    assert predict_main(["clip.wav", "--checkpoint", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line


def test_points_glow_where_the_sound_makes_the_network_look():
    points = np.full((30, 68, 2), 20, np.float32)
    points[:, PLACES["nose"]] = 90
    attention = np.zeros((30, 9), np.float32)
    attention[15:, list(PLACES).index("nose")] = 2
    boxes = np.tile(np.array([10, 10, 110, 110], np.float32), (30, 1))
    window = WindowPrediction(0.5, boxes=boxes, points=points, attention=attention)
    gray = np.full((200, 200, 3), 100, np.uint8)
    later, earlier = (glowing(gray, window, number).astype(int) for number in (20, 3))
    assert later[160, 160].sum() > 500  # the point (90, 90) of a box of 100 pixels, twice as large
    assert earlier[160, 160].sum() < 50
    assert (later[100, 100] == 100).all()


def test_a_real_face_gets_points_sound_and_a_picture(weights, real_data, tmp_path, capsys):
    clip = real_data / "ravdess" / "Actor_05" / "01-01-06-01-02-01-05.mp4"
    capsys.readouterr()
    assert predict_main([str(clip), "--out", str(tmp_path / "out"), "--video"]) == 0
    out, err = capsys.readouterr()
    line = json.loads(out)
    assert line["model"] == BOTH
    assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert "here dlib finds the points" in err
    assert "predicted by fold 1, which did not see that actor" in err
    assert len(list((tmp_path / "out").iterdir())) == 2
    predictor, _ = load(*shipped.files_of(BOTH), shipped=True).for_file(clip)
    [window] = predict(predictor, clip, plan(clip))
    shares = (window.points - window.boxes[:, None, :2]) / np.ptp(window.boxes[0, ::2])
    assert ((shares > 0) & (shares < 1)).mean() > 0.95
    assert window.attention.shape == (30, 9)
    assert window.attention.mean() == pytest.approx(1, abs=1e-3)
