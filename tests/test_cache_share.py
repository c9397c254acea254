"""A cache is packed, served, fetched, and is the same."""

import hashlib
import json
import shutil
from functools import partial

import h5py
import mlcroissant
import numpy as np
import pytest
from media import contents, record
from noise import change_manifest
from processes import run

from cache import jpeg
from cache.__main__ import main
from cache.jpeg import CODEC
from cache.ravdess import expected_clips
from cache.reader import Cache
from preprocess.cli import main as preprocess
from train.cli import main as train

CLIPS = [clip for actor in (3, 4, 5) for clip in expected_clips(actor)[:2]]


def call(*arguments):
    return main([*map(str, arguments)])


def serve(server, folder):
    server.contents |= contents(folder)
    return server.address


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def packed(request, built, tmp_path_factory):
    """The codec, and that cache packed with it."""
    out = tmp_path_factory.mktemp("packed") / "out"
    assert call("pack", built, out, "--codec", request.param) == 0
    return request.param, out


def test_a_packed_cache_has_checksums_and_a_card(built, packed):
    codec, out = packed
    extra = ["README.md", "SHA256SUMS", "clips.csv", "croissant.json"]
    assert sorted(contents(out)) == sorted([*contents(built), *extra])
    if codec == "raw":
        assert contents(built).items() <= contents(out).items()
    checked = run("sha256sum", "--check", "--strict", "SHA256SUMS", folder=out)
    assert checked.stdout.count(": OK") == len(contents(out)) - 1
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: cc0-1.0\n")
    assert "| clips | 4 of actors 1, 2, 5 |" in card
    assert "| `mfcc` | f4 (N, 13, 212) |" in card
    assert ("**lossy**" in card) == ("`frames_end`" in card) == (codec == "jpeg")
    assert ("| `frames` | u1 (N, 30, 224, 224, 3) |" in card) == (codec == "raw")


def test_packing_again_gives_the_same_bytes_and_writes_no_shard(built, packed, tmp_path):
    codec, out = packed
    before = contents(out)
    assert call("pack", built, tmp_path / "two", "--codec", codec) == 0
    assert contents(tmp_path / "two") == before
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.h5")}
    assert call("pack", built, out, "--codec", codec) == 0
    assert contents(out) == before
    assert times == {path: path.stat().st_mtime_ns for path in times}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries that read it
