"""The synthetic sample: names, coding, repeatable bytes, what it must not reveal, and wrong use."""

import json
from collections import Counter, defaultdict
from fractions import Fraction

import av
import numpy as np
import pytest
from processes import status_of

from cache.files import sha256_file
from cache.ravdess import EMOTIONS, FULL_AV, SPEECH, Clip
from preprocess import sample, sample_acting, sample_face, sample_voice


def hashes(folder):
    return {path.name: sha256_file(path) for path in sorted(folder.glob("Actor_*/*.mp4"))}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("sample")
    assert sample.main(["--out", str(out), "--actors=2", "--clips-per-actor=2", "--jobs=1"]) == 0
    return out


def test_face_and_voice_together_distinguish_all_eight_emotions_and_each_alone_four_pairs():
    faces, voices = sample_acting.FACE_GROUPS, sample_voice.VOICE_GROUPS
    assert len(set(zip(faces, voices, strict=True))) == len(EMOTIONS) == len(faces)
    assert sorted(Counter(faces).values()) == sorted(Counter(voices).values()) == [2, 2, 2, 2]


@pytest.mark.parametrize(("count", "least", "most"), [(8, 1, 1), (16, 2, 2), (60, 4, 8)])
def test_clips_are_spread_evenly_over_the_emotions(count, least, most):
    clips = sample.choose_clips(3, count, seed=0)
    assert clips == sorted(set(clips))
    assert set(sample.choose_clips(2, count - 1, seed=0)) < set(clips)
    for actor in (1, 2, 3):
        emotions = Counter(clip.emotion for clip in clips if clip.actor == actor)
        assert sum(emotions.values()) == count
        assert (len(emotions), min(emotions.values()), max(emotions.values())) == (8, least, most)


def test_files_are_named_and_coded_like_ravdess(drawn):
    paths = sorted(drawn.glob("Actor_*/*"))
    assert len(paths) == 4
    for path in paths:
        clip = Clip.parse(path.stem)
        assert (clip.modality, clip.channel) == (FULL_AV, SPEECH)
        assert path.parent.name == f"Actor_{clip.actor:02d}"
        with av.open(path) as mp4:
            video, audio = mp4.streams.video[0], mp4.streams.audio[0]
            assert (video.codec_context.name, video.width, video.height) == ("h264", 1280, 720)
            assert video.average_rate == Fraction(30_000, 1_001)
            assert (audio.rate, audio.channels) == (48_000, 2)
            assert video.start_time == audio.start_time == 0
            sound = np.concatenate([part.to_ndarray() for part in mp4.decode(audio)], axis=1)
        seconds = video.frames * 1001 / 30_000
        assert 3.1 <= seconds <= 3.51
        # The sound is as long as the picture, does not clip, and starts and ends with the speech.
        assert abs(sound.shape[1] / 48_000 - seconds) <= 1024 / 48_000
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


def test_only_missing_clips_are_drawn(drawn, capsys):
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    command = ["--out", str(drawn), "--actors=2", "--clips-per-actor=2", "--jobs=1"]
    assert sample.main(command) == 0
    assert "complete: 0 clips generated, 4 kept" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before
    content = hashes(drawn)
    next(drawn.glob("Actor_02/*.mp4")).unlink()
    assert sample.main(command) == 0
    assert "complete: 1 clips generated, 3 kept" in capsys.readouterr().out
    assert hashes(drawn) == content


def test_within_a_group_the_display_does_not_depend_on_the_emotion():
    """Of neutral's partners neither, although neutral has no strong clips."""
    for groups in (sample_acting.FACE_GROUPS, sample_voice.VOICE_GROUPS):
        displays = defaultdict(set)
        for emotion in range(1, 9):
            for intensity in (1, 2):
                clip = Clip(FULL_AV, SPEECH, emotion, intensity, 1, 1, 1)
                group, strength = sample.display_of(clip, groups)
                displays[group, intensity].add(strength)
        assert len(displays) == 8
        assert all(len(strengths) == 1 for strengths in displays.values())
        assert displays[groups[0], 2] == {1}
        assert max(displays[groups[2], 2]) > 1


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("sample.json", json.dumps({"seed": 1, "version": sample.VERSION}), "'seed': 1"),
        ("sample.json", "[", "is not a valid sample file"),
        ("Actor_01/01-01-01-01-01-01-01.mp4", "recorded", "which is not part of a sample"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(tmp_path, capsys, name, content, problem):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    assert sample.main(["--out", str(tmp_path), "--seed=2"]) == 2
    assert problem in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


OUT_OF_RANGE = "--actors=25 --clips-per-actor=61 --jobs=0 --seed=-1"


@pytest.mark.parametrize("option", OUT_OF_RANGE.split())
def test_values_out_of_range_are_refused(option, tmp_path, capsys):
    assert status_of(sample.main, "--out", tmp_path / "new", option) == 2
    assert option.split("=")[0] in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_a_clip_that_fails_is_reported_and_leaves_no_file(tmp_path, capsys):
    (tmp_path / "Actor_01").write_text("in the way")
    options = ["--actors=2", "--clips-per-actor=1", "--jobs=1"]
    assert sample.main(["--out", str(tmp_path), *options]) == 1
    assert "1 of 2 clips failed" in capsys.readouterr().err
    assert len(hashes(tmp_path)) == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_another_seed_draws_another_actor():
    randoms = [np.random.default_rng([seed, 1]) for seed in (0, 0, 1)]
    one, same, other = (sample_face.draw_look(random, male=True) for random in randoms)
    assert one == same != other


def test_men_speak_low_and_women_high():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert 90 <= sample_voice.draw_voice(rng, male=True).pitch_hz <= 150
        assert 170 <= sample_voice.draw_voice(rng, male=False).pitch_hz <= 250
