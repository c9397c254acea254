import json
import os

import numpy as np
import pytest
from conftest import ORIGIN

from cache.files import sha256_file
from cache.manifest import fingerprint, read_manifest, write_manifest
from cache.ravdess import expected_clips
from cache.seals import checksum
from cache.shard import CacheError

CLIPS = [*expected_clips(3)[:2], *expected_clips(4)[:1]]


def test_the_manifest_names_every_shard_with_size_hash_and_clips(noise_cache):
    cache = noise_cache(CLIPS)
    manifest = read_manifest(cache)
    assert [(shard["file"], shard["clips"]) for shard in manifest["shards"]] == [
        ("actor_03.h5", 2),
        ("actor_04.h5", 1),
    ]
    for shard in manifest["shards"]:
        assert shard["bytes"] == (cache / shard["file"]).stat().st_size
        assert shard["sha256"] == sha256_file(cache / shard["file"])
    assert sorted(manifest["clips"]) == sorted(clip.clip_id for clip in CLIPS)


def test_writing_it_again_gives_the_same_bytes(noise_cache):
    cache = noise_cache(CLIPS)
    before = (cache / "manifest.json").read_bytes()
    manifest = read_manifest(cache)
    write_manifest(
        cache,
        origin=ORIGIN,
        config=manifest["config"],
        versions={},
        shards=manifest["shards"][::-1],
        clips=manifest["clips"],
    )
    assert (cache / "manifest.json").read_bytes() == before


def test_the_fingerprint_changes_with_every_setting():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2}) != fingerprint({"b": 2})
    assert len(fingerprint({})) == 64


def test_a_folder_without_a_manifest_is_no_finished_cache(tmp_path):
    with pytest.raises(CacheError, match=r"no manifest\.json, so no finished cache"):
        read_manifest(tmp_path)


def change_manifest(cache, change):
    path = cache / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=3), "schema version 3, expected 2: update CFN-SR"),
        (lambda m: m.update(schema_version=0), "schema version 0, expected 2: build the cache"),
        (lambda m: m.pop("license"), "license is missing or not a str"),
        (lambda m: m.update(clips=[]), "clips is missing or not a dict"),
        (lambda m: m["config"].update(test=2), "fingerprint .* does not belong to its config"),
        (lambda m: m["clips"].update({"../x": {}}), "'../x' is not a RAVDESS name"),
        (lambda m: m["shards"].pop(), "shards list"),
        (lambda m: m["shards"][0].update(file="../actor_03.h5"), "shards list"),
        (lambda m: m["shards"][0].pop("sha256"), "a shard lacks"),
        (lambda m: m.update(citation="nobody"), "does not have the checksum that it gives"),
        (lambda m: m["shards"][0].update(bytes=1), "does not have the checksum that it gives"),
    ],
)
def test_a_manifest_that_does_not_hold_is_refused(noise_cache, change, message):
    cache = noise_cache(CLIPS)
    change_manifest(cache, change)
    with pytest.raises(CacheError, match=message):
        read_manifest(cache)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]"])
def test_a_manifest_that_is_no_json_object_is_refused(noise_cache, content):
    cache = noise_cache(CLIPS)
    (cache / "manifest.json").write_bytes(content)
    with pytest.raises(CacheError, match=r"not valid JSON|expected an object"):
        read_manifest(cache)


def test_a_manifest_of_version_1_is_migrated(noise_cache):
    """Version 1 had no checksum, and another fingerprint."""
    cache = noise_cache(CLIPS)
    now = read_manifest(cache)

    def as_1(manifest):
        del manifest["checksum"]
        manifest["schema_version"] = 1
        manifest["fingerprint"] = fingerprint(manifest["config"], schema_version=1)

    change_manifest(cache, as_1)
    assert read_manifest(cache) == now
    change_manifest(cache, lambda manifest: manifest["config"].update(test=2))
    with pytest.raises(CacheError, match="does not belong to its config"):
        read_manifest(cache)
    change_manifest(cache, lambda manifest: manifest.pop("config"))
    with pytest.raises(CacheError, match="config is missing or not a dict"):
        read_manifest(cache)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["clips"][CLIPS[0].clip_id].update(notes=[1]), "lacks source"),
        (lambda m: m["config"].update(frames=5), "config.frames is not an object"),
        (lambda m: m["config"].update(frames={"codec": "x"}), "its codec has no quality"),
        (lambda m: m["versions"].update(numpy=2), "versions are not all strings"),
        (lambda m: m.update(dataset="\x1b]0;title\x07"), r"x1b.* has characters that are no text"),
        (lambda m: m.update(license="\ud800"), "has characters that are no text"),
        (lambda m: m["shards"].append(m["shards"][0]), r"lists actor_03\.h5 twice"),
        (lambda m: m["shards"][0].update(bytes=-5), "bytes or sha256 cannot be"),
        (lambda m: m["shards"][0].update(bytes=10**40), "bytes or sha256 cannot be"),
        (lambda m: m["shards"][0].update(sha256="x"), "bytes or sha256 cannot be"),
        (lambda m: m.update(schema_version=1), "schema version 1 has no checksum"),
        (lambda m: m.update(schema_version=True), "schema_version is missing or no whole number"),
        (lambda m: m["config"].update(test=float("nan")), "NaN is no number"),
        (lambda m: m["config"].update(test=float("inf")), "Infinity is no number"),
    ],
)
def test_a_manifest_that_a_stranger_sealed_is_refused(noise_cache, change, message):
    cache = noise_cache(CLIPS)

    def sealed(manifest):
        change(manifest)
        manifest["fingerprint"] = fingerprint(manifest["config"])
        if "checksum" in manifest:
            manifest["checksum"] = checksum(manifest)

    change_manifest(cache, sealed)
    with pytest.raises(CacheError, match=message):
        read_manifest(cache)


def test_a_manifest_without_end_is_not_read(noise_cache):
    path = noise_cache(CLIPS) / "manifest.json"
    with path.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(CacheError, match="more than 8388608 bytes: no manifest"):
        read_manifest(path.parent)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CacheError, match=r"no manifest\.json"):
        read_manifest(path.parent)


@pytest.mark.parametrize("depth", [500, 985, 5000, 200_000])
def test_a_manifest_of_many_floors_is_refused_or_read(noise_cache, depth):
    path = noise_cache(CLIPS) / "manifest.json"
    deep = "[" * depth + "]" * depth
    path.write_text(path.read_text().replace('"test": 1', f'"test": {deep}'))
    with pytest.raises(CacheError, match=r"manifest\.json"):
        read_manifest(path.parent)


def test_a_flipped_bit_anywhere_in_the_manifest_is_found(noise_cache):
    path = noise_cache(CLIPS) / "manifest.json"
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for place, bit in zip(
        random.integers(0, len(content), 300), random.integers(0, 8, 300), strict=True
    ):
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        with pytest.raises(CacheError, match=r"manifest\.json"):
            read_manifest(path.parent)
