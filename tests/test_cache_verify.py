import shutil
import struct

import numpy as np
import pytest

from cache.__main__ import main
from cache.manifest import read_manifest
from cache.ravdess import expected_clips
from cache.shard import CacheError, open_shard
from cache.verify import problems_of

CLIPS = [*expected_clips(3)[:1], *expected_clips(4)[:1]]


def found(cache, **options):
    return [problem for problem in problems_of(cache, read_manifest(cache), **options) if problem]


def test_a_sound_cache_has_no_problem(noise_cache, capsys):
    cache = noise_cache(CLIPS)
    assert found(cache) == found(cache, quick=True) == []
    assert main(["verify", str(cache)]) == 0
    assert "2 shards checked, 0 problems" in capsys.readouterr().out
    assert main(["verify", "--quick", str(cache)]) == 0
    assert "2 shards checked for sizes and structure alone, 0 problems" in capsys.readouterr().out


def test_a_flipped_bit_anywhere_in_a_shard_is_found(noise_cache):
    cache = noise_cache(CLIPS)
    path = cache / "actor_04.h5"
    random = np.random.default_rng(0)
    with path.open("r+b") as file:
        size = path.stat().st_size
        # The first KiB are structure, where HDF5 has sums of its own.
        for place in (*random.integers(0, 1024, 20), *random.integers(0, size, 80)):
            file.seek(place)
            byte = file.read(1)[0]
            for value in (byte ^ 1 << int(random.integers(0, 8)), byte):
                file.seek(place)
                file.write(bytes([value]))
                file.flush()
                problems = found(cache)
                assert len(problems) == (value != byte)
                assert all(str(path) in problem for problem in problems)


def test_a_shard_that_was_cut_anywhere_is_refused(noise_cache):
    cache = noise_cache(CLIPS)
    path = cache / "actor_04.h5"
    size = path.stat().st_size
    after = np.random.default_rng(0).integers(2**20, size, 50)
    for length in (*sorted(after)[::-1], *range(2**20, -1, -4096)):
        with path.open("r+b") as file:
            file.truncate(length)
        with pytest.raises(CacheError, match=r"actor_04\.h5"):
            open_shard(path)
        assert f"{length} bytes, manifest says {size}" in found(cache, quick=True)[0]


def test_what_does_not_belong_together_is_named(noise_cache, tmp_path, capsys):
    cache = noise_cache(CLIPS)
    three, four = cache / "actor_03.h5", cache / "actor_04.h5"

    def tampered(change):
        copy = shutil.copytree(cache, tmp_path / "copy")
        change(copy / three.name, copy / four.name)
        assert main(["verify", str(copy)]) == 1
        err = capsys.readouterr().err
        shutil.rmtree(copy)
        return [line for line in err.splitlines() if line.startswith("error: ") or "error" in line]

    def swap(one, two):
        one.rename(one.with_suffix(".x"))
        two.rename(one)
        one.with_suffix(".x").rename(two)

    swapped = tampered(swap)
    assert len(swapped) == 2
    assert "actor_03.h5: sha256" in swapped[0]
    assert "actor_04.h5: sha256" in swapped[1]
    assert "actor_04.h5: missing" in tampered(lambda one, two: two.unlink())[0]
    extra = tampered(lambda one, two: shutil.copy(one, one.with_name("actor_09.h5")))
    assert "actor_09.h5: not in the manifest" in extra[0]

    def of_other_settings(one, two):
        """As made with another crop: the same clip, other frames."""
        with open_shard(one) as shard:
            frames = shard.read("frames", 0)
        content = one.read_bytes()
        one.write_bytes(content.replace(frames.tobytes(), np.roll(frames, 1).tobytes()))

    assert "actor_03.h5: sha256" in tampered(of_other_settings)[0]


def test_labels_that_do_not_belong_to_their_clips_are_found(noise_cache):
    cache = noise_cache(CLIPS)
    path = cache / "actor_03.h5"
    with open_shard(path) as shard:
        at = shard._blocks["label"].start
    content = bytearray(path.read_bytes())
    content[at : at + 1] = struct.pack("B", 7)
    path.write_bytes(content)
    assert "labels do not belong" in found(cache, quick=True)[0]
