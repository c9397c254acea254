"""Features through the command: what becomes of clips, and of a cache that exists already.

Tests of bookkeeping use short recordings, because those take no time.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import zipfile
from fractions import Fraction

import cv2
import numpy as np
import pytest
import soundfile
from media import contents, encode, noise_pictures, put, record, tone
from processes import status_of

from cache.__main__ import main as cache_main
from cache.manifest import fingerprint
from cache.reader import Cache
from cache.shard import CacheError
from preprocess.cli import main
from preprocess.clip import compute
from preprocess.decode import open_video
from preprocess.settings import FaceSettings, Settings, from_config

JOYFUL = "01-01-03-01-01-01-01"  # a clip of `sample_clips`
# Recordings: one each of actors 1 and 5, two of actor 2.
NAMES = ("03-01-03-01-01-01-01", "03-01-05-01-02-01-02", "03-01-08-02-01-02-02")
NAMES += ("03-01-01-01-01-01-05",)


def features(raw, cache, *more):
    return main(["--raw", str(raw), "--cache", str(cache), "--jobs", "1", *more])


def sound_features(raw, cache, *more):
    return features(raw, cache, "--modality", "audio", *more)


@pytest.fixture
def raw(tmp_path):
    for number, name in enumerate(NAMES):
        record(tmp_path / "recordings", name, 300 + 100 * number)
    return tmp_path / "recordings"


@pytest.fixture
def cache(raw, tmp_path):
    """The cache of the recordings; tests change it, and bring it back to what it was."""
    assert sound_features(raw, tmp_path / "cache") == 0
    return tmp_path / "cache"


def test_clips_become_one_shard_per_actor_and_a_manifest(built, sample_clips):
    assert list(contents(built)) == ["actor_01.h5", "actor_02.h5", "actor_05.h5", "manifest.json"]
    cache = Cache(built)
    assert not any(cache.problems())
    assert len(cache.clips) == 4
    assert cache.manifest["dataset"] == "synthetic sample, seed 0"
    for clip in cache.clips:
        entry = cache.manifest["clips"][clip.clip_id]
        content = (sample_clips / entry["source"]).read_bytes()
        assert entry["source_sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["notes"] == []
        assert cache.read(clip.clip_id, "label") == clip.label
        assert cache.read(clip.clip_id, "frames").std() > 20
        box = cache.read(clip.clip_id, "face_box")
        assert (box[:, 2] - box[:, 0] == box[:, 3] - box[:, 1]).all()
        assert cache.read(clip.clip_id, "face_score").max() > 0.9


def test_a_second_run_changes_nothing_and_says_so(raw, cache, capsys):
    def state():
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in cache.iterdir()}

    before = state()
    assert sound_features(raw, cache) == 0
    assert "nothing to do: " in capsys.readouterr().out
    assert state() == before


def test_two_workers_give_the_bytes_of_one(built, sample_clips, tmp_path):
    assert features(sample_clips, tmp_path / "cache", "--jobs", "2") == 0
    assert contents(tmp_path / "cache") == contents(built)


# What an earlier run has left. -----------------------------------------------------------------


def test_one_actor_after_the_other_gives_the_same_cache_whatever_its_path(raw, cache, tmp_path):
    grown = tmp_path / "Bänder & größe 'n \u97f3" / "ca che"
    for actor in ("5", "1", "2"):
        assert sound_features(raw, grown, "--only", actor) == 0
    assert contents(grown) == contents(cache)


def test_missing_and_damaged_shards_are_rebuilt(raw, cache, capsys):
    before = contents(cache)
    (cache / "actor_01.h5").write_bytes(b"rot")
    (cache / "actor_05.h5").unlink()
    flipped = bytearray(before["actor_02.h5"])
    flipped[len(flipped) // 2] ^= 1
    (cache / "actor_02.h5").write_bytes(flipped)
    assert sound_features(raw, cache) == 0
    assert "4 clips processed" in capsys.readouterr().out
    assert contents(cache) == before


def test_a_lost_clip_stays_listed_until_it_is_back(raw, cache, tmp_path):
    before = contents(cache)
    (cache / "actor_05.h5").unlink()
    lost = (raw / f"{NAMES[3]}.wav").rename(tmp_path / "lost.wav")
    for _ in range(2):
        assert sound_features(raw, cache) == 1
        assert "missing or damaged" in (cache / "failures.json").read_text()
        assert len(Cache(cache).clips) == 3
    assert sound_features(raw, cache, "--only", "2") == 0  # no failure of this actor
    assert "missing or damaged" in (cache / "failures.json").read_text()
    lost.rename(raw / f"{NAMES[3]}.wav")
    assert sound_features(raw, cache) == 0
    assert contents(cache) == before


def test_clips_whose_raw_files_were_removed_stay_and_are_named(raw, cache, capsys):
    (raw / f"{NAMES[3]}.wav").unlink()
    assert sound_features(raw, cache) == 0
    assert f"note: 1 clips of {cache} are not in {raw}, such as {NAMES[3]}.wav. They stay" in (
        capsys.readouterr().out
    )
    assert len(Cache(cache).clips) == 4
    assert sound_features(raw, cache, "--only", "2") == 0
    assert "are not in" not in capsys.readouterr().out


@pytest.mark.parametrize("stamps", ["kept", "lost"])
def test_a_replaced_raw_clip_is_processed_again_and_an_equal_one_is_not(raw, cache, capsys, stamps):
    before, path = contents(cache), raw / f"{NAMES[2]}.wav"
    content = path.read_bytes()
    for new, made in ((content, 0), (path.with_stem(NAMES[1]).read_bytes(), 1), (content, 1)):
        path.write_bytes(new)
        os.utime(path, (1, 1))  # as a copy with an old date
        if stamps == "lost":
            (cache / ".stamps.json").unlink()
        capsys.readouterr()
        assert sound_features(raw, cache) == 0
        assert (f"{made} clips processed" if made else "nothing to do") in capsys.readouterr().out
    assert contents(cache) == before


def test_a_raw_clip_that_is_replaced_meanwhile_is_redone(raw, cache, tmp_path, monkeypatch):
    path = raw / f"{NAMES[2]}.wav"
    content = path.read_bytes()
    path.write_bytes(path.with_stem(NAMES[1]).read_bytes())

    def compute_and_replace(*arguments, **options):
        arrays = compute(*arguments, **options)
        path.write_bytes(content)
        return arrays

    monkeypatch.setattr("preprocess.clip.compute", compute_and_replace)
    assert sound_features(raw, tmp_path / "other") == 0
    monkeypatch.undo()
    assert sound_features(raw, tmp_path / "other") == 0
    assert contents(tmp_path / "other") == contents(cache)


def test_shards_go_when_all_raw_clips_were_replaced_by_bad_ones(raw, cache, capsys):
    for name in NAMES:
        (raw / f"{name}.wav").write_bytes(b"no sound")
    assert sound_features(raw, cache) == 1
    assert "no clip could be processed" in capsys.readouterr().out
    assert list(contents(cache)) == ["failures.json"]


def test_a_changed_raw_clip_that_cannot_be_read_stops_no_other(raw, tmp_path):
    zipped, cache, bad = tmp_path / "all.zip", tmp_path / "other", f"{NAMES[1]}.wav"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_LZMA) as archive:
        for name in NAMES:
            archive.write(raw / f"{name}.wav", f"{name}.wav")
        start = archive.getinfo(bad).header_offset + 30 + len(bad)
    assert sound_features(zipped, cache) == 0
    content = bytearray(zipped.read_bytes())
    content[start : start + 20] = b"\xff" * 20
    zipped.write_bytes(content)
    assert sound_features(zipped, cache) == 1
    [reason] = json.loads((cache / "failures.json").read_text()).values()
    assert f"all.zip/{bad} cannot be read (" in reason
    assert len(Cache(cache).clips) == 3


def test_other_settings_versions_or_data_do_not_mix(raw, cache, capsys, monkeypatch):
    before = contents(cache)
    assert sound_features(raw, cache, "--waveform") == 2
    assert "(recorded and current: config.waveform: False and True)" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr("preprocess.settings.version", lambda name: "0.0")
        assert sound_features(raw, cache) == 2
    assert re.search(r"versions.librosa: '0[.\d]+' and '0.0'", capsys.readouterr().err)
    put(raw, "sample.json", b'{"seed": 1, "version": 1}')
    assert sound_features(raw, cache) == 2
    assert "'RAVDESS speech, audio only' and 'synthetic sample, seed 1'" in capsys.readouterr().err
    assert contents(cache) == before


# Failures. -------------------------------------------------------------------------------------

FACELESS = encode(noise_pictures(95), tone(3.2))
BAD = {
    "01-01-02-01-01-02-01": (b"no video at all", "not a readable video"),
    "01-01-02-01-02-02-01": (FACELESS, "a face in 0 of 7 frames, expected half or more"),
    "a wrong name": (b"x", "is not a RAVDESS name"),
}


def test_bad_clips_are_listed_and_the_good_ones_kept(one_clip, tmp_path, capsys):
    for name, (content, _) in BAD.items():
        put(one_clip, f"Actor_01/{name}.mp4", content)
    cache = tmp_path / "cache"
    assert features(one_clip, cache) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    listed = json.loads((cache / "failures.json").read_text())
    assert sorted(listed) == sorted(f"Actor_01/{name}.mp4" for name in BAD)
    for name, (_, reason) in BAD.items():
        assert reason in listed[f"Actor_01/{name}.mp4"]
        assert f"failed: Actor_01/{name}.mp4: " in err
        (one_clip / "Actor_01" / f"{name}.mp4").unlink()
    assert list(contents(cache)) == ["actor_01.h5", "failures.json", "manifest.json"]
    assert features(one_clip, cache) == 0  # when they are gone, so is the list
    assert list(contents(cache)) == ["actor_01.h5", "manifest.json"]


@pytest.mark.parametrize(
    "stray", ["03-01-02-01-01-01-01.wav", "Actor_01/holiday.wav", "Audio_Speech_Actor_01.zip"]
)
def test_failures_of_excluded_actors_stay_listed_and_fail_no_run(raw, cache, capsys, stray):
    put(raw, stray, b"")
    assert sound_features(raw, cache) == 1
    capsys.readouterr()
    assert sound_features(raw, cache, "--only", "2") == 0  # which is done
    assert "failures.json: 1\n" in capsys.readouterr().out
    assert list(json.loads((cache / "failures.json").read_text())) == [stray]
    assert cache_main(["info", str(cache)]) == 0
    told = capsys.readouterr().out
    assert "\n1436 clips of RAVDESS are missing\n1 files failed" in told
    assert f"\n  {stray}: " in told


def test_any_error_of_a_library_costs_only_its_clip(raw, tmp_path, monkeypatch, capsys):
    def strange(content, *arguments, **options):
        if content == b"strange":
            raise KeyError("deep inside")
        return compute(content, *arguments, **options)

    monkeypatch.setattr("preprocess.clip.compute", strange)
    put(raw, "03-01-02-01-01-01-01.wav", b"strange")
    assert sound_features(raw, tmp_path / "cache") == 1
    assert "unexpected error: KeyError: 'deep inside'" in capsys.readouterr().err
    assert len(Cache(tmp_path / "cache").clips) == 4


def test_synthetic_clips_never_pass_for_ravdess(one_clip, tmp_path, capsys):
    (one_clip / "sample.json").unlink()
    assert features(one_clip, tmp_path / "cache") == 1
    assert "is synthetic, but its folder is not marked as a synth" in capsys.readouterr().err
    assert list(contents(tmp_path / "cache")) == ["failures.json"]


def test_the_same_bytes_under_two_names_are_noted_and_of_two_actors_a_warning(raw, cache, capsys):
    names = [f"{NAMES[0]}.wav", "03-01-03-01-01-02-01.wav", f"{NAMES[0][:-2]}09.wav"]
    for copy, said in (
        (names[1], f"note: the same bytes under different names: {', '.join(names[:2])}"),
        (names[2], "One of the actors [1, 9] has another actor's file"),
    ):
        shutil.copy(raw / names[0], raw / copy)
        assert sound_features(raw, cache) == 0
        assert said in "".join(capsys.readouterr())
    assert len(Cache(cache).clips) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--raw", "nowhere"], "nowhere: no such folder"),
        (["--raw", "empty"], "empty has no clip of the selected actors, expected 01-01-*.mp4"),
        (["--raw", "empty", "--jobs", "0"], "expected a whole number of 1 or more"),
        (["--raw", "empty", "--only", "25"], "argument --only: invalid choice: 25"),
        (["--raw", "empty", "--faces", "landmarks"], "--faces landmarks requires --landmarks DIR"),
        (["--raw", "empty", "--modality", "landmarks"], "landmarks requires --landmarks DIR"),
        (["--raw", "empty", "--modality", "audio", "--landmarks", "x"], "so no --landmarks"),
        (["--raw", "empty", "--landmarks", "nowhere"], "nowhere: no such folder"),
        (["--raw", "recordings", "--audio", "wav"], "For its recordings use --modality audio"),
        (["--raw", "empty", "--backend", "dask"], "--scheduler ADDRESS require each other"),
    ],
)
def test_wrong_use_is_refused_with_status_2(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    put(tmp_path, f"recordings/{NAMES[0]}.wav", b"")
    assert status_of(main, *arguments, "--cache", "cache") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_left_alone(raw, cache, tmp_path, monkeypatch, capsys):
    assert sound_features(raw, raw / f"{NAMES[0]}.wav" / "cache") == 1
    assert "cannot be written" in capsys.readouterr().err
    (cache / "actor_05.h5").unlink()
    before = contents(cache)
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patched:
        patched.setattr("cache.shard.shutil.disk_usage", lambda path: full)
        assert sound_features(raw, cache) == 1
    assert re.search(r"actor_05.h5 needs \d+ bytes, 1000 are free", capsys.readouterr().err)
    shutil.rmtree(cache / ".work")

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # Tests may run as root, who may write anywhere, so the file system's answer is made up.
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.mkdir", refuse)
        assert sound_features(raw, cache) == 1
    assert "cannot be written ([Errno 30] Read-only file system)" in capsys.readouterr().err
    assert contents(cache) == before


# What is computed. -----------------------------------------------------------------------------


def test_a_cache_of_recordings_has_no_pictures(cache):
    opened = Cache(cache)
    assert not any(opened.problems())
    assert tuple(clip.clip_id for clip in opened.clips) == tuple(sorted(NAMES))
    assert opened.read(NAMES[0], "mfcc").std() > 1
    assert opened.manifest["dataset"] == "RAVDESS speech, audio only"
    assert set(opened.manifest["versions"]) == {"h5py", "librosa", "numpy", "scipy", "soxr"}
    with pytest.raises(CacheError, match=r"its clips have no frames, only"):
        opened.read(NAMES[0], "frames")


def test_a_recording_is_shifted_to_the_clips_time_and_heard_again_if_replaced(one_clip, tmp_path):
    with open_video(one_clip / f"Actor_01/{JOYFUL}.mp4", picture=False) as video:
        sound = np.concatenate(list(video.sound()))
    waveforms = []
    for audio, gain in (("mp4", 1), ("wav", 1), ("wav", 0.5)):
        path = one_clip / "Actor_01" / f"03{JOYFUL[2:]}.wav"
        soundfile.write(path, gain * sound[44_100 // 30 :], 44_100, subtype="PCM_16")
        assert features(one_clip, tmp_path / audio, "--audio", audio, "--waveform") == 0
        waveforms.append(Cache(tmp_path / audio).read(JOYFUL, "waveform").astype(float))
    assert waveforms[0].shape == (108_045,)
    assert np.abs(waveforms[0] - waveforms[1]).max() < 4
    np.testing.assert_allclose(waveforms[1], 2 * waveforms[2], atol=2)


@pytest.mark.parametrize("size", [(320, 240), (1920, 1080)])
def test_other_sizes_rates_and_sounds_are_accepted(sample_frames, size):
    """A slow video of another size, its sound mono at 8 kHz."""
    pictures = np.stack([cv2.resize(picture, size) for picture in sample_frames])
    content = encode(pictures, tone(3.2, 8_000, channels=1), frame_rate=Fraction(10), rate_hz=8_000)
    arrays, notes = compute(content, Settings(waveform=True))
    assert notes == ()
    assert arrays["frames"].shape == (30, 224, 224, 3)
    assert arrays["frames"].std() > 20
    assert list(arrays["frame_index"][:5]) == [5, 6, 7, 7, 8]
    assert arrays["face_box"].max() <= max(size)
    spectrum = np.abs(np.fft.rfft(arrays["waveform"].astype(float)))
    loudest_hz = np.argmax(spectrum) * 44_100 / len(arrays["waveform"])
    assert loudest_hz == pytest.approx(440, abs=2)
    assert spectrum[len(spectrum) // 4 :].max() < 0.01 * spectrum.max()  # above 5.5 kHz


# Settings. -------------------------------------------------------------------------------------

LANDMARKS_ONLY = {"modality": "landmarks", "faces": "landmarks", "landmarks": "csv"}
COMMANDS = [Settings(), Settings(faces="landmarks"), Settings(audio="wav"), Settings(waveform=True)]
COMMANDS += [Settings(modality="audio"), Settings(modality="audio", waveform=True)]
COMMANDS += [Settings(landmarks="csv"), Settings(landmarks="dlib")]
COMMANDS += [Settings(faces="landmarks", landmarks="csv")]
COMMANDS += [Settings(modality="landmarks", landmarks="dlib"), Settings(**LANDMARKS_ONLY)]
COMMANDS += [Settings(**LANDMARKS_ONLY, audio="wav")]
OTHERS = [Settings(crop=FaceSettings(margin=1.2)), Settings(crop=FaceSettings(every=3))]
OTHERS += [Settings(faces="landmarks", crop=FaceSettings(margin=1.2))]


def test_every_setting_is_in_the_fingerprint():
    prints = {fingerprint(settings.config()) for settings in (*COMMANDS, *OTHERS)}
    assert len(prints) == len(COMMANDS) + len(OTHERS)


def test_settings_come_back_from_the_config_of_a_manifest():
    for settings in COMMANDS:
        assert from_config(json.loads(json.dumps(settings.config()))) == settings


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda config: config["sound"].update(duration_s=3.0), "sound.duration_s: 3.0 and 2.45"),
        (lambda config: config["faces"].update(source="dlib"), "faces.detect_height: 144 and None"),
        (lambda config: config.pop("modality"), "not readable"),
    ],
)
def test_settings_of_another_version_are_refused(change, problem):
    config = Settings().config()
    change(config)
    with pytest.raises(ValueError, match=problem):
        from_config(config)
