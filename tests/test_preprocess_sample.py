"""The synthetic sample: names, coding, repeatable bytes, what leaks, and wrong use."""

import hashlib
import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")
pytest.importorskip("cv2")

from cache.ravdess import EMOTIONS, Clip  # noqa: E402
from preprocess import sample, sample_acting, sample_face, sample_voice  # noqa: E402


def hashes(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("Actor_*/*.mp4"))
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("sample")
    assert sample.main(["--out", str(out), "--actors=2", "--clips-per-actor=2", "--jobs=1"]) == 0
    return out


def test_face_and_voice_together_tell_all_eight_emotions_and_each_alone_four_pairs():
    faces, voices = sample_acting.FACE_GROUPS, sample_voice.VOICE_GROUPS
    assert len(set(zip(faces, voices, strict=True))) == len(EMOTIONS) == len(faces)
    assert sorted(Counter(faces).values()) == sorted(Counter(voices).values()) == [2, 2, 2, 2]


@pytest.mark.parametrize(("count", "least", "most"), [(8, 1, 1), (16, 2, 2), (60, 4, 8)])
def test_clips_are_spread_evenly_over_the_emotions(count, least, most):
    clips = sample.choose_clips(3, count, seed=0)
    assert clips == sorted(set(clips))
    for actor in (1, 2, 3):
        emotions = Counter(clip.emotion for clip in clips if clip.actor == actor)
        assert sum(emotions.values()) == count
        assert (len(emotions), min(emotions.values()), max(emotions.values())) == (8, least, most)


def test_fewer_clips_are_a_part_of_more():
    assert set(sample.choose_clips(2, 11, seed=3)) < set(sample.choose_clips(4, 40, seed=3))


def test_files_are_named_and_coded_as_ravdess(drawn):
    paths = sorted(drawn.glob("Actor_*/*"))
    assert len(paths) == 4
    for path in paths:
        clip = Clip.parse(path.stem)
        assert clip.is_full_av_speech
        assert path.parent.name == f"Actor_{clip.actor:02d}"
        with av.open(path) as mp4:
            video, audio = mp4.streams.video[0], mp4.streams.audio[0]
            assert (video.codec_context.name, video.width, video.height) == ("h264", 1280, 720)
            assert video.average_rate == Fraction(30_000, 1_001)
            assert (audio.rate, audio.channels) == (48_000, 2)
            assert video.start_time == audio.start_time == 0
            frames = sum(1 for _ in mp4.decode(video=0))
            assert frames == video.frames
            assert 3.1 <= frames / float(video.average_rate) <= 3.51
        assert path.stat().st_size < 1_000_000


def test_sound_is_as_long_as_the_picture_and_does_not_clip(drawn):
    for path in drawn.glob("Actor_*/*.mp4"):
        with av.open(path) as mp4:
            length_s = mp4.streams.video[0].frames * 1001 / 30000
            sound = np.concatenate([part.to_ndarray() for part in mp4.decode(audio=0)], axis=1)
        assert abs(sound.shape[1] / 48_000 - length_s) <= 1024 / 48_000
        assert np.abs(sound).max() < 1
        loud = np.flatnonzero(np.abs(sound[0]) > 0.25 * np.abs(sound).max()) / 48_000
        assert loud[0] < 0.7
        assert loud[-1] > 2.6


def test_bytes_do_not_depend_on_jobs_or_on_the_other_clips(drawn, tmp_path):
    options = ["--actors=2", "--clips-per-actor=1", "--jobs=2"]
    assert sample.main(["--out", str(tmp_path), *options]) == 0
    again = hashes(tmp_path)
    assert len(again) == 2
    assert again.items() <= hashes(drawn).items()


def test_another_seed_draws_another_actor():
    looks = [
        sample_face.draw_look(np.random.default_rng([seed, 1]), male=True) for seed in (0, 0, 1)
    ]
    assert looks[0] == looks[1] != looks[2]


def test_a_second_run_draws_nothing_and_says_so(drawn, capsys):
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    assert sample.main(["--out", str(drawn), "--actors=2", "--clips-per-actor=2"]) == 0
    assert "sample complete: 4 clips" in (said := capsys.readouterr().out)
    assert "nothing to draw" in said
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before


