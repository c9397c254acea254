import os

import numpy as np
import pytest
from media import put
from noise import ORIGIN, change_manifest

from cache.files import sha256_file
from cache.manifest import read_manifest, write_manifest
from cache.ravdess import expected_clips
from cache.shard import CacheError

CLIPS = [*expected_clips(3)[:2], *expected_clips(4)[:1]]


def test_the_manifest_lists_every_shard_and_has_the_same_bytes_each_time(noise_cache):
    cache = noise_cache(CLIPS)
    before = (cache / "manifest.json").read_bytes()
    manifest = read_manifest(cache)
    listed = [(shard["file"], shard["clips"]) for shard in manifest["shards"]]
    assert listed == [("actor_03.h5", 2), ("actor_04.h5", 1)]
    for shard in manifest["shards"]:
        assert shard["bytes"] == (cache / shard["file"]).stat().st_size
        assert shard["sha256"] == sha256_file(cache / shard["file"])
    assert sorted(manifest["clips"]) == sorted(clip.clip_id for clip in CLIPS)
    again = {key: manifest[key] for key in ("config", "versions", "clips")}
    write_manifest(cache, origin=ORIGIN, shards=manifest["shards"][::-1], **again)
    assert (cache / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nowhere", "no such folder, expected a cache"),
        ("cache.zip", "is a file, expected the folder of a cache"),
        ("unfinished", "an unfinished cache. Re-run the command that started it"),
        ("raw", r"has no manifest\.json, so it is not a cache. .*make features RAVDESS=DIR CACHE"),
    ],
)
def test_what_is_not_a_finished_cache_is_told_apart(tmp_path, path, problem):
    for name in ("cache.zip", "unfinished/actor_01.h5", "raw/Actor_01/clip.mp4"):
        put(tmp_path, name, b"")
    with pytest.raises(CacheError, match=f"{path}: {problem}"):
        read_manifest(tmp_path / path)


FIRST = CLIPS[0].clip_id
# Changes of a manifest, and what is said of it.
UNSEALED = [
    (lambda m: m.update(schema_version=3), "schema version is 3, expected 2. Update CFN-SR"),
    (lambda m: m.update(schema_version=1), "schema version is 1, expected 2. Fetch it again"),
    (lambda m: m["config"].update(test=2), "its fingerprint does not match its config"),
    (lambda m: m.update(citation="nobody"), "it does not match its own checksum"),
    (lambda m: m["shards"][0].update(bytes=1), "it does not match its own checksum"),
]
SEALED = [  # by a stranger, with the right checksum
    (lambda m: m.pop("license"), "license is missing"),
    (lambda m: m.update(more=1), "more is unknown"),
    (lambda m: m["clips"].update({"../x": m["clips"][FIRST]}), "'../x' is not a RAVDESS name"),
    (lambda m: m["clips"][FIRST].update(notes=[1]), rf"{FIRST}\.notes\[0\] is int, expected"),
    (lambda m: m["clips"][FIRST].pop("source"), rf"{FIRST}\.source is missing"),
    (lambda m: m["shards"].pop(), "shards list clips"),
    (lambda m: m["shards"][0].update(file="../actor_03.h5"), "shards list clips"),
    (lambda m: m["shards"][0].update(clips=3), "shards list clips"),
    (lambda m: m["shards"][0].update(sha256="x"), "is 'x', expected 64 hexadecimal digits"),
    (lambda m: m["shards"][0].update(bytes=-5), r"shards\[0\]\.bytes is -5, expected 1 to"),
    (lambda m: m["versions"].update(numpy=2), r"versions\.numpy is int, expected str"),
    (lambda m: m["config"].update(frames=5), r"config\.frames is int, expected dict"),
    (lambda m: m["config"].update(frames={"codec": "x"}), "codec is str, expected dict"),
    (lambda m: m["config"].update(test=float("nan")), "NaN is not a number"),
    (lambda m: m.update(dataset="\x1b]0;title\x07"), r"x1b.* contains control characters"),
    (lambda m: m["config"].update({"\ud800": 1}), "contains control characters"),
]


@pytest.mark.parametrize(("change", "message"), [*UNSEALED, *SEALED])
def test_a_changed_manifest_is_refused_also_if_a_stranger_sealed_it(noise_cache, change, message):
    cache = noise_cache(CLIPS)
    change_manifest(cache, change, seal=(change, message) in SEALED)
    with pytest.raises(CacheError, match=rf"manifest\.json: .*{message}"):
        read_manifest(cache)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"5"])
def test_a_manifest_that_is_not_a_json_object_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(CacheError, match=r"manifest\.json: not a valid manifest"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("depth", [500, 985, 5000, 200_000])
def test_a_deeply_nested_manifest_is_refused(noise_cache, depth):
    path = noise_cache(CLIPS) / "manifest.json"
    deep = "[" * depth + "]" * depth
    path.write_text(path.read_text().replace('"test": 1', f'"test": {deep}'))
    with pytest.raises(CacheError, match=r"manifest\.json"):
        read_manifest(path.parent)


def test_an_endless_manifest_is_not_read(tmp_path):
    path = tmp_path / "manifest.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CacheError, match="more than 8388608 bytes, so not a manifest"):
        read_manifest(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CacheError, match=r"no manifest\.json"):
        read_manifest(tmp_path)


def test_a_flipped_bit_anywhere_in_the_manifest_is_found(noise_cache):
    path = noise_cache(CLIPS) / "manifest.json"
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, len(content), 300):
        changed = bytearray(content)
        changed[place] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(changed)
        with pytest.raises(CacheError, match=r"manifest\.json"):
            read_manifest(path.parent)
