import json

import pytest
from conftest import ORIGIN

from cache.clips import expected_clips
from cache.files import sha256_file
from cache.manifest import fingerprint, read_manifest, write_manifest
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
        (lambda m: m.update(schema_version=2), "schema version 2, expected 1: update CFN-SR"),
        (lambda m: m.update(schema_version=0), "schema version 0, expected 1: build the cache"),
        (lambda m: m.pop("license"), "license is missing or not a str"),
        (lambda m: m.update(clips=[]), "clips is missing or not a dict"),
        (lambda m: m["config"].update(test=2), "fingerprint .* does not belong to its config"),
        (lambda m: m["clips"].update({"../x": {}}), "'../x' is not a RAVDESS name"),
        (lambda m: m["shards"].pop(), "shards list"),
        (lambda m: m["shards"][0].update(file="../actor_03.h5"), "shards list"),
        (lambda m: m["shards"][0].pop("sha256"), "a shard lacks"),
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
