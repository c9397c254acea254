"""Predictions for any video: as the run tested it, and clear where there is nothing to say."""

import csv
import io
import json
import os
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from finished import finished_run
from media import encode, noise_pictures, put, tone

from cache.ravdess import EMOTIONS
from cache.reader import Cache
from evaluate.predict.cli import main
from evaluate.predict.predictor import load, predict
from preprocess.cli import main as preprocess_main
from preprocess.decode import open_video
from preprocess.windows import SILENT, plan


@pytest.fixture(scope="module")
def features(sample_clips, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("predict") / "cache"
    made = ["--raw", str(sample_clips), "--cache", str(out), "--waveform", "--jobs", "1"]
    assert preprocess_main([*made, "--only", "1", "5"]) == 0
    return out


@pytest.fixture(scope="module")
def checkpoint_of(features, tmp_path_factory):
    """The last.pt of a run of a tiny network, tested on the synthetic clip of actor 5."""
    runs, manifest = tmp_path_factory.mktemp("runs"), Cache(features).manifest
    names = ("dataset", "config", "fingerprint", "schema_version")
    origin = {name: manifest[name] for name in names}
    return cache(lambda name: finished_run(runs, features, name, 1, cache=origin) / "last.pt")


@pytest.fixture
def ask(capsys, checkpoint_of):
    """Runs the command with a network; returns its status, its JSON lines and its messages."""

    def run(name, *arguments):
        checkpoint = name if isinstance(name, Path) else checkpoint_of(name)
        capsys.readouterr()
        status = main([*map(str, arguments), "--checkpoint", str(checkpoint), "--device", "cpu"])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, [json.loads(line) for line in out.splitlines()], err

    return run


@pytest.fixture(scope="module")
def clips(sample_clips):
    return sorted(sample_clips.glob("Actor_*/*.mp4"))


def sound_of(path: Path) -> np.ndarray:
    with open_video(path, picture=False) as video:
        return np.concatenate(list(video.sound()))


def frames_of(path: Path) -> np.ndarray:
    """All frames, reduced to 320x180."""
    with open_video(path, sound=False) as video:
        frames = [frame.reformat(320, 180, "rgb24") for _, frame in video.frames()]
    return np.stack([frame.to_ndarray() for frame in frames])


@pytest.fixture(scope="module")
def faceless() -> bytes:
    """A small video that a network of sound can be asked about."""
    return encode(noise_pictures(100, 48, 64), tone(3.3))


@pytest.fixture(scope="module")
def joined(clips, tmp_path_factory) -> Path:
    """Three synthetic clips, then six seconds of gray: 16 s."""
    gray = np.full((180, 180, 320, 3), 128, np.uint8)
    pictures = np.concatenate([*map(frames_of, clips[:3]), gray])
    sound = np.concatenate([*map(sound_of, clips[:3]), np.zeros(6 * 44_100, np.float32)])
    content = encode(pictures, sound[None], rate_hz=44_100)
    return put(tmp_path_factory.mktemp("joined"), "joined.mp4", content)


@pytest.mark.parametrize(
    "name", ["cfn_sr", "video_resnext50", "audio_mfcc_cnn", "erann", "multiplicative"]
)
def test_a_cached_clip_gets_the_probabilities_of_its_evaluation(name, checkpoint_of, clips, ask):
    with (checkpoint_of(name).parent / "predictions.csv").open(encoding="utf-8") as opened:
        [row] = csv.DictReader(opened)
    tested = next(path for path in clips if path.stem == row["clip_id"])
    status, [line], err = ask(name, tested)
    assert status == 0
    assert "warning: trained on synthetic sample" in err
    assert line["model"] == name
    assert line["predicted"] == EMOTIONS[int(row["predicted"])]
    expected = {emotion: float(row[f"p_{emotion}"]) for emotion in EMOTIONS}
    assert line["probabilities"] == pytest.approx(expected, abs=2e-6)
    assert [each["probabilities"] for each in line["windows"]] == [line["probabilities"]]


def test_a_longer_video_has_the_mean_of_its_windows_with_a_face(joined, ask, tmp_path):
    status, [line], err = ask("cfn_sr", joined, "--out", tmp_path / "out")
    assert status == 0
    windows = line["windows"]
    assert [each["start_s"] for each in windows[:3]] == [0.5, 1.725, 2.95]
    usable = [each for each in windows if "problem" not in each]
    assert 6 <= len(usable) < len(windows)
    for emotion in EMOTIONS:
        shares = [each["probabilities"][emotion] for each in usable]
        assert line["probabilities"][emotion] == pytest.approx(np.mean(shares), abs=2e-6)
    assert "a face in 0 of 7 frames" in windows[-1]["problem"]
    assert "probabilities" not in windows[-1]
    without = len(windows) - len(usable)
    assert f"{without} of {len(windows)} windows without probabilities: a face in" in err
    first, second, third = sorted(line["probabilities"].items(), key=lambda item: -item[1])[:3]
    likely = ", ".join(f"{emotion} {share:.0%}" for emotion, share in (first, second, third))
    assert f"{joined}: {likely} (mean of {len(usable)} windows)" in err.splitlines()
    assert Path(line["picture"]).read_bytes().startswith(b"\x89PNG")


def test_files_that_cannot_be_used_have_an_error_and_the_others_go_on(
    ask, clips, faceless, tmp_path
):
    problems = {
        "faceless.mp4": "a face in 0 of 7 frames",
        "silent.mp4": "the file contains no audio track",
        "text.mp4": "not a readable video",
        "short.mp4": "expected at least 2.20 s",
        "pipe.mp4": "not a regular file",
        "old.emotions.mp4": "is the output of a prediction",
        "miss\ning.mp4": "no such file",
    }
    put(tmp_path, "faceless.mp4", faceless)
    put(tmp_path, "silent.mp4", encode(noise_pictures(100, 48, 64), None))
    put(tmp_path, "text.mp4", b"no video at all")
    put(tmp_path, "short.mp4", encode(noise_pictures(30, 48, 64), tone(1)))
    put(tmp_path, "old.emotions.mp4", faceless)
    os.mkfifo(tmp_path / "pipe.mp4")
    files = [*(tmp_path / name for name in problems), clips[0]]
    status, lines, err = ask("cfn_sr", *files)
    assert status == 1
    assert [line["file"] for line in lines] == list(map(str, files))
    assert "probabilities" in lines[-1]
    for line, problem in zip(lines, problems.values(), strict=False):
        assert problem in line["error"]
        assert "probabilities" not in line
        name = line["file"].replace("\n", "?")
        assert f"error: {name}: {line['error']}" in err.splitlines()


def test_a_network_of_one_modality_needs_only_that_track(clips, ask, tmp_path):
    soundfile.write(tmp_path / "words.flac", tone(3.3)[0], 48_000)
    blind = put(tmp_path, "blind.mp4", encode(None, tone(3.3)))
    status, lines, _ = ask("audio_mfcc_cnn", tmp_path / "words.flac", blind)
    assert status == 0
    assert not any("face_box" in line["windows"][0] for line in lines)
    mute = put(tmp_path, "mute.mp4", encode(frames_of(clips[0]), None))
    status, [line], _ = ask("video_resnext50", mute)
    assert status == 0
    assert len(line["windows"][0]["face_box"]) == 4
    status, lines, _ = ask("audio_mfcc_cnn", blind, clips[0], "--out", tmp_path, "--video")
    assert status == 1
    assert "the file contains no video track" in lines[0]["error"]  # to annotate
    assert "probabilities" in lines[0]
    assert Path(lines[1]["video"]).is_file()


def test_a_silent_track_is_not_taken_for_a_voice_and_every_output_says_so(clips, ask, tmp_path):
    """Nearly silent: no sample is zero."""
    hiss = np.full((1, round(3.3 * 44_100)), 5e-5, np.float32)
    silent = put(tmp_path, "silent.mp4", encode(frames_of(clips[0]), hiss, rate_hz=44_100))
    status, [line], err = ask("cfn_sr", silent, "--out", tmp_path, "--video")
    assert status == 0
    assert line["warnings"][-1] == SILENT
    assert f"warning: {silent}: {SILENT}" in err
    with av.open(line["video"]) as video:
        assert video.streams.video[0].height > 180  # the warnings are below the picture
    status, [line], err = ask("audio_mfcc_cnn", silent)
    assert (status, SILENT in line["error"]) == (1, True)


def test_a_folder_and_a_list_on_standard_input_name_files(clips, ask, tmp_path, monkeypatch):
    for path in clips[:2]:
        put(tmp_path, f"deep/{path.name.upper()}", path.read_bytes())
    put(tmp_path, "notes.txt", b"not a video")
    status, lines, err = ask("audio_mfcc_cnn", tmp_path)
    assert (status, len(lines)) == (0, 2)
    assert "takes 2 of 3 files" in err
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{clips[0]}\n\n{clips[1]}\r\n"))
    status, lines, _ = ask("audio_mfcc_cnn", "-")
    assert [line["file"] for line in lines] == list(map(str, clips[:2]))
    monkeypatch.setattr("sys.stdin", None)
    expected = "error: standard input is closed, expected a list of files\n"
    assert ask("audio_mfcc_cnn", "-") == (2, [], expected)


def test_a_folder_that_cannot_be_read_is_named(faceless, ask, tmp_path, monkeypatch):
    put(tmp_path, "clip.mp4", faceless)
    original = os.walk

    def walk(folder, onerror):  # tests may run as root, who may read everything
        onerror(PermissionError(13, "Permission denied", f"{folder}/closed"))
        return original(folder)

    monkeypatch.setattr("os.walk", walk)
    status, lines, err = ask("audio_mfcc_cnn", tmp_path)
    assert (status, len(lines)) == (1, 1)
    assert f"cannot be read: [Errno 13] Permission denied: '{tmp_path}/closed'" in err


def test_pictures_have_their_own_names_and_are_never_taken_for_inputs(faceless, ask, tmp_path):
    odd = b"bad\nerror: forged\x1b[31m\xff"
    for name in (b"a/clip", b"b/clip", b"b/clip_2", odd):
        put(tmp_path, os.fsdecode(name + b".mp4"), faceless)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.mp4")}
    for _ in range(2):
        status, lines, err = ask("audio_mfcc_cnn", tmp_path, "--out", tmp_path / "a", "--video")
        assert (status, len(lines)) == (0, 4)
        assert {line["file"] for line in lines} == set(map(str, before))
        assert len({line["picture"] for line in lines} | {line["video"] for line in lines}) == 8
        assert before == {path: path.read_bytes() for path in before}
        assert "\x1b" not in err  # names are safe to show on a terminal


def test_attention_is_that_of_the_network_over_its_mean(checkpoint_of, clips, features):
    """The map of the block from the cached clip, without the hook."""
    predictor = load(checkpoint_of("cfn_sr"))
    [window] = predict(predictor, clips[0], plan(clips[0]))
    stored = Cache(features)
    fields = {
        name: torch.from_numpy(stored.read(clips[0].stem, name))[None] for name in predictor.fields
    }
    net = predictor.networks[0].net
    with torch.no_grad():
        frames, mfcc = predictor.networks[0].prepare(fields)
        heard = net.self_attention(net.audio(mfcc))[..., -1]
        _, attention = net.cross_modal(net.video(frames), heard)
    assert attention.mean() == pytest.approx(1, abs=1e-5)
    slices = attention[0].numpy()
    of_frames = [slices[number * len(slices) // 30] for number in range(30)]
    np.testing.assert_allclose(window.attention, of_frames, atol=1e-4)
    other = load(checkpoint_of("multiplicative"))
    [window] = predict(other, clips[0], plan(clips[0]))
    assert window.attention is None


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("{clip}", "--checkpoint", "{folder}/none.pt"), "none.pt"),
        (("{clip}", "--checkpoint", "{clip}"), "damaged"),
        (("{folder}",), "no file in"),
        (("{clip}", "--hop", "0"), "--hop is 0, expected 0.1 to 3600"),
        (("{clip}", "--video"), "--video requires --out DIR"),
        (("{clip}", "--out", "{clip}"), "File exists"),
    ],
)
def test_wrong_use_is_explained_in_one_line(
    arguments, problem, checkpoint_of, clips, tmp_path, capsys
):
    checkpoint = checkpoint_of("audio_mfcc_cnn")
    capsys.readouterr()
    given = [argument.format(clip=clips[0], folder=tmp_path) for argument in arguments]
    assert main(["--checkpoint", str(checkpoint), *given]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert problem in err


def test_checkpoints_of_other_features_are_refused_and_unfinished_ones_told(
    checkpoint_of, clips, ask, tmp_path
):
    state = torch.load(checkpoint_of("audio_mfcc_cnn"), weights_only=True)
    state["epoch"] = 1
    torch.save(state, tmp_path / "early.pt")
    status, [line], err = ask(tmp_path / "early.pt", clips[0])
    assert status == 0
    assert "warning: trained for 1 of 2 epochs" in err
    assert "trained for 1 of 2 epochs" in line["warnings"][1]
    state["config"]["cache"]["config"]["sound"]["mfcc"]["n_mels"] = 64
    torch.save(state, tmp_path / "other.pt")
    status, lines, err = ask(tmp_path / "other.pt", clips[0])
    assert (status, lines) == (2, [])
    assert "the features were made with other settings" in err


def test_a_network_that_returns_nan_has_an_error(checkpoint_of, clips, ask, tmp_path):
    state = torch.load(checkpoint_of("audio_mfcc_cnn"), weights_only=True)
    for name in ("fc1.weight", "fc1.bias"):
        state["model"][name].fill_(3e38)
    torch.save(state, tmp_path / "huge.pt")
    status, [line], _ = ask(tmp_path / "huge.pt", clips[0])
    assert status == 1
    assert "the network returns NaN or Inf" in line["error"]


def test_an_output_that_is_full_or_closed_ends_in_one_line(
    checkpoint_of, clips, capsys, monkeypatch
):
    arguments = [str(clips[0]), "--checkpoint", str(checkpoint_of("audio_mfcc_cnn"))]
    read, write = os.pipe()
    os.close(read)
    with open("/dev/full", "w") as full, os.fdopen(write, "w") as broken:
        for stdout, status, problem in (
            (full, 1, "No space left on device"),
            (broken, 1, None),  # the reader, such as `head`, has enough
            (None, 2, "standard output is closed"),
        ):
            capsys.readouterr()
            with monkeypatch.context() as patch:
                patch.setattr("sys.stdout", stdout)
                assert main(arguments) == status
            errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
            assert len(errors) == bool(problem)
            assert (problem or "") in "".join(errors)


def test_the_annotated_video_lasts_as_long_and_sounds_the_same(clips, ask, tmp_path):
    _, [line], _ = ask("cfn_sr", clips[0], "--out", tmp_path, "--video")
    with av.open(str(clips[0])) as old, av.open(line["video"]) as new:
        assert new.streams.video[0].frames == old.streams.video[0].frames
        assert new.streams.video[0].width == old.streams.video[0].width + 320
        assert new.duration == pytest.approx(old.duration, abs=100_000)
    was, now = (sound_of(Path(path)) for path in (clips[0], line["video"]))
    length = min(len(was), len(now))
    assert np.corrcoef(was[:length], now[:length])[0, 1] > 0.99
