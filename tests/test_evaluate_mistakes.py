"""The surest mistakes, and their faces from the right cache alone."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import write_noise_cache
from fake_runs import make_run, origin_of, page_text, write
from PIL import Image

from cache.ravdess import EMOTIONS, Clip, expected_clips
from cache.reader import Cache
from evaluate.cli import main
from evaluate.measures.pooled import Pooled, pool
from evaluate.report.mistakes import SHOWN, faces, surest_mistakes


def run_with(folder: Path, cache: dict) -> None:
    """Fold 0, 40 clips wrong: those of actor 4 from the 21st on."""
    write(folder, make_run(0, 200, cache=cache))


def evaluate(base: Path, cache: Path) -> int:
    return main(["--runs", f"{base / 'runs'}", "--out", f"{base / 'out'}", "--cache", f"{cache}"])


def pictures(base: Path) -> list[str]:
    page = (base / "out" / "report.html").read_text()
    return re.findall(r'<img src="data:image/jpeg;base64,([^"]*)"', page)


def test_the_surest_mistakes_come_first_and_ties_by_clip():
    clips = tuple(expected_clips(1)[:5])  # neutral, and the first calm one
    shares = np.full((5, 8), 0.0)
    shares[:, 3] = [0.9, 0.6, 0.9, 0.99, 0.7]  # all taken for sad but the fourth
    shares[:, 0] = 1 - shares[:, 3]
    predicted = np.array([3, 3, 3, 0, 3])
    pooled = Pooled(
        clips=clips,
        folds=np.zeros(5, dtype=int),
        labels=np.array([clip.label for clip in clips]),
        predicted=predicted,
        probabilities=shares,
        weights=np.full(5, 0.2),
    )
    found = surest_mistakes(pooled, 3)
    assert [each["clip_id"] for each in found] == [clips[i].clip_id for i in (0, 2, 4)]
    assert [each["probability"] for each in found] == [0.9, 0.9, 0.7]
    assert [each["probability_of_true"] for each in found] == [0.1, 0.1, 0]
    assert (found[2]["true"], found[2]["predicted"]) == ("calm", "sad")
    assert len(surest_mistakes(pool([make_run(0, 0)]))) == SHOWN == 12
    assert surest_mistakes(pool([make_run(0, 240)])) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A cache with all clips of actor 4 that a mistake may be of."""
    clips = [clip for clip in expected_clips(4) if clip.label in (3, 4)]
    return write_noise_cache(tmp_path_factory.mktemp("whole") / "cache", clips)


def test_a_face_is_the_middle_frame_made_smaller(whole):
    cache = Cache(whole)
    clip_id = cache.clips[0].clip_id
    (url,) = faces(cache, [clip_id])[0].values()
    shown = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
    assert shown.size == (112, 112)
    middle = cache.read(clip_id, "frames")[15].astype(float)
    # Means of 28 x 28 pixels outlive the JPEG; those of other frames of noise are others.
    coarse = middle.reshape(8, 28, 8, 28, 3).mean(axis=(1, 3))
    found = np.asarray(shown, dtype=float).reshape(8, 14, 8, 14, 3).mean(axis=(1, 3))
    assert np.corrcoef(coarse.mean(axis=2).ravel(), found.mean(axis=2).ravel())[0, 1] > 0.9


def test_without_a_cache_the_mistakes_are_a_list_and_the_page_says_how_to_see_faces(tmp_path):
    run_with(
        tmp_path / "runs", {"dataset": "RAVDESS", "fingerprint": "a" * 64, "schema_version": 1}
    )
    assert main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    text = page_text(tmp_path / "out")
    assert "40 of 240 clips are predicted wrong; here are the 12 with the highest" in text
    assert "python -m evaluate --runs RUNS --out OUT --cache CACHE" in text
    assert "65.0 % sure" in text
    assert pictures(tmp_path) == []


def test_with_the_cache_each_mistake_shows_its_face_and_whose_it_is(tmp_path, whole):
    run_with(tmp_path / "runs", origin_of(whole))
    assert evaluate(tmp_path, whole) == 0
    assert len(pictures(tmp_path)) == 12
    text = page_text(tmp_path / "out")
    assert "licence: CC0 1.0" in text
    assert "has no picture" not in text


def test_clips_that_the_cache_lacks_have_no_picture_and_are_named(tmp_path, whole):
    run_with(tmp_path / "runs", origin_of(whole))
    wrong = [each["clip_id"] for each in surest_mistakes(pool([make_run(0, 200)]))]
    some = write_noise_cache(tmp_path / "cache", [Clip.parse(wrong[0]), Clip.parse(wrong[5])])
    assert evaluate(tmp_path, some) == 0
    assert len(pictures(tmp_path)) == 2
    missing = ", ".join(clip_id for index, clip_id in enumerate(wrong) if index not in (0, 5))
    assert f"The cache has no picture of {missing}." in page_text(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"fingerprint": "a" * 64},
            "its fingerprint is '.*', the runs of cfn_sr were made from 'a",
        ),
        ({"dataset": "RAVDESS speech"}, "its dataset is 'noise', .* from 'RAVDESS speech'"),
    ],
)
def test_another_cache_is_refused_before_anything_is_written(
    tmp_path, whole, capsys, change, words
):
    run_with(tmp_path / "runs", origin_of(whole) | change)
    assert evaluate(tmp_path, whole) == 2
    assert re.fullmatch(f"error: .*{words}.* Give the cache .*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_cache_is_wrong_use(tmp_path, whole, capsys):
    run_with(tmp_path / "runs", origin_of(whole))
    assert evaluate(tmp_path, tmp_path) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_damaged_shard_costs_the_faces_and_status_1(tmp_path, capsys):
    clips = [clip for clip in expected_clips(4) if clip.label in (3, 4)]
    cache = write_noise_cache(tmp_path / "cache", clips)
    run_with(tmp_path / "runs", origin_of(cache))
    (cache / "actor_04.h5").write_bytes(b"no shard")
    assert evaluate(tmp_path, cache) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 12
    assert re.match(r"error: no face of clip 01-01-0.*-04: .*actor_04\.h5", errors[0])
    assert pictures(tmp_path) == []


def test_a_cache_of_sound_alone_gives_no_faces(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(Cache, "fields", lambda *_: ("mfcc",))
    cache = Cache(whole)
    assert faces(cache, [cache.clips[0].clip_id]) == ({}, [])


def test_the_same_runs_and_cache_give_the_same_bytes(tmp_path, whole, capsys):
    run_with(tmp_path / "runs", origin_of(whole))
    evaluate(tmp_path, whole)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    evaluate(tmp_path, whole)
    assert capsys.readouterr().out.endswith("report.html (unchanged)\n")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert json.loads(before["summary.json"])["main_model"] == "cfn_sr"
    assert set(EMOTIONS) == set(json.loads(before["summary.json"])["models"]["cfn_sr"]["recall"])
