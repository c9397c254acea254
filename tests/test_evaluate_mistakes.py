"""The most confident mistakes, and their faces, only from the cache of the runs."""

import base64
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_runs import evaluate, make_run, origin_of, page_text, report_of, write
from noise import write_noise_cache
from PIL import Image

from cache.ravdess import Clip, expected_clips
from cache.reader import Cache
from evaluate.report.faces import read_faces
from evaluate.report.report import Report


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A cache with all clips of actor 4 that a mistake may be of."""
    clips = [clip for clip in expected_clips(4) if clip.label in (3, 4)]
    return write_noise_cache(tmp_path_factory.mktemp("whole") / "cache", clips)


def write_wrong(base: Path, cache: dict) -> None:
    """Fold 0 with 40 wrong clips: those of actor 4 from the 21st on."""
    write(base / "runs", make_run(0, 200, cache=cache))


def report_with(base: Path, cache: Path) -> int:
    return evaluate(base / "runs", base / "out", "--cache", cache)


def pictures(base: Path) -> list[str]:
    page = (base / "out" / "report.html").read_text()
    return re.findall(r'<img src="data:image/jpeg;base64,([^"]*)"', page)


def test_the_most_confident_mistakes_come_first_and_ties_by_clip():
    clips = expected_clips(1)[:5]  # four neutral ones, then the first calm one
    run = make_run(0, clips=clips, predicted=np.array([3, 3, 3, 0, 3]))
    shares = np.zeros((5, 8))
    shares[:, 3] = [0.9, 0.6, 0.9, 0.01, 0.7]
    shares[:, 0] = 1 - shares[:, 3]
    run = replace(run, predictions=replace(run.predictions, probabilities=shares))
    found = Report.of({"cfn_sr": [run]}).mistakes
    assert len(Report.of({"cfn_sr": [make_run(0)]}).mistakes) == 12
    assert [each["clip_id"] for each in found] == [clips[i].clip_id for i in (0, 2, 4, 1)]
    assert [each["probability"] for each in found] == [0.9, 0.9, 0.7, 0.6]
    assert [each["probability_of_true"] for each in found] == pytest.approx([0.1, 0.1, 0, 0.4])
    assert (found[2]["true"], found[2]["predicted"]) == ("calm", "sad")


def test_a_face_is_the_middle_frame_made_smaller(whole):
    cache = Cache(whole)
    clip_id = cache.clips[0].clip_id
    faces, problems = read_faces(cache, [clip_id])
    assert problems == []
    (url,) = faces["pictures"].values()
    shown = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
    assert shown.size == (112, 112)
    frames = cache.read(clip_id, "frames").astype(float)
    middle = frames[len(frames) // 2]
    # Means of 28 x 28 pixels survive JPEG; those of other frames of noise differ.
    coarse = middle.reshape(8, 28, 8, 28, 3).mean(axis=(1, 3))
    found = np.asarray(shown, dtype=float).reshape(8, 14, 8, 14, 3).mean(axis=(1, 3))
    assert np.corrcoef(coarse.mean(axis=2).ravel(), found.mean(axis=2).ravel())[0, 1] > 0.9


def test_without_a_cache_the_page_says_how_to_see_the_faces(tmp_path):
    assert "To see the faces, give the cache" in report_of(tmp_path, make_run(0, 200))
    assert pictures(tmp_path) == []


def test_each_mistake_shows_its_face_and_the_bytes_stay_the_same(tmp_path, whole, capsys):
    write_wrong(tmp_path, origin_of(whole))
    assert report_with(tmp_path, whole) == 0
    assert len(pictures(tmp_path)) == 12
    text = page_text(tmp_path / "out")
    assert "40 of 240 clips are predicted incorrectly" in text
    assert "license: CC0 1.0" in text
    assert "has no picture" not in text
    report_with(tmp_path, whole)
    assert capsys.readouterr().out.endswith("report.html (unchanged)\n")


def test_clips_that_the_cache_lacks_have_no_picture_and_are_named(tmp_path, whole):
    write_wrong(tmp_path, origin_of(whole))
    mistakes = Report.of({"cfn_sr": [make_run(0, 200)]}).mistakes
    wrong = [each["clip_id"] for each in mistakes]
    some = write_noise_cache(tmp_path / "cache", [Clip.parse(wrong[0]), Clip.parse(wrong[5])])
    assert report_with(tmp_path, some) == 0
    assert len(pictures(tmp_path)) == 2
    missing = ", ".join(clip_id for index, clip_id in enumerate(wrong) if index not in (0, 5))
    assert f"The cache has no picture of {missing}." in page_text(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fingerprint": "a" * 64}, "its fingerprint is '.*', cfn_sr/fold_0 was trained on 'a"),
        ({"dataset": "RAVDESS"}, "its dataset is 'noise', .* on 'RAVDESS'"),
    ],
)
def test_another_cache_is_refused_and_nothing_written(tmp_path, whole, capsys, change, words):
    write_wrong(tmp_path, origin_of(whole) | change)
    assert report_with(tmp_path, whole) == 2
    assert re.fullmatch(f"error: .*{words}.* Give the cache .*\n", capsys.readouterr().err)
    assert report_with(tmp_path, tmp_path) == 2  # a folder without a cache
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard_costs_the_faces_and_status_1(tmp_path, whole, capsys):
    cache = shutil.copytree(whole, tmp_path / "cache")
    write_wrong(tmp_path, origin_of(cache))
    (cache / "actor_04.h5").write_bytes(b"no shard")
    assert report_with(tmp_path, cache) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 12
    assert re.match(r"error: no face of clip 01-01-0.*-04: .*actor_04\.h5", errors[0])
    assert pictures(tmp_path) == []
