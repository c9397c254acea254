"""A cache is packed, served, fetched, and is the same."""

import hashlib
import json
import shutil
import subprocess

import mlcroissant
import numpy as np
import pytest
import soundfile
from media import tone
from server import REDIRECT_MIB

from cache.__main__ import main
from cache.files import write_json
from cache.ravdess import expected_clips
from cache.reader import Cache
from cache.seals import checksum, fingerprint
from preprocess.cli import main as preprocess
from train.cli import main as train

CLIPS = [clip for actor in (3, 4, 5) for clip in expected_clips(actor)[:2]]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def built(sample_clips, tmp_path_factory):
    """A cache of real pictures: four drawn clips of actors 1, 2 and 5."""
    cache = tmp_path_factory.mktemp("built") / "cache"
    assert preprocess(["--raw", str(sample_clips), "--cache", str(cache), "--jobs", "1"]) == 0
    return cache


def serve(server, folder):
    server.contents |= contents(folder)
    return f"http://127.0.0.1:{server.server_port}/some/where"


def test_a_packed_cache_is_the_cache_with_its_papers(built, tmp_path):
    assert main(["pack", str(built), str(tmp_path / "out")]) == 0
    packed, before = contents(tmp_path / "out"), contents(built)
    assert {name: packed[name] for name in before} == before
    assert sorted(set(packed) - set(before)) == [
        "README.md",
        "SHA256SUMS",
        "clips.csv",
        "croissant.json",
    ]
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0
    assert checked.stdout.count(": OK") == len(packed) - 1
    readme = packed["README.md"].decode()
    assert readme.startswith("---\nlicense: cc0-1.0\n")
    assert "| clips | 4 of actors 1, 2, 5 |" in readme


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_packing_twice_gives_the_same_bytes(built, tmp_path, codec):
    for out in ("one", "two"):
        assert main(["pack", str(built), str(tmp_path / out), "--codec", codec]) == 0
    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "two")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").glob("*.h5")}
    assert main(["pack", str(built), str(tmp_path / "one"), "--codec", codec]) == 0
    assert contents(tmp_path / "one") == one
    assert times == {path: path.stat().st_mtime_ns for path in times}, "shards were written again"


