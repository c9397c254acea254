"""Predictions for any video: as the run tested it, and clear where there is nothing to say."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from media import encode, noise_pictures, put, tone

from cache.ravdess import EMOTIONS
from cache.reader import Cache
from evaluate.predict.cli import main
from evaluate.predict.overlay import draw, over_mean, overlaid
from evaluate.predict.prediction import Prediction, Window
from evaluate.predict.predictor import load_predictor, predict
from model.checkpoint import CheckpointError
from preprocess.cli import main as preprocess_main
from preprocess.windows import plan, sound_pieces, upright_frames
from train.cli import main as train_main

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cache(sample_clips, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("predict") / "cache"
    made = ["--raw", str(sample_clips), "--cache", str(out), "--waveform", "--jobs", "2"]
    assert preprocess_main(made) == 0
    return out


@pytest.fixture(scope="module")
def run_of(cache, tmp_path_factory):
    """Trains a tiny network on the drawn clips of actors 1 and 2, and tests that of actor 5."""
    runs = tmp_path_factory.mktemp("runs")

    def train(name: str) -> Path:
        arguments = ["--cache", str(cache), "--runs", str(runs), "--fold", "1", "--model", name]
        arguments += ["--preset", "tiny", "--epochs", "2", "--batch-size", "3", "--device", "cpu"]
        assert train_main([*arguments, "--mfcc-normalize"]) == 0
        return runs / name / "fold_1"

    return train


@pytest.fixture
def ask(capsys):
    """Runs the command; gives its status, its JSON lines and what it says besides."""

    def run(*arguments):
        capsys.readouterr()
        status = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return status, [json.loads(line) for line in out.splitlines()], err

    return run


@pytest.fixture(scope="module")
def clips(sample_clips):
    return sorted(sample_clips.glob("Actor_*/*.mp4"))


@pytest.mark.parametrize(
    "name", ["cfn_sr", "video_resnext50", "audio_mfcc_cnn", "erann", "multiplicative"]
)
def test_a_cached_clip_gets_the_probabilities_of_its_evaluation(name, run_of, clips, ask):
    run = run_of(name)
    with (run / "predictions.csv").open(encoding="utf-8") as opened:
        [row] = csv.DictReader(opened)
    tested = next(path for path in clips if path.stem == row["clip_id"])
    status, [line], err = ask(tested, "--checkpoint", run / "last.pt", "--device", "cpu")
    assert status == 0
    assert "trained on synthetic sample" in err
    assert line["model"] == name
    assert line["predicted"] == EMOTIONS[int(row["predicted"])]
    expected = {emotion: float(row[f"p_{emotion}"]) for emotion in EMOTIONS}
    assert line["probabilities"] == pytest.approx(expected, abs=2e-6)
    assert [each["probabilities"] for each in line["windows"]] == [line["probabilities"]]


def test_a_longer_video_has_windows_and_their_mean(run_of, clips, ask, tmp_path):
    """Three drawn clips one after the other: 10 s."""
    joined = tmp_path / "joined.mp4"
    join(clips[:3], joined)
    checkpoint = run_of("cfn_sr") / "last.pt"
    status, [line], _ = ask(joined, "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert status == 0
    windows = line["windows"]
    assert len(windows) >= 6
    assert [each["start_s"] for each in windows[:3]] == [0.5, 1.725, 2.95]
    for emotion in EMOTIONS:
        shares = [each["probabilities"][emotion] for each in windows]
        assert line["probabilities"][emotion] == pytest.approx(np.mean(shares), abs=2e-6)
    assert Path(line["picture"]).read_bytes().startswith(b"\x89PNG")


def test_a_window_without_a_face_has_no_probabilities_but_the_others_have(
    run_of, clips, ask, tmp_path
):
    joined = tmp_path / "half.mp4"
    grey = np.full((150, 720, 1280, 3), 128, np.uint8)
    join([clips[0], put(tmp_path, "grey.mp4", encode(grey, tone(5)))], joined)
    status, [line], err = ask(joined, "--checkpoint", run_of("cfn_sr") / "last.pt")
    assert status == 0
    without = sum("problem" in window for window in line["windows"])
    assert f"{without} of {len(line['windows'])} windows without probabilities: a face in" in err
    first, *_, last = line["windows"]
    assert "probabilities" in first
    assert "probabilities" not in last
    assert "a face in 0 of 7 frames" in last["problem"]


def test_what_has_no_face_or_no_sound_is_refused_and_the_others_go_on(run_of, clips, ask, tmp_path):
    files = [
        put(tmp_path, "faceless.mp4", encode(noise_pictures(100), tone(3.3))),
        put(tmp_path, "silent.mp4", encode(noise_pictures(100), None)),
        put(tmp_path, "text.mp4", b"no video at all"),
        tmp_path / "missing.mp4",
        put(tmp_path, "short.mp4", encode(noise_pictures(30), tone(1))),
        clips[0],
    ]
    status, lines, err = ask(*files, "--checkpoint", run_of("cfn_sr") / "last.pt")
    assert status == 1
    assert [line["file"] for line in lines] == list(map(str, files))
    problems = [
        *("a face in 0 of 7 frames", "no sound in the file", "not a readable video"),
        *("no such file", "expected at least 2.20 s"),
    ]
    for line, problem in zip(lines, problems, strict=False):
        assert problem in line["error"]
        assert "probabilities" not in line
        assert f"error: {line['file']}: {line['error']}" in err
    assert "probabilities" in lines[-1]
    assert "Traceback" not in err


def test_a_network_that_hears_needs_no_face_and_one_that_sees_needs_no_sound(
    run_of, clips, ask, tmp_path
):
    faceless = put(tmp_path, "faceless.mp4", encode(None, tone(3.3)))
    status, [line], _ = ask(faceless, "--checkpoint", run_of("audio_mfcc_cnn") / "last.pt")
    assert status == 0
    assert "face_box" not in line["windows"][0]
    mute = tmp_path / "mute.mp4"
    join(clips[:1], mute, sound=False)
    status, [line], _ = ask(mute, "--checkpoint", run_of("video_resnext50") / "last.pt")
    assert status == 0


def test_a_folder_and_a_list_on_standard_input_name_files(
    run_of, clips, ask, tmp_path, monkeypatch
):
    checkpoint = run_of("cfn_sr") / "last.pt"
    folder = tmp_path / "videos"
    for path in clips[:2]:
        (folder / "deep").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "deep" / path.name.upper())
    put(folder, "notes.txt", b"not a video")
    status, lines, err = ask(folder, "--checkpoint", checkpoint)
    assert status == 0
    assert len(lines) == 2
    assert "2 of 3 files" in err
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{clips[0]}\n\n{clips[1]}\n"))
    status, lines, _ = ask("-", "--checkpoint", checkpoint)
    assert [line["file"] for line in lines] == list(map(str, clips[:2]))


def test_files_of_one_name_get_pictures_of_their_own(run_of, clips, ask, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(clips[0], tmp_path / folder / "clip.mp4")
    before = (tmp_path / "a" / "clip.mp4").read_bytes()
    _, lines, _ = ask(
        *(tmp_path / "a" / "clip.mp4", tmp_path / "b" / "clip.mp4"),
        *("--checkpoint", run_of("cfn_sr") / "last.pt", "--out", tmp_path / "a", "--video"),
    )
    assert len({line["picture"] for line in lines} | {line["video"] for line in lines}) == 4
    assert (tmp_path / "a" / "clip.mp4").read_bytes() == before  # not written over


def test_the_annotated_video_lasts_as_long_and_sounds_the_same(run_of, clips, ask, tmp_path):
    _, [line], _ = ask(
        *(clips[0], "--checkpoint", run_of("cfn_sr") / "last.pt"),
        *("--out", tmp_path, "--video"),
    )
    with av.open(str(clips[0])) as old, av.open(line["video"]) as new:
        assert new.streams.video[0].frames == old.streams.video[0].frames
        assert new.streams.video[0].width == old.streams.video[0].width + 320
        assert new.duration == pytest.approx(old.duration, abs=100_000)
    was, now = (
        np.concatenate(list(sound_pieces(Path(path)))) for path in (clips[0], line["video"])
    )
    length = min(len(was), len(now))
    assert np.corrcoef(was[:length], now[:length])[0, 1] > 0.99


def test_attention_is_that_of_the_network(run_of, clips, cache):
    """The map of the block from the cached clip, without the hook."""
    predictor = load_predictor(run_of("cfn_sr") / "last.pt")
    [window] = predict(predictor, clips[0], plan(clips[0]))
    stored = Cache(cache)
    fields = {
        name: torch.from_numpy(stored.read(clips[0].stem, name))[None] for name in predictor.needs
    }
    net = predictor.trained.net
    with torch.no_grad():
        frames, mfcc = predictor.trained.inputs(fields)
        heard = net.self_attention(net.audio(mfcc))[..., -1]
        _, attention = net.cross_modal(net.video(frames), heard)
    assert np.allclose(window.attention, over_mean(attention[0]), atol=1e-4)
    assert window.attention.mean() == pytest.approx(1, abs=1e-3)
    other = load_predictor(run_of("multiplicative") / "last.pt")
    [window] = predict(other, clips[0], plan(clips[0]))
    assert window.attention is None


def test_attention_over_its_mean():
    attention = torch.zeros(2, 3, 4)
    attention[0, 1, 2] = 0.75
    attention[1, 0, 0] = 0.25
    found = over_mean(attention, frames=2)
    assert found[0, 1, 2] == pytest.approx(0.75 * 24)
    assert found[1, 0, 0] == pytest.approx(0.25 * 24)
    assert found.sum() == pytest.approx(24)


def test_the_overlay_glows_where_the_attention_is_high():
    crop = np.full((8, 8, 3), 100, np.uint8)
    attention = np.zeros((2, 2), np.float32)
    attention[0, 1] = 5
    shown = overlaid(crop, attention).astype(int)
    assert (shown[-1, 0] == 100).all()  # untouched
    assert shown[0, -1, :2].min() > 150  # bright


@pytest.mark.parametrize("windows", [1, 7])
def test_a_picture_is_drawn_whatever_is_there(windows, tmp_path):
    probabilities = np.full(8, 1 / 8, np.float32)
    found = [Window(0.5 + n, probabilities=probabilities) for n in range(windows)]
    found += [Window(0.5 + windows, problem="no face")] * (windows > 1)
    draw("a $strange_{name", Prediction(found), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_use_is_explained(run_of, clips, ask, tmp_path):
    checkpoint = run_of("cfn_sr") / "last.pt"
    (tmp_path / "empty").mkdir()
    for arguments, expected in (
        ((clips[0], "--checkpoint", tmp_path / "none.pt"), "none.pt"),
        ((clips[0], "--checkpoint", clips[0]), "damaged"),
        ((tmp_path / "empty", "--checkpoint", checkpoint), "no file in"),
        ((clips[0], "--checkpoint", checkpoint, "--hop", "0"), "--hop is 0"),
        ((clips[0], "--checkpoint", checkpoint, "--video"), "--video needs --out"),
        ((clips[0], "--checkpoint", checkpoint, "--out", clips[0]), "File exists"),
    ):
        status, lines, err = ask(*arguments)
        assert status == 2
        assert lines == []
        assert expected in err
        assert len(err.splitlines()) == 1


def test_a_checkpoint_of_other_features_is_refused(run_of, tmp_path):
    state = torch.load(run_of("cfn_sr") / "last.pt", weights_only=True)
    state["config"]["cache"]["config"]["sound"]["mfcc"]["n_mels"] = 64
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="other settings of sound"):
        load_predictor(tmp_path / "other.pt")


def test_an_unfinished_network_is_used_with_a_warning(run_of, clips, ask, tmp_path):
    state = torch.load(run_of("cfn_sr") / "last.pt", weights_only=True)
    state["epoch"] = 1
    torch.save(state, tmp_path / "early.pt")
    status, _, err = ask(clips[0], "--checkpoint", tmp_path / "early.pt")
    assert status == 0
    assert "trained for 1 of 2 epochs" in err


def test_inputs_are_never_written_over_and_pictures_never_read_as_inputs(
    run_of, clips, ask, tmp_path
):
    for name in ("a.mp4", "a.emotions.mp4"):
        shutil.copy(clips[0], tmp_path / name)
    before = (tmp_path / "a.emotions.mp4").read_bytes()
    checkpoint = run_of("cfn_sr") / "last.pt"
    arguments = ["--checkpoint", checkpoint, "--out", tmp_path, "--video"]
    _, lines, _ = ask(tmp_path / "a.mp4", tmp_path / "a.emotions.mp4", *arguments)
    assert (tmp_path / "a.emotions.mp4").read_bytes() == before
    assert len({line["video"] for line in lines}) == 2
    (tmp_path / "a.emotions.mp4").unlink()
    drawn = sorted(path.name for path in tmp_path.iterdir())
    _, lines, err = ask(tmp_path, *arguments)
    assert [Path(line["file"]).name for line in lines] == ["a.mp4"]
    assert "are no pictures of predictions" in err
    assert {path.name for path in tmp_path.iterdir()} >= set(drawn)


@pytest.mark.parametrize(("seconds", "ended"), [((3, 9), "picture"), ((9, 3), "sound")])
def test_where_one_track_ends_the_rest_is_said_to_be_missing(seconds, ended, run_of, ask, tmp_path):
    pictures = np.full((round(30 * seconds[0]), 90, 160, 3), 128, np.uint8)
    path = put(tmp_path, "uneven.mp4", encode(pictures, tone(seconds[1])))
    predictor = load_predictor(run_of("cfn_sr") / "last.pt")
    windows = list(predict(predictor, path, plan(path)))
    assert f"the {ended} ends before this window does" in windows[-1].problem
    assert len(windows) == 2


def test_a_network_that_gives_no_numbers_has_an_error(run_of, clips, ask, monkeypatch):
    monkeypatch.setattr("model.checkpoint.classify", lambda *given: torch.full((1, 8), torch.nan))
    status, [line], _ = ask(clips[0], "--checkpoint", run_of("audio_mfcc_cnn") / "last.pt")
    assert status == 1
    assert "the network gives no numbers" in line["error"]


def test_sound_alone_cannot_be_annotated_and_the_others_go_on(run_of, clips, ask, tmp_path):
    soundfile.write(tmp_path / "words.flac", tone(3.3)[0], 48_000)
    status, lines, _ = ask(
        *(tmp_path / "words.flac", clips[0], "--out", tmp_path / "out", "--video"),
        *("--checkpoint", run_of("audio_mfcc_cnn") / "last.pt"),
    )
    assert status == 1
    assert "no picture in the file" in lines[0]["error"]
    assert "probabilities" in lines[0]
    assert Path(lines[1]["video"]).is_file()


def test_names_that_are_no_text_do_no_harm(run_of, clips, ask, tmp_path):
    names = [b"\xff\xfe.mp4", "一二 🙂.mp4".encode(), b"bad\nerror: forged\x1b[31m.mp4", b"-x.mp4"]
    paths = [Path(os.fsdecode(bytes(tmp_path) + b"/" + name)) for name in names]
    for path in paths:
        shutil.copy(clips[0], path)
    paths.append(tmp_path / "miss\ning.mp4")
    status, lines, err = ask(
        *paths, "--checkpoint", run_of("audio_mfcc_cnn") / "last.pt", "--out", tmp_path / "out"
    )
    assert status == 1
    assert [line["file"] for line in lines] == list(map(str, paths))
    assert [line.get("error") for line in lines] == [None] * 4 + ["no such file"]
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert "\x1b" not in err
    assert f"error: {tmp_path}/miss?ing.mp4: no such file" in err.splitlines()


def test_lists_of_windows_and_other_kinds_of_file_are_understood(
    run_of, clips, ask, tmp_path, monkeypatch
):
    checkpoint = run_of("audio_mfcc_cnn") / "last.pt"
    os.mkfifo(tmp_path / "pipe.mp4")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{clips[0]}\r\n{tmp_path / 'pipe.mp4'}\r\n"))
    status, lines, _ = ask("-", "--checkpoint", checkpoint)
    assert status == 1
    assert "probabilities" in lines[0]
    assert lines[1]["error"] == "not a regular file"
    monkeypatch.setattr("sys.stdin", None)
    status, _, err = ask("-", "--checkpoint", checkpoint)
    assert (status, err) == (2, "error: standard input is closed, expected a list of files\n")


def test_a_folder_that_cannot_be_read_is_named(run_of, clips, ask, tmp_path, monkeypatch):
    shutil.copy(clips[0], tmp_path / "clip.mp4")
    original = os.walk

    def walk(folder, onerror):
        onerror(PermissionError(13, "Permission denied", f"{folder}/closed"))
        return original(folder)

    monkeypatch.setattr("os.walk", walk)
    status, lines, err = ask(tmp_path, "--checkpoint", run_of("audio_mfcc_cnn") / "last.pt")
    assert status == 1
    assert len(lines) == 1
    assert "closed: cannot be read (Permission denied)" in err


def test_an_output_that_is_full_or_closed_ends_in_one_line(run_of, clips):
    arguments = [str(clips[0]), "--checkpoint", str(run_of("audio_mfcc_cnn") / "last.pt")]
    command = [sys.executable, "-m", "evaluate.predict", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == ("error: standard output: No space left on device")
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert closed.returncode == 2
    assert "standard output is closed" in closed.stderr
    assert "Traceback" not in done.stderr + closed.stderr


def test_an_interrupt_is_said(run_of, clips, ask, monkeypatch):
    def interrupt(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluate.predict.cli.listed", interrupt)
    status, lines, err = ask(clips[0], "--checkpoint", run_of("audio_mfcc_cnn") / "last.pt")
    assert (status, lines, err) == (1, [], "error: interrupted\n")


def join(paths: list[Path], out: Path, *, sound: bool = True) -> None:
    """Write the clips one after the other into one file, coded anew."""
    pictures = np.concatenate(
        [[frame.to_ndarray(format="rgb24") for _, frame in upright_frames(path)] for path in paths]
    )
    wave = np.concatenate([piece for path in paths for piece in sound_pieces(path)])
    out.write_bytes(encode(pictures, wave[None] if sound else None, rate_hz=44_100))