def test_croissant_gives_one_record_per_clip(built, packed, caplog):
    dataset = mlcroissant.Dataset(jsonld=packed[1] / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert "context" not in caplog.text
    records = [(r["clips/clip_id"].decode(), r["clips/label"]) for r in dataset.records("clips")]
    assert records == [(clip.clip_id, clip.label) for clip in Cache(built).clips]
    for described in json.loads((packed[1] / "croissant.json").read_text())["distribution"]:
        content = (packed[1] / described["contentUrl"]).read_bytes()
        assert described["sha256"] == hashlib.sha256(content).hexdigest()


def test_jpeg_is_an_eighth_and_reads_as_frames(built, tmp_path, capsys):
    out = tmp_path / "out"
    assert call("pack", built, out, "--codec", "jpeg") == 0
    small = sum(path.stat().st_size for path in out.glob("*.h5"))
    assert small < sum(path.stat().st_size for path in built.glob("*.h5")) / 5
    raw, jpeg = Cache(built), Cache(out)
    assert (raw.is_jpeg, jpeg.is_jpeg) == (False, True)
    for clip in raw.clips:
        frames, shown = (cache.read(clip.clip_id, "frames").astype(int) for cache in (raw, jpeg))
        assert np.abs(shown - frames).mean() < 2
        for field in ("mfcc", "face_box", "label", "frame_index"):
            np.testing.assert_array_equal(*(c.read(clip.clip_id, field) for c in (raw, jpeg)))
    assert call("verify", out) == 0
    assert call("pack", out, tmp_path / "again") == 0
    assert contents(tmp_path / "again") == contents(out)
    assert call("pack", out, tmp_path / "raw", "--codec", "raw") == 2
    assert "has JPEG frames, not raw ones" in capsys.readouterr().err
    assert call("diff", built, out) == 1
    said = capsys.readouterr().out
    assert "config.frames.codec: None and {" in said
    assert "frames: differs in 4 of 4 clips, by at most" in said
    assert "mfcc" not in said


def test_what_is_fetched_is_what_was_packed(built, packed, tmp_path, server, capsys):
    address, there = serve(server, packed[1]), tmp_path / "there"
    assert call("fetch", address, there) == 0
    assert contents(there).items() <= contents(packed[1]).items()
    assert call("verify", there) == 0
    out = capsys.readouterr().out
    assert "3 shards fetched, 0 already there, 0 failed" in out
    assert "4 clips, license CC0 1.0" in out
    server.requests.clear()
    assert call("fetch", address, there) == 0
    assert [name for name, _ in server.requests] == ["manifest.json"]
    assert call("fetch", packed[1], tmp_path / "from folder") == 0
    assert contents(tmp_path / "from folder") == contents(there)


def test_a_broken_fetch_resumes_and_a_wrong_byte_is_refused(built, tmp_path, server, capsys):
    address, there = serve(server, built), tmp_path / "there"
    server.faults["actor_02.h5"] = ["break"]
    good = server.contents["actor_05.h5"]
    server.contents["actor_05.h5"] = good[:-1] + bytes([good[-1] ^ 1])
    assert call("fetch", address, there) == 1
    assert "failed: actor_05.h5: its checksum is sha256:" in capsys.readouterr().err
    assert server.ranges("actor_02.h5")[1].startswith("bytes=")
    assert {clip.actor for clip in Cache(there).clips} == {1, 2}
    assert call("verify", there) == 0
    server.contents["actor_05.h5"] = good
    assert call("fetch", address, there) == 0
    assert contents(there) == contents(built)


def test_only_the_given_actors_are_fetched_and_others_join_later(built, tmp_path, capsys):
    there = tmp_path / "there"
    assert call("fetch", built, there, "--only", "5", "1") == 0
    assert {clip.actor for clip in Cache(there).clips} == {1, 5}
    assert call("verify", there) == 0
    assert call("fetch", built, there, "--only", "2") == 0
    assert contents(there) == contents(built)
    assert call("fetch", built, there, "--only", "7") == 2
    assert "has no clips of these actors" in capsys.readouterr().err


def test_parts_are_caches_that_join(built, tmp_path, capsys):
    assert call("pack", built, tmp_path / "out", "--parts", "2") == 0
    parts = sorted((tmp_path / "out").iterdir())
    assert [{clip.actor for clip in Cache(part).clips} for part in parts] == [{1, 2}, {5}]
    for part in parts:
        assert call("fetch", part, tmp_path / "there") == 0
    assert contents(tmp_path / "there") == contents(built)
    assert call("pack", built, tmp_path / "more", "--parts", "4") == 2
    assert "4 parts, expected at most 3" in capsys.readouterr().err


def test_a_cache_that_does_not_match_is_not_joined(built, noise_cache, tmp_path, capsys):
    mine = shutil.copytree(noise_cache(CLIPS), tmp_path / "mine")
    before = contents(mine)
    assert call("fetch", built, mine) == 2
    assert "is another cache (dataset: " in capsys.readouterr().err
    shutil.rmtree(tmp_path / "cache")
    assert call("fetch", noise_cache(CLIPS[:1]), mine) == 2  # fewer clips of the same actor
    assert "has another actor_03.h5, of other clips" in capsys.readouterr().err
    assert contents(mine) == before


def test_a_damaged_cache_is_not_packed_and_other_files_are_not_overwritten(built, tmp_path, capsys):
    damaged, mine = shutil.copytree(built, tmp_path / "damaged"), tmp_path / "mine"
    with h5py.File(damaged / "actor_02.h5", "r+") as file:
        file["mfcc"][0, 0, 0] += 1
    assert call("pack", damaged, tmp_path / "out") == 2
    assert "actor_02.h5: sha256" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    mine.mkdir()
    for name in ("thesis.tex", "README.md"):
        (mine / name).write_text("years of work")
        assert call("pack", built, mine) == 2
        assert f"contains {name}, expected a new folder" in capsys.readouterr().err
        assert (mine / name).read_text() == "years of work"
        (mine / name).unlink()
    for inside in (built, built / "pack"):
        assert call("pack", built, inside) == 2
        assert "is inside the cache itself" in capsys.readouterr().err
    assert call("pack", built, tmp_path / "pack") == 0
    assert call("pack", built, tmp_path / "pack", "--codec", "jpeg") == 2
    assert "is a pack of another cache (its config differ" in capsys.readouterr().err
    (tmp_path / "pack" / "actor_01.h5").write_bytes(b"rot")
    assert call("pack", built, tmp_path / "pack") == 2
    assert "actor_01.h5: 3 bytes, manifest says" in capsys.readouterr().err


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_a_cache_that_changes_while_it_is_packed_is_an_error(
    built, tmp_path, monkeypatch, capsys, codec
):
    cache = shutil.copytree(built, tmp_path / "cache")

    def change(function, *arguments):
        content = (built / "actor_02.h5").read_bytes()
        (cache / "actor_02.h5").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        return function(*arguments)

    for module, name in ((shutil, "copyfile"), (jpeg, "encode")):
        monkeypatch.setattr(module, name, partial(change, getattr(module, name)))
    assert call("pack", cache, tmp_path / "out", "--codec", codec) == 2
    assert "actor_02.h5: sha256" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_cache_that_another_machine_writes_is_read_but_not_packed(built, tmp_path, capsys):
    cache = shutil.copytree(built, tmp_path / "cache")
    (cache / ".lock").write_text("node-7 4711")
    assert call("pack", cache, tmp_path / "out") == 2
    assert "another run is at work there, process 4711 on node-7" in capsys.readouterr().err
    assert [call(*command) for command in (("verify", cache), ("diff", built, cache))] == [0, 0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"<html>not here</html>", b"{}", b"[" * 100_000])