def test_jpeg_is_an_eighth_and_reads_as_frames(built, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["pack", str(built), str(out), "--codec", "jpeg"]) == 0
    assert "**lossy**" in (out / "README.md").read_text()
    small = sum(path.stat().st_size for path in out.glob("*.h5"))
    assert small < sum(path.stat().st_size for path in built.glob("*.h5")) / 5
    raw, packed = Cache(built), Cache(out)
    assert (raw.is_jpeg, packed.is_jpeg) == (False, True)
    for clip in raw.clips:
        frames = raw.read(clip.clip_id, "frames").astype(int)
        shown = packed.read(clip.clip_id, "frames")
        assert np.abs(shown - frames).mean() < 2
        for field in ("mfcc", "face_box", "label", "frame_index"):
            np.testing.assert_array_equal(
                packed.read(clip.clip_id, field), raw.read(clip.clip_id, field)
            )
    capsys.readouterr()
    assert main(["verify", str(out)]) == 0
    assert main(["pack", str(out), str(tmp_path / "again")]) == 0
    assert contents(tmp_path / "again") == contents(out)
    assert main(["pack", str(out), str(tmp_path / "raw"), "--codec", "raw"]) == 2
    assert "holds JPEGs already" in capsys.readouterr().err
    assert main(["diff", str(built), str(out)]) == 1
    said = capsys.readouterr().out
    assert "config.frames.codec: None and {" in said
    assert "frames: differs in 4 of 4 clips, at most by" in said
    assert "mfcc" not in said


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries that read it
def test_croissant_gives_a_record_for_each_clip(built, tmp_path, caplog):
    assert main(["pack", str(built), str(tmp_path / "out")]) == 0
    dataset = mlcroissant.Dataset(jsonld=tmp_path / "out" / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert "context" not in caplog.text
    records = list(dataset.records("clips"))
    cache = Cache(built)
    assert [record["clips/clip_id"].decode() for record in records] == [
        clip.clip_id for clip in cache.clips
    ]
    assert [record["clips/label"] for record in records] == [clip.label for clip in cache.clips]
    for described in json.loads((tmp_path / "out" / "croissant.json").read_text())["distribution"]:
        content = (tmp_path / "out" / described["contentUrl"]).read_bytes()
        assert described["sha256"] == hashlib.sha256(content).hexdigest()


def test_what_is_fetched_is_what_was_packed(built, tmp_path, server, capsys):
    assert main(["pack", str(built), str(tmp_path / "out")]) == 0
    address = serve(server, tmp_path / "out")
    assert main(["fetch", address, str(tmp_path / "there")]) == 0
    assert contents(tmp_path / "there") == contents(built)
    out = capsys.readouterr().out
    assert "3 shards fetched, 0 there already, 0 failed" in out
    assert "4 clips, under CC0 1.0" in out
    server.requests.clear()
    assert main(["fetch", address, str(tmp_path / "there")]) == 0
    assert [name for name, _ in server.requests] == ["manifest.json"]
    assert main(["fetch", str(tmp_path / "out"), str(tmp_path / "from folder")]) == 0
    assert contents(tmp_path / "from folder") == contents(built)
    assert main(["diff", str(built), str(tmp_path / "there")]) == 0


def test_a_broken_fetch_goes_on_and_a_wrong_byte_is_refused(built, tmp_path, server, capsys):
    address, there = serve(server, built), tmp_path / "there"
    server.faults["actor_02.h5"] = ["break", "silence", "silence", "silence", "silence"]
    arguments = ["fetch", address, str(there)]
    good = server.contents["actor_05.h5"]
    server.contents["actor_05.h5"] = good[:-1] + bytes([good[-1] ^ 1])
    import cache.fetch

    real = cache.fetch.fetch_all
    cache.fetch.fetch_all = lambda *files, **options: real(*files, **options | {"pause_s": 0.001})
    try:
        assert main(arguments) == 1
        err = capsys.readouterr().err
        kept = (there / "actor_02.h5.part").stat().st_size
        assert 0 < kept <= 200_000
        assert f"failed: actor_02.h5: {kept} of" in err
        assert "failed: actor_05.h5: " in err
        assert "SHA256" in err
        assert {clip.actor for clip in Cache(there).clips} == {1}
        assert main(["verify", str(there)]) == 0
        server.contents["actor_05.h5"] = good
        server.requests.clear()
        assert main(arguments) == 0
        assert server.ranges("actor_02.h5") == [f"bytes={kept}-"]
    finally:
        cache.fetch.fetch_all = real
    assert contents(there) == contents(built)


def test_wanted_actors_alone_are_fetched_and_others_join_later(built, tmp_path, server, capsys):
    address, there = serve(server, built), tmp_path / "there"
    assert main(["fetch", address, str(there), "--only", "5", "1"]) == 0
    assert {clip.actor for clip in Cache(there).clips} == {1, 5}
    assert main(["verify", str(there)]) == 0
    assert main(["fetch", address, str(there), "--only", "2"]) == 0
    assert contents(there) == contents(built)
    assert main(["fetch", address, str(there), "--only", "7"]) == 2
    assert "holds no clips of these actors" in capsys.readouterr().err


def test_parts_are_caches_that_join(built, tmp_path, capsys):
    assert main(["pack", str(built), str(tmp_path / "out"), "--parts", "2"]) == 0
    parts = sorted((tmp_path / "out").iterdir())
    assert [{clip.actor for clip in Cache(part).clips} for part in parts] == [{1, 2}, {5}]
    for part in parts:
        assert main(["fetch", str(part), str(tmp_path / "there")]) == 0
    assert contents(tmp_path / "there") == contents(built)
    assert main(["pack", str(built), str(tmp_path / "more"), "--parts", "4"]) == 2
    assert "4 parts, expected at most 3" in capsys.readouterr().err


def test_another_cache_is_not_joined(built, noise_cache, tmp_path, capsys):
    other = noise_cache(CLIPS)
    before = contents(other)
    assert main(["fetch", str(built), str(other)]) == 2
    assert "holds another cache (dataset: " in capsys.readouterr().err
    assert contents(other) == before


def test_a_damaged_cache_is_not_packed_and_a_strange_folder_not_packed_into(
    built, tmp_path, capsys
):
    damaged = shutil.copytree(built, tmp_path / "damaged")
    content = bytearray((damaged / "actor_02.h5").read_bytes())
    content[5000] ^= 1
    (damaged / "actor_02.h5").write_bytes(content)
    assert main(["pack", str(damaged), str(tmp_path / "out")]) == 2
    assert "actor_02.h5: sha256" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    assert main(["pack", str(built), str(tmp_path / "mine")]) == 2
    assert "holds thesis.tex, expected a new folder" in capsys.readouterr().err
    (tmp_path / "mine" / "thesis.tex").rename(tmp_path / "mine" / "README.md")
    assert main(["pack", str(built), str(tmp_path / "mine")]) == 2
    assert (tmp_path / "mine" / "README.md").read_text() == "years of work"
    for inside in (built, built / "pack"):
        assert main(["pack", str(built), str(inside)]) == 2
        assert "lies in the cache itself" in capsys.readouterr().err
    assert main(["pack", str(built), str(tmp_path / "pack")]) == 0
    assert main(["pack", str(built), str(tmp_path / "pack"), "--codec", "jpeg"]) == 2
    assert "is a pack of another cache" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"<html>not here</html>", b"{}", b"[" * 100_000])
