import errno
import hashlib
import json
import os
import re
import shutil
import signal
from fractions import Fraction

import cv2
import numpy as np
import pytest
import soundfile
from media import encode, noise_pictures, put, tone
from test_preprocess_landmarks import table

import preprocess.pipeline
import preprocess.work
from cache.files import locked
from cache.manifest import fingerprint
from cache.reader import Cache
from cache.shard import CacheError
from cache.verify import problems_of
from preprocess.cli import main
from preprocess.clip import compute, process
from preprocess.decode import open_video
from preprocess.settings import FaceSettings, Settings, from_config
from preprocess.windows import decode


def features(raw, cache, *more):
    return main(["--raw", str(raw), "--cache", str(cache), "--jobs", "1", *more])


def contents(folder):
    """Name to bytes of every file; nothing hidden may be left behind."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def built(sample_clips, tmp_path_factory):
    cache = tmp_path_factory.mktemp("built") / "cache"
    assert features(sample_clips, cache) == 0
    return cache


@pytest.fixture
def raw(sample_clips, tmp_path):
    return shutil.copytree(sample_clips, tmp_path / "raw")


def test_clips_become_a_shard_an_actor_and_a_manifest(built, sample_clips):
    assert list(contents(built)) == ["actor_01.h5", "actor_02.h5", "actor_05.h5", "manifest.json"]
    cache = Cache(built)
    assert not any(problems_of(built, cache.manifest))
    assert len(cache.clips) == 4
    assert cache.manifest["dataset"] == "synthetic sample, seed 0"
    for clip in cache.clips:
        record = cache.manifest["clips"][clip.clip_id]
        source = sample_clips / record["source"]
        assert record["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
        assert record["notes"] == []
        assert cache.read(clip.clip_id, "label") == clip.label
        assert cache.read(clip.clip_id, "frames").std() > 20
        box = cache.read(clip.clip_id, "face_box")
        assert (box[:, 2] - box[:, 0] == box[:, 3] - box[:, 1]).all()
        assert cache.read(clip.clip_id, "face_score").max() > 0.9


def test_a_second_run_changes_nothing_and_says_so(built, sample_clips, capsys):
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in built.iterdir()}
    assert features(sample_clips, built) == 0
    assert "nothing to do: 4 clips" in capsys.readouterr().out
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}


def test_two_workers_give_the_bytes_of_one(built, sample_clips, tmp_path):
    assert features(sample_clips, tmp_path / "cache", "--jobs", "2") == 0
    assert contents(tmp_path / "cache") == contents(built)


@pytest.mark.parametrize("stop_at", range(1, 13))
def test_a_run_stopped_at_any_step_is_finished_by_the_next(
    built, sample_clips, tmp_path, monkeypatch, stop_at
):
    """Stops at the n-th of: a record or the state written, a shard written, the manifest."""
    steps = iter(range(1, 100))

    def stopping(function):
        def run(*args, **kwargs):
            result = function(*args, **kwargs)
            if next(steps) == stop_at:
                raise KeyboardInterrupt
            return result

        return run

    for module, name in (
        (preprocess.work, "write_json"),
        (preprocess.pipeline, "write_shard"),
        (preprocess.pipeline, "write_manifest"),
    ):
        monkeypatch.setattr(module, name, stopping(getattr(module, name)))
    assert features(sample_clips, tmp_path / "cache") == 1
    monkeypatch.undo()
    assert features(sample_clips, tmp_path / "cache") == 0
    assert contents(tmp_path / "cache") == contents(built)


def test_clips_that_come_later_join_the_shard(built, raw, tmp_path, capsys):
    late = raw / "Actor_02" / "01-01-08-02-01-02-02.mp4"
    late.rename(tmp_path / "later.mp4")
    assert features(raw, tmp_path / "cache") == 0
    (tmp_path / "later.mp4").rename(late)
    capsys.readouterr()
    assert features(raw, tmp_path / "cache") == 0
    assert re.search(r"1 clips made .*; 4 clips in", capsys.readouterr().out)
    assert contents(tmp_path / "cache") == contents(built)


def test_one_actor_after_the_other_gives_the_same_cache(built, raw, tmp_path):
    for actor in ("5", "1", "2"):
        assert features(raw, tmp_path / "cache", "--only", actor) == 0
    assert contents(tmp_path / "cache") == contents(built)


def test_a_damaged_shard_is_made_again(built, raw, tmp_path, capsys):
    cache = shutil.copytree(built, tmp_path / "cache")
    (cache / "actor_02.h5").write_bytes(b"rot")
    (cache / "actor_05.h5").unlink()
    assert features(raw, cache) == 0
    assert re.search(r"3 clips made .*; 4 clips in", capsys.readouterr().out)
    assert contents(cache) == contents(built)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_shard_that_clips_join_is_made_again_when_its_bytes_have_changed(built, raw, tmp_path):
    late = raw / "Actor_02" / "01-01-08-02-01-02-02.mp4"
    late.rename(tmp_path / "later.mp4")
    assert features(raw, tmp_path / "cache") == 0
    flip_a_byte(tmp_path / "cache" / "actor_02.h5")
    (tmp_path / "later.mp4").rename(late)
    assert features(raw, tmp_path / "cache") == 0
    assert contents(tmp_path / "cache") == contents(built)


def test_a_changed_shard_that_nothing_joins_is_not_certified(built, raw, tmp_path):
    late = raw / "Actor_02" / "01-01-08-02-01-02-02.mp4"
    late.rename(tmp_path / "later.mp4")
    cache = tmp_path / "cache"
    assert features(raw, cache) == 0
    flip_a_byte(cache / "actor_01.h5")
    (tmp_path / "later.mp4").rename(late)
    assert features(raw, cache) == 0
    problems = list(filter(None, problems_of(cache, Cache(cache).manifest)))
    assert len(problems) == 1
    assert "actor_01.h5: sha256" in problems[0]
    (cache / "actor_01.h5").unlink()  # as the problem's line advises
    assert features(raw, cache) == 0
    assert contents(cache) == contents(built)


def test_a_kill_right_after_a_shard_grew_loses_no_clip(built, raw, tmp_path, monkeypatch):
    late = raw / "Actor_02" / "01-01-08-02-01-02-02.mp4"
    early = raw / "Actor_02" / "01-01-05-01-02-01-02.mp4"
    late.rename(tmp_path / "later.mp4")
    assert features(raw, tmp_path / "cache") == 0
    early.unlink()  # what is cached must not need its raw clip any more
    (tmp_path / "later.mp4").rename(late)

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("preprocess.pipeline.describe_shard", stop)
    assert features(raw, tmp_path / "cache") == 1
    monkeypatch.undo()
    assert features(raw, tmp_path / "cache") == 0
    assert contents(tmp_path / "cache") == contents(built)


def test_drawn_clips_never_pass_for_ravdess(raw, tmp_path, capsys):
    (raw / "sample.json").unlink()
    assert features(raw, tmp_path / "cache") == 1
    assert (
        "is synthetic, but its folder is not marked as a synthetic sample"
        in capsys.readouterr().err
    )
    assert list(contents(tmp_path / "cache")) == ["failures.json"]


BAD = {
    "01-01-02-01-01-01-01": (b"", "not a readable video"),
    "01-01-02-01-01-02-01": (b"no video at all", "not a readable video"),
    "01-01-02-01-02-01-01": (encode(noise_pictures(95), None), "no sound in the file"),
    "01-01-02-01-02-02-01": (encode(noise_pictures(95), tone(3.2)), "a face in 0 of 7 frames"),
    "01-01-02-02-01-01-01": (encode(noise_pictures(40), tone(3.2)), "the video ends at"),
    "a wrong name": (b"x", "is not a RAVDESS name"),
}


def test_bad_clips_are_listed_and_the_good_ones_kept(built, raw, tmp_path, capsys):
    for name, (content, _) in BAD.items():
        put(raw, f"Actor_01/{name}.mp4", content)
    cache = tmp_path / "cache"
    assert features(raw, cache) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    listed = json.loads((cache / "failures.json").read_text())
    assert sorted(listed) == sorted(f"Actor_01/{name}.mp4" for name in BAD)
    for name, (_, reason) in BAD.items():
        assert reason in listed[f"Actor_01/{name}.mp4"]
        assert f"failed: Actor_01/{name}.mp4: " in err
    good = contents(cache)
    del good["failures.json"]
    assert good == contents(built)

    for name in BAD:  # when they are gone, so is the list
        (raw / "Actor_01" / f"{name}.mp4").unlink()
    assert features(raw, cache) == 0
    assert contents(cache) == contents(built)


def test_only_bad_clips_make_no_cache(tmp_path, capsys):
    put(tmp_path / "raw", "Actor_01/01-01-02-01-01-01-01.mp4", b"")
    assert features(tmp_path / "raw", tmp_path / "cache") == 1
    assert "failed: Actor_01/01-01-02-01-01-01-01.mp4" in capsys.readouterr().err
    assert list(contents(tmp_path / "cache")) == ["failures.json"]


def test_other_settings_do_not_mix(built, sample_clips, tmp_path, capsys, monkeypatch):
    cache = shutil.copytree(built, tmp_path / "cache")
    monkeypatch.setattr("preprocess.pipeline.Settings.config", lambda self: {"another": "setting"})
    assert features(sample_clips, cache) == 2
    assert "was begun with other settings" in capsys.readouterr().err
    assert contents(cache) == contents(built)


def test_other_versions_do_not_mix(built, sample_clips, tmp_path, capsys, monkeypatch):
    cache = shutil.copytree(built, tmp_path / "cache")
    monkeypatch.setattr("preprocess.work.version", lambda name: "0.0")
    assert features(sample_clips, cache) == 2
    assert "librosa 0.11.0 then, 0.0 now" in capsys.readouterr().err


def test_other_data_do_not_mix(built, raw, tmp_path, capsys):
    cache = shutil.copytree(built, tmp_path / "cache")
    (raw / "sample.json").write_text('{"seed": 1, "version": 1}')
    assert features(raw, cache) == 2
    assert "not 'synthetic sample, seed 1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--raw", "nowhere"], "nowhere: no such folder"),
        (["--raw", "empty"], "no clip of the wanted actors, expected 01-01-*.mp4"),
        (["--raw", "empty", "--jobs", "0"], "expected a whole number of 1 or more"),
        (["--raw", "empty", "--only", "25"], "argument --only: invalid choice: 25"),
    ],
)
def test_wrong_use_is_refused_with_status_2(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    try:
        status = main([*arguments, "--cache", "cache"])
    except SystemExit as exc:  # argparse's way
        status = exc.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_target_that_cannot_be_written_is_named(sample_clips, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert features(sample_clips, tmp_path / "file" / "cache") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_cache_of_recordings_holds_no_picture(tmp_path):
    for name in ("03-01-06-01-02-01-05", "03-01-01-01-02-01-06"):
        path = tmp_path / "raw" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, tone(3.2).T, 48_000, subtype="PCM_16")
    assert features(tmp_path / "raw", tmp_path / "cache", "--modality", "audio") == 0
    cache = Cache(tmp_path / "cache")
    assert not any(problems_of(cache.directory, cache.manifest))
    assert [clip.clip_id for clip in cache.clips] == [
        "03-01-01-01-02-01-06",
        "03-01-06-01-02-01-05",
    ]
    assert cache.read("03-01-06-01-02-01-05", "mfcc").std() > 1
    assert cache.manifest["dataset"] == "RAVDESS speech, audio only"
    assert set(cache.manifest["versions"]) == {"h5py", "librosa", "numpy", "scipy", "soxr"}
    with pytest.raises(CacheError, match=r"actor_05.h5: holds no frames"):
        cache.read("03-01-06-01-02-01-05", "frames")


def test_the_recordings_sound_is_shifted_to_the_clips_time(sample_clips, tmp_path):
    clip_id = "01-01-03-01-01-01-01"
    raw = tmp_path / "raw"
    content = (sample_clips / "Actor_01" / f"{clip_id}.mp4").read_bytes()
    put(raw, f"Actor_01/{clip_id}.mp4", content)
    put(raw, "sample.json", (sample_clips / "sample.json").read_bytes())
    with open_video(content, picture=False) as video:
        sound = np.concatenate(list(video.sound()))
    path = raw / "Actor_01" / f"03{clip_id[2:]}.wav"
    soundfile.write(path, sound[44_100 // 30 :], 44_100, subtype="PCM_16")
    waveforms = []
    for audio in ("mp4", "wav"):
        cache = tmp_path / audio
        assert features(raw, cache, "--audio", audio, "--waveform") == 0
        waveforms.append(Cache(cache).read(clip_id, "waveform").astype(float))
    assert waveforms[0].shape == (108_045,)
    assert np.abs(waveforms[0] - waveforms[1]).max() < 4


def test_landmarks_say_where_the_face_is(sample_clips, tmp_path, capsys):
    clip_id = "01-01-03-01-01-01-01"
    raw, points = tmp_path / "raw", tmp_path / "points"
    put(raw, f"Actor_01/{clip_id}.mp4", (sample_clips / f"Actor_01/{clip_id}.mp4").read_bytes())
    put(raw, "sample.json", (sample_clips / "sample.json").read_bytes())
    put(points, f"{clip_id}.csv", table())
    options = ("--faces", "landmarks", "--landmarks", str(points))
    assert features(raw, tmp_path / "cache", *options) == 0
    cache = Cache(tmp_path / "cache")
    box = cache.read(clip_id, "face_box")
    assert (box[:, 2] - box[:, 0] == round(1.15 * 360)).all()
    np.testing.assert_allclose((box[:, 1] + box[:, 3]) / 2, 400, atol=0.5)
    assert (cache.read(clip_id, "face_score") == 1).all()
    assert features(raw, tmp_path / "cache") == 2  # other settings, other bytes
    err = capsys.readouterr().err
    assert "was begun with other settings (faces.detect_height: None and 144" in err


def test_every_setting_is_in_the_fingerprint():
    choices = [
        {},
        {"faces": "landmarks"},
        {"audio": "wav"},
        {"waveform": True},
        {"modality": "audio"},
        {"modality": "audio", "waveform": True},
        {"crop": FaceSettings(margin=1.2)},
        {"crop": FaceSettings(every=3)},
        {"faces": "landmarks", "crop": FaceSettings(margin=1.2)},
    ]
    prints = {fingerprint(Settings(**choice).config()) for choice in choices}
    assert len(prints) == len(choices)


def test_failures_of_actors_left_aside_stay_listed(raw, tmp_path, capsys):
    cache = tmp_path / "cache"
    put(raw, "Actor_01/01-01-02-01-01-01-01.mp4", b"")
    assert features(raw, cache) == 1
    assert features(raw, cache, "--only", "2") == 1
    assert "failed: Actor_01/01-01-02-01-01-01-01.mp4" in capsys.readouterr().err
    assert list(json.loads((cache / "failures.json").read_text())) == [
        "Actor_01/01-01-02-01-01-01-01.mp4"
    ]


def test_a_lost_clip_stays_listed_until_it_is_back(built, raw, tmp_path):
    cache = shutil.copytree(built, tmp_path / "cache")
    (cache / "actor_05.h5").unlink()
    lost = raw / "Actor_05" / "01-01-01-01-01-01-05.mp4"
    lost.rename(tmp_path / "lost.mp4")
    for _ in range(2):
        assert features(raw, cache) == 1
        assert "lost or damaged" in (cache / "failures.json").read_text()
        assert len(Cache(cache).clips) == 3
    (tmp_path / "lost.mp4").rename(lost)
    assert features(raw, cache) == 0
    assert contents(cache) == contents(built)


def test_whatever_a_file_does_to_a_library_the_others_go_on(
    built, raw, tmp_path, monkeypatch, capsys
):
    def strange(content, **options):
        if content == b"strange":
            raise KeyError("deep inside")
        return decode(content, **options)

    monkeypatch.setattr("preprocess.clip.decode", strange)
    put(raw, "Actor_01/01-01-02-01-01-01-01.mp4", b"strange")
    assert features(raw, tmp_path / "cache") == 1
    assert "broke the program: KeyError: 'deep inside'" in capsys.readouterr().err
    assert len(Cache(tmp_path / "cache").clips) == 4


def test_two_runs_do_not_work_on_one_cache(raw, tmp_path, capsys):
    with locked(tmp_path / "cache"):
        assert features(raw, tmp_path / "cache") == 2
    assert "another run is at work there" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["state.json", "01-01-03-01-01-01-01.json"])
def test_damaged_work_is_named(raw, tmp_path, capsys, name):
    put(tmp_path / "cache" / ".work", "state.json", b"{}")
    put(tmp_path / "cache" / ".work", name, b"{")
    assert features(raw, tmp_path / "cache") == 2
    assert ".work" in capsys.readouterr().err


def test_a_full_disk_is_named_before_hdf5_meets_it(raw, tmp_path, monkeypatch, capsys):
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("cache.shard.shutil.disk_usage", lambda path: full)
    assert features(raw, tmp_path / "cache") == 1
    assert "actor_01.h5 needs 4" in capsys.readouterr().err
    monkeypatch.undo()
    assert features(raw, tmp_path / "cache") == 0


def process_or_die(source, work, settings, **options):
    """As `process`, but one clip kills its worker each time, another the first time."""
    with work.mark(source.clip.clip_id):
        once = work.folder.parent / "died.once"
        deadly = source.clip.actor == 5 or (source.clip.actor == 1 and not once.exists())
        if deadly:
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return process(source, work, settings, **options)


def test_a_clip_that_kills_its_worker_twice_is_named_and_the_others_are_made(
    built, raw, tmp_path, monkeypatch, capsys
):
    cache = tmp_path / "cache"
    monkeypatch.setattr("preprocess.clip.process", process_or_die)
    assert features(raw, cache, "--jobs", "2") == 1
    monkeypatch.undo()
    assert "failed: Actor_05/01-01-01-01-01-01-05.mp4: ended its worker twice" in (
        capsys.readouterr().err
    )
    assert {clip.actor for clip in Cache(cache).clips} == {1, 2}
    assert features(raw, cache) == 0
    (cache / "died.once").unlink()
    assert contents(cache) == contents(built)


def test_a_raw_clip_that_was_replaced_is_made_again(built, raw, tmp_path):
    cache = tmp_path / "cache"
    path = raw / "Actor_02" / "01-01-08-02-01-02-02.mp4"
    content = path.read_bytes()
    path.write_bytes((raw / "Actor_01" / "01-01-03-01-01-01-01.mp4").read_bytes())
    assert features(raw, cache) == 0
    path.write_bytes(content)
    assert features(raw, cache) == 0
    assert contents(cache) == contents(built)
    path.write_bytes(content)  # newer, but the same
    assert features(raw, cache) == 0
    assert contents(cache) == contents(built)


def test_a_row_goes_when_its_raw_clip_was_replaced_by_a_bad_one(built, raw, tmp_path):
    cache = shutil.copytree(built, tmp_path / "cache")
    bad = raw / "Actor_02" / "01-01-08-02-01-02-02.mp4"
    content = bad.read_bytes()
    bad.write_bytes(b"no video")
    for _ in range(2):
        assert features(raw, cache) == 1
        assert "01-01-08-02-01-02-02" in (cache / "failures.json").read_text()
        assert len(Cache(cache).clips) == 3
        assert not any(problems_of(cache, Cache(cache).manifest))
    bad.write_bytes(content)
    assert features(raw, cache) == 0
    assert contents(cache) == contents(built)


def test_the_same_bytes_under_two_names_are_told(raw, tmp_path, capsys):
    twin = "Actor_01/01-01-03-01-01-02-01.mp4"
    put(raw, twin, (raw / "Actor_01" / "01-01-03-01-01-01-01.mp4").read_bytes())
    assert features(raw, tmp_path / "cache") == 0
    out = capsys.readouterr().out
    assert f"the same bytes under different names: Actor_01/01-01-03-01-01-01-01.mp4, {twin}" in out
    assert len(Cache(tmp_path / "cache").clips) == 5


def test_paths_may_hold_any_letters(built, sample_clips, tmp_path):
    odd = tmp_path / "Bänder & größe 'n \u97f3"
    raw = shutil.copytree(sample_clips, odd / "roh daten")
    assert features(raw, odd / "ca che") == 0
    assert contents(odd / "ca che") == contents(built)


def test_a_read_only_target_is_named_and_left_alone(built, raw, tmp_path, monkeypatch, capsys):
    cache = shutil.copytree(built, tmp_path / "cache")
    (cache / "actor_05.h5").unlink()
    before = contents(cache)

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # Tests may run as root, who may write anywhere: the file system's answer is made up.
    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    assert features(raw, cache) == 1
    assert "cannot be written ([Errno 30] Read-only file system)" in capsys.readouterr().err
    monkeypatch.undo()
    assert contents(cache) == before


@pytest.mark.parametrize("size", [(1280, 720), (320, 240), (700, 700), (1920, 1080)])
def test_other_sizes_rates_and_sounds_will_do(sample_frames, size):
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


def test_a_raw_clip_that_is_replaced_while_its_actor_is_under_way_is_made_again(
    built, raw, tmp_path, monkeypatch
):
    cache = tmp_path / "cache"
    path = raw / "Actor_02" / "01-01-05-01-02-01-02.mp4"
    content = path.read_bytes()
    path.write_bytes((raw / "Actor_01" / "01-01-03-01-01-01-01.mp4").read_bytes())

    def process_and_replace(source, *arguments, **options):
        result = process(source, *arguments, **options)
        if source.file.path == path:
            path.write_bytes(content)
        return result

    monkeypatch.setattr("preprocess.clip.process", process_and_replace)
    assert features(raw, cache) == 0
    monkeypatch.undo()
    assert features(raw, cache) == 0
    assert contents(cache) == contents(built)


def test_a_recording_that_was_replaced_is_heard(sample_clips, tmp_path):
    clip_id = "01-01-03-01-01-01-01"
    raw, cache = tmp_path / "raw", tmp_path / "cache"
    put(raw, f"Actor_01/{clip_id}.mp4", (sample_clips / f"Actor_01/{clip_id}.mp4").read_bytes())
    put(raw, "sample.json", (sample_clips / "sample.json").read_bytes())
    sounds = []
    for hertz in (1, 2):
        path = raw / "Actor_01" / f"03{clip_id[2:]}.wav"
        soundfile.write(path, hertz * tone(3.2).T, 48_000, subtype="PCM_16")
        assert features(raw, cache, "--audio", "wav", "--waveform") == 0
        sounds.append(Cache(cache).read(clip_id, "waveform").astype(float))
    np.testing.assert_allclose(sounds[1], 2 * sounds[0], atol=2)


def test_a_cache_whose_raw_clips_all_went_bad_is_no_cache(built, raw, tmp_path, capsys):
    cache = shutil.copytree(built, tmp_path / "cache")
    bad = raw / "Actor_05" / "01-01-01-01-01-01-05.mp4"
    bad.write_bytes(b"no video")
    assert features(raw, cache) == 1
    assert list(contents(cache)) == [
        "actor_01.h5",
        "actor_02.h5",
        "failures.json",
        "manifest.json",
    ]
    for path in raw.glob("*/*.mp4"):
        path.write_bytes(b"no video")
    assert features(raw, cache) == 1
    assert "no clip could be made" in capsys.readouterr().out
    assert list(contents(cache)) == ["failures.json"]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(waveform=True, audio="wav"),
        Settings(faces="landmarks"),
        Settings(modality="audio"),
        Settings(crop=FaceSettings(margin=1.3, every=3)),
    ],
)
def test_settings_come_back_from_the_config_of_a_manifest(settings):
    config = json.loads(json.dumps(settings.config()))
    assert from_config(config).config() == settings.config()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda config: config["sound"].update(duration_s=3.0), "other settings of sound"),
        (lambda config: config["frames"].update(count=16), "other settings of frames"),
        (lambda config: config.update(extra=1), "other settings of extra"),
        (lambda config: config["faces"].update(source="dlib"), "other settings of faces"),
        (lambda config: config["faces"].update(every=0), "every of the faces is 0"),
        (lambda config: config["faces"].update(margin=1e9), "margin of the faces is"),
        (lambda config: config["faces"].update(smoothing_s=1), "smoothing_s of the faces is 1"),
        (lambda config: config["faces"].update(detect_height=True), "detect_height of the faces"),
        (lambda config: config["faces"].update(detector="dlib"), "faces were found by 'dlib'"),
        (lambda config: config.pop("modality"), "cannot be read"),
        (lambda config: config.update(faces=3), "cannot be read"),
    ],
)
def test_settings_of_another_version_are_refused(change, problem):
    config = Settings().config()
    change(config)
    with pytest.raises(ValueError, match=problem):
        from_config(config)
    with pytest.raises(ValueError, match="cannot be read"):
        from_config(None)