def test_an_address_without_a_manifest_is_named(tmp_path, server, capsys, content):
    address = server.address
    assert call("fetch", address, tmp_path / "there") == 1
    reason = f"{address}/manifest.json: cannot be read (the server returned 404"
    assert reason in capsys.readouterr().err
    server.contents["manifest.json"] = content
    assert call("fetch", address, tmp_path / "there") == 2
    assert f"{address}/manifest.json: not a valid manifest" in capsys.readouterr().err
    assert not (tmp_path / "there").exists()


def test_a_stranger_cannot_choose_where_files_go(built, tmp_path, server, capsys):
    cache = shutil.copytree(built, tmp_path / "cache")
    change_manifest(cache, lambda manifest: manifest["shards"][0].update(file="../evil.h5"))
    address = serve(server, cache)
    server.contents["evil.h5"] = server.contents["actor_01.h5"]
    assert call("fetch", address, tmp_path / "there") == 2
    assert "shards list" in capsys.readouterr().err
    assert not (tmp_path / "evil.h5").exists()


def test_a_sealed_file_that_is_no_such_shard_gets_no_name(noise_cache, built, tmp_path, capsys):
    cache, bad = noise_cache(CLIPS), b"hello"
    (cache / "actor_03.h5").write_bytes(bad)
    entry = {"bytes": len(bad), "sha256": hashlib.sha256(bad).hexdigest()}
    change_manifest(cache, lambda manifest: manifest["shards"][0].update(entry))
    assert call("fetch", cache, tmp_path / "there") == 1
    assert "failed: actor_03.h5: " in capsys.readouterr().err
    assert sorted(contents(tmp_path / "there")) == ["actor_04.h5", "actor_05.h5", "manifest.json"]
    # A manifest that promises JPEGs, for shards that have none.
    promising = shutil.copytree(built, tmp_path / "promising")
    change_manifest(promising, lambda manifest: manifest["config"]["frames"].update(codec=CODEC))
    for command in (("verify", promising), ("fetch", promising, tmp_path / "other")):
        assert call(*command) == 1
        assert "its frames do not match the settings in the manifest" in capsys.readouterr().err


def test_diff_tells_what_differs_and_by_how_much(noise_cache, tmp_path, capsys):
    one = noise_cache(CLIPS)
    two = shutil.copytree(one, tmp_path / "two")
    assert call("diff", one, two) == 0
    assert "no difference" in capsys.readouterr().out
    with h5py.File(two / "actor_04.h5", "r+") as file:
        file["mfcc"][0, 0, 0] += 26
        values = file["mfcc"].size * 2  # of actors 3 and 4
    (two / "actor_05.h5").unlink()

    def change(manifest):
        manifest["versions"] = {"librosa": "9"}
        manifest["shards"].pop()
        for clip in CLIPS[4:]:
            del manifest["clips"][clip.clip_id]
        manifest["clips"][CLIPS[0].clip_id]["notes"] = ["odd"]

    change_manifest(two, change)
    assert call("diff", one, two) == 1
    said = capsys.readouterr().out.splitlines()
    assert "versions.librosa: None and '9'" in said
    assert f"2 clips ({CLIPS[4].clip_id}, {CLIPS[5].clip_id}) only in {one}" in said
    assert f"notes differ: 1 clips ({CLIPS[0].clip_id})" in said
    assert said[-1].startswith("mfcc: differs in 1 of 4 clips, by at most 26 ")
    assert f"by {26 / values:.3g} on average" in said[-1]


def test_a_cache_of_audio_says_so_and_trains_what_it_can(tmp_path, capsys):
    raw, cache, out = tmp_path / "raw", tmp_path / "cache", tmp_path / "out"
    for actor in (1, 2, 5, 6):
        record(raw, f"03-01-06-01-02-01-{actor:02d}", 440)
    options = ["--modality", "audio", "--jobs", "1"]
    assert preprocess(["--raw", str(raw), "--cache", str(cache), *options]) == 0
    assert call("pack", cache, out) == 0
    card = (out / "README.md").read_text()
    assert "# MFCCs of RAVDESS speech, audio only" in card
    assert "--fold 0 --model audio_mfcc_cnn" in card
    assert "video" not in card.replace("audio-video", "")
    assert "face_score" not in card
    assert call("pack", cache, tmp_path / "j", "--codec", "jpeg") == 2
    assert "has no frames to store as JPEG" in capsys.readouterr().err
    assert call("inspect", cache, "--out", tmp_path / "x.png") == 2
    assert "has audio only" in capsys.readouterr().err
    fold = ["--cache", str(cache), "--fold", "0", "--runs", str(tmp_path / "runs")]
    assert train(fold) == 2
    assert "audio_mfcc_cnn" in capsys.readouterr().err
    assert train([*fold, "--model", "audio_mfcc_cnn", "--epochs", "1"]) == 0