def test_an_address_without_a_manifest_is_named(tmp_path, server, capsys, content):
    address = f"http://127.0.0.1:{server.server_port}/x"
    assert main(["fetch", address, str(tmp_path / "there")]) == 1
    assert f"{address}/manifest.json: the server answers 404" in capsys.readouterr().err
    server.contents["manifest.json"] = content
    assert main(["fetch", address, str(tmp_path / "there")]) == 2
    assert f"{address}/manifest.json: " in capsys.readouterr().err
    assert not (tmp_path / "there").exists()


def test_a_stranger_cannot_choose_where_files_go(built, tmp_path, server, capsys):
    address = serve(server, built)
    manifest = json.loads(server.contents["manifest.json"])
    manifest["shards"][0]["file"] = "../evil.h5"
    manifest["checksum"] = checksum(manifest)
    server.contents["manifest.json"] = json.dumps(manifest).encode()
    server.contents["evil.h5"] = server.contents["actor_01.h5"]
    assert main(["fetch", address, str(tmp_path / "there")]) == 2
    assert "shards list" in capsys.readouterr().err
    assert not (tmp_path / "evil.h5").exists()


def test_a_file_with_the_right_sum_that_is_no_shard_gets_no_name(
    tmp_path, server, noise_cache, capsys
):
    cache = noise_cache(CLIPS)
    bad = b"hello"
    manifest = json.loads((cache / "manifest.json").read_text())
    manifest["shards"][0] |= {"bytes": len(bad), "sha256": hashlib.sha256(bad).hexdigest()}
    manifest["checksum"] = checksum(manifest)
    write_json(cache / "manifest.json", manifest)
    (cache / "actor_03.h5").write_bytes(bad)
    address = serve(server, cache)
    assert main(["fetch", address, str(tmp_path / "there")]) == 1
    assert "failed: actor_03.h5: " in capsys.readouterr().err
    assert sorted(contents(tmp_path / "there")) == ["actor_04.h5", "actor_05.h5", "manifest.json"]


def test_training_on_what_was_fetched_gives_the_same_metrics(fold_cache, tmp_path, server):
    assert main(["pack", str(fold_cache), str(tmp_path / "out")]) == 0
    assert main(["fetch", serve(server, tmp_path / "out"), str(tmp_path / "there")]) == 0
    lines = []
    for cache in (fold_cache, tmp_path / "there"):
        runs = tmp_path / f"runs of {cache.name}"
        options = ["--fold", "0", "--preset", "tiny", "--epochs", "1", "--runs", str(runs)]
        assert train(["--cache", str(cache), *options]) == 0
        line = json.loads((runs / "cfn_sr" / "fold_0" / "metrics.jsonl").read_text())
        lines.append({key: value for key, value in line.items() if "second" not in key})
    assert lines[0] == lines[1]