def test_only_missing_clips_are_drawn_again(drawn, capsys):
    before = hashes(drawn)
    next(drawn.glob("Actor_02/*.mp4")).unlink()
    assert sample.main(["--out", str(drawn), "--actors=2", "--clips-per-actor=2", "--jobs=1"]) == 0
    assert "1 drawn, 3 kept" in capsys.readouterr().out
    assert hashes(drawn) == before


@pytest.mark.parametrize("emotions", [(1, 2), (3, 8), (4, 6), (5, 7)])
def test_the_display_of_a_face_group_does_not_depend_on_the_emotion(emotions):
    seconds = np.arange(10) / 30
    poses = [
        sample_acting.animate(
            sample_acting.FACE_GROUPS[emotion - 1],
            sample.strength_of(Clip(1, 1, emotion, 1, 1, 1, 1), sample_acting.FACE_GROUPS),
            seconds,
            np.zeros(10),
            np.random.default_rng(0),
        )
        for emotion in emotions
    ]
    assert poses[0] == poses[1]


def test_strong_intensity_does_not_tell_the_partners_of_neutral():
    calm, disgust = Clip(1, 1, 2, 2, 1, 1, 1), Clip(1, 1, 7, 2, 1, 1, 1)
    assert sample.strength_of(calm, sample_acting.FACE_GROUPS) == 1
    assert sample.strength_of(disgust, sample_voice.VOICE_GROUPS) == 1
    assert sample.strength_of(calm, sample_voice.VOICE_GROUPS) > 1
    assert sample.strength_of(disgust, sample_acting.FACE_GROUPS) > 1


def test_odd_actors_speak_low_and_even_ones_high():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert 90 <= sample_voice.draw_voice(rng, male=True).pitch_hz <= 150
        assert 170 <= sample_voice.draw_voice(rng, male=False).pitch_hz <= 250


def test_a_sample_of_another_seed_or_version_is_refused(tmp_path, capsys):
    settings = {"seed": 1, "version": sample.VERSION}
    (tmp_path / "sample.json").write_text(json.dumps(settings))
    assert sample.main(["--out", str(tmp_path), "--seed=2"]) == 2
    assert "drawn with seed 1, asked for seed 2: choose" in capsys.readouterr().err
    settings["version"] = 0
    (tmp_path / "sample.json").write_text(json.dumps(settings))
    assert sample.main(["--out", str(tmp_path), "--seed=1"]) == 2
    assert "of version 0" in capsys.readouterr().err
    (tmp_path / "sample.json").write_text("[")
    assert sample.main(["--out", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_folder_with_other_clips_is_left_alone(tmp_path, capsys):
    real = tmp_path / "Actor_01" / "01-01-01-01-01-01-01.mp4"
    real.parent.mkdir()
    real.write_bytes(b"recorded")
    assert sample.main(["--out", str(tmp_path)]) == 2
    assert "so it is no sample" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [real]


@pytest.mark.parametrize(
    ("option", "allowed"),
    [
        ("--actors=0", "1..24"),
        ("--actors=25", "1..24"),
        ("--clips-per-actor=61", "1..60"),
        ("--clips-per-actor=x", "1..60"),
        ("--seed=-1", "0 or more"),
        ("--jobs=0", "1 or more"),
    ],
)
def test_wrong_use_names_the_value_and_the_range(option, allowed, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        sample.main(["--out", str(tmp_path / "new"), option])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert repr(option.split("=")[1]) in said
    assert allowed in said
    assert not (tmp_path / "new").exists()


def test_output_that_cannot_be_written_is_one_line_and_status_1(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert sample.main(["--out", str(tmp_path / "file" / "sample")]) == 1
    said = capsys.readouterr().err
    assert "cannot be written" in said
    assert said.count("\n") == 1


def test_a_clip_that_fails_is_reported_and_leaves_no_file(tmp_path, capsys):
    (tmp_path / "Actor_01").write_text("in the way")
    options = ["--actors=2", "--clips-per-actor=1", "--jobs=1"]
    assert sample.main(["--out", str(tmp_path), *options]) == 1
    assert "1 of 2 clips failed" in capsys.readouterr().err
    assert len(hashes(tmp_path)) == 1
    assert not list(tmp_path.rglob("*.tmp"))
