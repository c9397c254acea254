"""Caches with facial points: from CSVs with videos or recordings only, and by dlib."""

import shutil
import zipfile

import numpy as np
import pytest
from media import contents, put, record
from noise import noise_arrays, write_noise_cache
from PIL import Image
from test_preprocess_landmarks import table
from test_preprocess_pipeline import JOYFUL, features

from cache.__main__ import main as cache_main
from cache.ravdess import expected_clips
from cache.reader import Cache
from cache.schema import FIELDS
from cache.shard import CacheError, open_shard, write_shard
from preprocess.face import crop_boxes, detect_faces
from preprocess.landmarks import predict_landmarks
from preprocess.settings import FaceSettings
from preprocess.windows import decode

TAKES = ("06-01-02-01-07", "06-01-02-02-07", "05-01-01-01-08")


@pytest.fixture
def takes(tmp_path):
    """Three recordings, and a zip with the points of each; two have the same points."""
    with zipfile.ZipFile(tmp_path / "points.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, take in enumerate(TAKES):
            record(tmp_path / "recordings" / f"Actor_{take[-2:]}", f"03-01-{take}", 300 + number)
            rate_hz = 25 if number == 2 else 30_000 / 1_001
            archive.writestr(f"01-01-{take}.csv", table(range(1, 100), rate_hz=rate_hz))
        archive.writestr("01-02-06-01-02-01-07.csv", b"a song")
    return tmp_path


def without_pixels(raw, points, cache, *more):
    return features(raw, cache, "--modality", "landmarks", "--landmarks", str(points), *more)


def test_recordings_and_csvs_give_a_cache_without_pixels(takes, capsys):
    raw, points = takes / "recordings", takes / "points.zip"
    assert without_pixels(raw, points, takes / "cache") == 0
    said = capsys.readouterr().out
    one, other, _ = (f"01-01-{take}" for take in TAKES)
    assert f"the same landmarks in different clips: {one}, {other}" in said
    assert "same bytes" not in said
    cache = Cache(takes / "cache")
    assert [clip.clip_id for clip in cache.clips] == sorted(f"01-01-{take}" for take in TAKES)
    assert cache.manifest["dataset"] == "RAVDESS speech, facial landmarks and audio"
    assert cache.manifest["clips"][one]["source"].endswith(f"03-01-{TAKES[0]}.wav")
    assert cache.manifest["config"]["landmarks"]["source"] == "csv"
    assert set(cache.fields(one)) == set(FIELDS) - {"frames", "waveform"}
    names = ("frame_index", "landmarks", "face_box")
    index, shown, box = (cache.read(one, name) for name in names)
    np.testing.assert_allclose(shown[:, 0, 0], 771.0 + index, atol=1e-3)
    np.testing.assert_allclose(shown[:, 0, 1], 400, atol=1e-3)
    assert (box[:, 2] - box[:, 0] == round(1.15 * 360)).all()
    assert without_pixels(raw, points, takes / "two", "--jobs", "2") == 0
    assert contents(takes / "two") == contents(takes / "cache")


def test_a_pack_of_earlier_points_is_not_taken_for_the_new_one(takes, capsys):
    """The points come from a second file, of which the record of a clip has no hash."""
    raw, points, cache = takes / "recordings", takes / "points", takes / "cache"
    with zipfile.ZipFile(takes / "points.zip") as archive:
        archive.extractall(points)
    assert without_pixels(raw, points, cache) == 0
    assert cache_main(["pack", str(cache), str(takes / "out")]) == 0
    (points / f"01-01-{TAKES[0]}.csv").write_bytes(table(rate_hz=25))
    assert without_pixels(raw, points, cache) == 0
    assert "1 clips processed" in capsys.readouterr().out
    assert cache_main(["pack", str(cache), str(takes / "out")]) == 2
    assert f"is an earlier pack, in which landmarks of 01-01-{TAKES[0]}" in capsys.readouterr().err


def test_stamps_of_files_prove_nothing_for_a_cache_of_other_files(takes):
    raw, points = takes / "recordings", takes / "points.zip"
    assert without_pixels(raw, points, takes / "cache") == 0
    for take in TAKES[1:]:
        put(takes / "other", f"01-01-{take}.csv", table(range(1, 110)))
    assert without_pixels(raw, takes / "other", takes / "mixed") == 1
    shutil.copy(takes / "cache" / ".stamps.json", takes / "mixed")
    assert without_pixels(raw, points, takes / "mixed") == 0
    assert contents(takes / "mixed") == contents(takes / "cache")


def test_points_and_boxes_are_those_of_the_video_of_the_take(one_clip, built, tmp_path):
    """With the video, without it, and beside its pixels, which are those of a cache without."""
    record(tmp_path / "recordings", f"03{JOYFUL[2:]}", 300)
    points = put(tmp_path / "points", f"{JOYFUL}.csv", table()).parent
    out = {name: tmp_path / name for name in ("video", "recording", "pixels", "mtcnn")}
    assert without_pixels(one_clip, points, out["video"]) == 0
    assert without_pixels(tmp_path / "recordings", points, out["recording"]) == 0
    given = ("--landmarks", str(points))
    assert features(one_clip, out["pixels"], "--faces", "landmarks", *given) == 0
    assert features(one_clip, out["mtcnn"], *given) == 0
    caches = {name: Cache(folder) for name, folder in out.items()}
    one, two = caches.pop("mtcnn"), Cache(built)
    for field in two.fields(JOYFUL):
        assert one.read(JOYFUL, field).tobytes() == two.read(JOYFUL, field).tobytes()
    assert set(one.fields(JOYFUL)) - set(two.fields(JOYFUL)) == {"landmarks"}
    for field in ("frame_index", "face_box", "face_score", "landmarks"):
        arrays = [cache.read(JOYFUL, field) for cache in caches.values()]
        np.testing.assert_array_equal(arrays[0], arrays[1])
        np.testing.assert_array_equal(arrays[0], arrays[2])
    assert "frames" in caches["pixels"].fields(JOYFUL)
    box = caches["pixels"].read(JOYFUL, "face_box")
    assert (box[:, 2] - box[:, 0] == round(1.15 * 360)).all()
    np.testing.assert_allclose((box[:, 1] + box[:, 3]) / 2, 400, atol=0.5)
    assert (caches["pixels"].read(JOYFUL, "face_score") == 1).all()


def test_a_take_without_usable_points_fails_and_the_others_are_kept(takes, capsys):
    points = takes / "points"
    with zipfile.ZipFile(takes / "points.zip") as archive:
        archive.extractall(points)
    put(points, f"01-01-{TAKES[0]}.csv", table(range(1, 60)))
    (points / f"01-01-{TAKES[1]}.csv").unlink()
    assert without_pixels(takes / "recordings", points, takes / "cache") == 1
    *lines, advice = capsys.readouterr().err.splitlines()[-3:]
    assert advice.startswith("note: 1 clips have no landmarks. Download: python -m preprocess.down")
    assert lines == [
        f"failed: Actor_07/03-01-{TAKES[0]}.wav: the landmarks end at 1.97 s (59 frames), expected "
        "at least 2.66 s",
        f"failed: Actor_07/03-01-{TAKES[1]}.wav: no landmarks, expected 01-01-{TAKES[1]}.csv",
    ]
    assert [clip.clip_id for clip in Cache(takes / "cache").clips] == [f"01-01-{TAKES[2]}"]
    with zipfile.ZipFile(takes / "points.zip") as archive:
        archive.extractall(points)
    assert without_pixels(takes / "recordings", points, takes / "cache") == 0
    assert not (takes / "cache" / "failures.json").exists()
    assert len(Cache(takes / "cache").clips) == 3


# In the cache. ---------------------------------------------------------------------------------


def with_points(clip, value=1.0):
    arrays = noise_arrays(clip.repetition)
    return arrays | {"landmarks": np.full((30, 68, 2), value, np.float32)}


CLIPS = expected_clips(7)[:2]


@pytest.mark.parametrize("value", [np.nan, -np.inf, 20_000.0])
def test_points_of_a_stranger_must_be_numbers_near_a_picture(tmp_path, value, capsys):
    def arrays(clip):
        made = with_points(clip)
        made["landmarks"][3, 5, 1] = value if clip == CLIPS[1] else -40
        return made

    cache = write_noise_cache(tmp_path / "cache", CLIPS, arrays)
    with pytest.raises(CacheError, match="landmarks contain NaN, Inf or more than 16384 pixels"):
        Cache(cache).read(CLIPS[0].clip_id, "landmarks")
    assert cache_main(["verify", str(cache)]) == 1


def test_frames_may_be_missing_only_if_there_are_points(tmp_path):
    def write(names):
        rows = [(clip, {name: with_points(clip)[name] for name in names}) for clip in CLIPS]
        write_shard(tmp_path / "actor_07.h5", len(rows), names, iter(rows))
        return open_shard(tmp_path / "actor_07.h5")

    boxes = ("frame_index", "face_box", "face_score")
    with write((*boxes, "mfcc", "landmarks")) as shard:
        assert shard.read("landmarks", 1).shape == (30, 68, 2)
        assert shard.computed == (*boxes, "mfcc", "landmarks")
    for names in ((*boxes, "mfcc"), ("mfcc", "landmarks"), ("frames", "mfcc", "landmarks")):
        with pytest.raises(CacheError, match="are missing or unknown"):
            write(names)


def test_points_are_shown_described_and_compared(takes, capsys):
    assert without_pixels(takes / "recordings", takes / "points.zip", takes / "cache") == 0
    sheet = takes / "sheet.png"
    assert cache_main(["inspect", str(takes / "cache"), "--out", str(sheet)]) == 0
    picture = np.asarray(Image.open(sheet, formats=("PNG",)))
    yellow = (picture == (255, 255, 0)).all(axis=2)[16:128, :112]
    assert 40 <= yellow.sum() <= 68
    assert cache_main(["info", str(takes / "cache")]) == 0
    assert "landmarks    68 points a frame, from csv" in capsys.readouterr().out
    assert cache_main(["pack", str(takes / "cache"), str(takes / "packed")]) == 0
    card = (takes / "packed" / "README.md").read_text()
    assert "# Facial landmarks and MFCCs of RAVDESS speech" in card
    assert "| `landmarks` | f4 (N, 30, 68, 2) |" in card
    assert "--fold 0 --preset landmarks" in card
    assert "differ by 1 to 8 pixels" in card


# By dlib. --------------------------------------------------------------------------------------


def test_dlib_finds_the_points_of_a_drawn_face_and_the_same_bytes_again(one_clip, tmp_path):
    dlib = ("--landmarks", "dlib")
    for name, more in (("one", ()), ("two", ()), ("no_pixels", ("--modality", "landmarks"))):
        assert features(one_clip, tmp_path / name, *dlib, *more) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    cache, without = Cache(tmp_path / "one"), Cache(tmp_path / "no_pixels")
    points, box = cache.read(JOYFUL, "landmarks"), cache.read(JOYFUL, "face_box")
    assert without.read(JOYFUL, "landmarks").tobytes() == points.tobytes()
    assert "frames" not in without.fields(JOYFUL)
    assert (points.mean(axis=1) > box[:, :2]).all()
    assert (points.mean(axis=1) < box[:, 2:]).all()
    eyes, mouth, chin = (points[:, part, 1].mean() for part in (slice(36, 48), slice(48, 68), 8))
    assert eyes < mouth < chin
    assert (points[:, 36:42, 0].mean(axis=1) < points[:, 42:48, 0].mean(axis=1)).all()
    assert "face-recognition-models" in cache.manifest["versions"]
    assert cache.manifest["config"]["faces"]["every"] == 10


@pytest.mark.parametrize("pixel_format", ["yuvj420p", "yuv444p", "rgb24"])
def test_points_do_not_depend_on_how_a_frame_is_stored(sample_clips, pixel_format):
    content = (sample_clips / "Actor_01" / f"{JOYFUL}.mp4").read_bytes()
    frames = decode(content, sound=False).frames
    boxes, _, _ = detect_faces(frames, FaceSettings())
    crops = crop_boxes(boxes, frames[0].height, frames[0].width, FaceSettings())
    expected = predict_landmarks(frames, boxes, crops)
    others = [frame.reformat(format=pixel_format) for frame in frames]
    found = predict_landmarks(others, boxes, crops)
    assert np.linalg.norm(found - expected, axis=2).mean() < 5  # of a face of 300 pixels