def test_training_refuses_a_shard_with_a_flipped_bit(fold_cache, tmp_path, capsys):
    cache = shutil.copytree(fold_cache, tmp_path / "cache")
    content = bytearray((cache / "actor_07.h5").read_bytes())
    content[len(content) // 2] ^= 4
    (cache / "actor_07.h5").write_bytes(content)
    options = ["--fold", "0", "--preset", "tiny", "--runs", str(tmp_path / "runs")]
    assert train(["--cache", str(cache), *options]) == 2
    assert "actor_07.h5: sha256" in capsys.readouterr().err


def test_diff_tells_what_differs_and_by_how_much(noise_cache, tmp_path, capsys):
    one = noise_cache(CLIPS)
    two = shutil.copytree(one, tmp_path / "two")
    assert main(["diff", str(one), str(two)]) == 0
    assert "no difference" in capsys.readouterr().out
    shard = (two / "actor_04.h5").read_bytes()
    mfcc = Cache(one).read(CLIPS[2].clip_id, "mfcc")
    at = shard.index(mfcc.tobytes())
    changed = mfcc.copy()
    changed[0, 0] += 26  # of 6 x 13 x 212 values
    (two / "actor_04.h5").write_bytes(shard[:at] + changed.tobytes() + shard[at + mfcc.nbytes :])
    (two / "actor_05.h5").unlink()
    manifest = json.loads((two / "manifest.json").read_text())
    manifest["versions"] = {"librosa": "9"}
    manifest["shards"].pop()
    for clip in CLIPS[4:]:
        del manifest["clips"][clip.clip_id]
    manifest["clips"][CLIPS[0].clip_id]["notes"] = ["odd"]
    manifest["checksum"] = checksum(manifest)
    write_json(two / "manifest.json", manifest)
    assert main(["diff", str(one), str(two)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "versions.librosa: None and '9'" in said
    assert f"2 clips ({CLIPS[4].clip_id}, {CLIPS[5].clip_id}) only in {one}" in said
    assert f"notes differ: 1 clips ({CLIPS[0].clip_id})" in said
    mean = 26 / (4 * 13 * 212)
    assert said[-1].startswith("mfcc: differs in 1 of 4 clips, at most by 26 ")
    assert f"by {mean:.3g} in the mean" in said[-1]


def test_a_pack_that_was_stopped_is_completed(built, tmp_path, monkeypatch):
    assert main(["pack", str(built), str(tmp_path / "straight")]) == 0

    def stop(*_, **__):
        raise KeyboardInterrupt

    for step in ("_copy", "write_manifest", "croissant"):
        monkeypatch.setattr(f"cache.pack.{step}", stop)
        assert main(["pack", str(built), str(tmp_path / "stopped")]) == 1
        monkeypatch.undo()
    assert main(["pack", str(built), str(tmp_path / "stopped")]) == 0
    assert contents(tmp_path / "stopped") == contents(tmp_path / "straight")


def test_clips_that_are_here_are_not_lost_to_a_smaller_cache(noise_cache, tmp_path, capsys):
    mine = shutil.copytree(noise_cache(CLIPS), tmp_path / "mine")
    shutil.rmtree(tmp_path / "cache")
    small = noise_cache(CLIPS[:1])
    before = contents(mine)
    assert main(["fetch", str(small), str(mine)]) == 2
    assert "holds another actor_03.h5, of other clips" in capsys.readouterr().err
    assert contents(mine) == before


def test_redirects_are_followed_without_what_comes_on_the_way(built, tmp_path, server, capsys):
    """The server of these tests sends /records/7/files/... elsewhere."""
    serve(server, built)
    address = f"http://127.0.0.1:{server.server_port}/records/7/files"
    assert main(["fetch", address, str(tmp_path / "there")]) == 0
    assert contents(tmp_path / "there") == contents(built)
    assert server.redirect_mib < 4 * REDIRECT_MIB / 2  # four files; some lies in the sockets


def test_a_password_in_an_address_is_not_shown(server, tmp_path, capsys):
    address = f"http://me:secret@127.0.0.1:{server.server_port}/x"
    assert main(["fetch", address, str(tmp_path / "there")]) == 1
    err = capsys.readouterr().err
    assert "the server answers 404" in err
    assert "secret" not in err


def test_shards_that_are_not_as_the_settings_say_are_found(built, tmp_path, capsys):
    """A manifest that a stranger sealed promises JPEGs; the shards hold none."""
    cache = shutil.copytree(built, tmp_path / "cache")
    manifest = json.loads((cache / "manifest.json").read_text())
    manifest["config"]["frames"]["codec"] = {"name": "jpeg", "quality": 95}
    manifest["fingerprint"] = fingerprint(manifest["config"])
    manifest["checksum"] = checksum(manifest)
    write_json(cache / "manifest.json", manifest)
    assert main(["verify", str(cache)]) == 1
    assert "its frames are not as the manifest's settings say" in capsys.readouterr().err
    assert main(["fetch", str(cache), str(tmp_path / "there")]) == 1
    assert "its frames are not as" in capsys.readouterr().err


def test_a_cache_of_sound_says_so_and_trains_what_it_can(tmp_path, capsys):
    for actor in (1, 2, 5, 6):
        path = tmp_path / "raw" / f"03-01-06-01-02-01-{actor:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, tone(3.2).T, 48_000, subtype="PCM_16")
    cache, out = tmp_path / "cache", tmp_path / "out"
    options = ["--modality", "audio", "--jobs", "1"]
    assert preprocess(["--raw", str(tmp_path / "raw"), "--cache", str(cache), *options]) == 0
    assert main(["pack", str(cache), str(out)]) == 0
    card = (out / "README.md").read_text()
    assert "# MFCCs of RAVDESS speech, audio only" in card
    assert "--fold 0 --model audio_mfcc_cnn" in card
    assert "video" not in card.replace("audio-video", "")
    assert "face_score" not in card
    assert main(["pack", str(cache), str(tmp_path / "j"), "--codec", "jpeg"]) == 2
    assert "holds no frames" in capsys.readouterr().err
    assert main(["inspect", str(cache), "--out", str(tmp_path / "x.png")]) == 2
    assert "holds sound alone" in capsys.readouterr().err
    fold = ["--cache", str(cache), "--fold", "0", "--runs", str(tmp_path / "runs")]
    assert train(fold) == 2
    assert "holds no frames, which cfn_sr looks at. Train --model audio_mfcc_cnn" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "runs").exists()
    assert train([*fold, "--model", "audio_mfcc_cnn", "--epochs", "1"]) == 0
