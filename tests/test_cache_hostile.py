"""Shards of strangers: what HDF5 would follow, unpack or believe is refused, soon and cheaply."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import noise_arrays

from cache.ravdess import expected_clips
from cache.shard import CacheError, open_shard, write_shard

ROOT = Path(__file__).parent.parent
CLIPS = expected_clips(7)[:2]

# What a stranger's file may cost: seconds, and MB of a process that reads caches and no more.
MOST_S = 1.0
MOST_MB = 300
OPEN = r"""
import json, re, sys, time
from pathlib import Path
from cache.shard import CacheError, open_shard
started = time.perf_counter()
try:
    open_shard(Path(sys.argv[1])).read("mfcc", 0)
    said = None
except CacheError as exc:
    said = str(exc)
used_mb = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps([said, time.perf_counter() - started, used_mb]))
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A shard of sound alone, small: two clips."""
    path = tmp_path_factory.mktemp("sound") / "actor_07.h5"
    rows = [(clip, {"mfcc": noise_arrays(0)["mfcc"]}) for clip in CLIPS]
    write_shard(path, len(rows), ("mfcc",), rows)
    return path


def replace(make):
    """Puts something else in the place of `mfcc`."""

    def change(path):
        with h5py.File(path, "r+") as file:
            del file["mfcc"]
            make(file)

    return change


def virtual(file):
    layout = h5py.VirtualLayout((2, 13, 212), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "mfcc", (2, 13, 212))
    file.create_virtual_dataset("mfcc", layout)


def declares_a_tebibyte(file):
    space = h5py.h5s.create_simple((2, 13, 2**40 // 104))
    h5py.h5d.create(file.id, b"mfcc", h5py.h5t.IEEE_F32LE, space)


def bomb(file):
    data = file.create_dataset(
        "mfcc", (2, 13, 20_000_000), "f4", chunks=(2, 13, 100_000), compression="gzip"
    )
    data[:, :, :100_000] = 0


def unknown_filter(file):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2, 13, 212))
    plist.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple((2, 13, 212))
    h5py.h5d.create(file.id, b"mfcc", h5py.h5t.IEEE_F32LE, space, plist)


def nested_groups(file):
    group = file.create_group("mfcc")
    for _ in range(10_000):
        group = group.create_group("g")


def many_groups(file):
    for number in range(10_000):
        file.create_group(f"g{number}")


def references(file):
    file.create_dataset("mfcc", (2, 13, 212), h5py.ref_dtype)


def strings(file):
    file.create_dataset("mfcc", (2, 13, 212), h5py.string_dtype())


def attributes(file):
    data = file.create_dataset("mfcc", data=np.zeros((2, 13, 212), "f4"))
    data.attrs["more"] = "than asked"


def of_the_file(file):
    file.create_dataset("mfcc", data=np.zeros((2, 13, 212), "f4"))
    file.attrs["more"] = "than asked"


def typed(kind):
    return lambda file: file.create_dataset("mfcc", data=np.zeros((2, 13, 212), kind))


HOSTILE = {
    "an external file": (
        lambda file: file.create_dataset(
            "mfcc", (2, 13, 212), "f4", external=[("/etc/hostname", 0, 2 * 13 * 212 * 4)]
        ),
        "mfcc is not stored as one contiguous block",
    ),
    "an external link": (
        lambda file: file.__setitem__("mfcc", h5py.ExternalLink("/etc/hostname", "/x")),
        "mfcc is a link out of its place",
    ),
    "a soft link": (
        lambda file: file.__setitem__("mfcc", h5py.SoftLink("/label")),
        "mfcc is a link out of its place",
    ),
    "a virtual dataset": (virtual, "mfcc is not stored as one contiguous block"),
    "a tebibyte declared": (declares_a_tebibyte, "mfcc has shape"),
    "a gzip bomb": (bomb, "mfcc is not stored as one contiguous block"),
    "an unknown filter": (unknown_filter, "mfcc is not stored as one contiguous block"),
    "nested groups": (nested_groups, "mfcc is a Group"),
    "many groups": (many_groups, "10006 things at its root"),
    "references": (references, "mfcc has type object"),
    "strings of any length": (strings, "mfcc has type object"),
    "an attribute": (attributes, "mfcc has attributes"),
    "an attribute of the file": (of_the_file, "has attributes"),
    "another width": (typed("f8"), "mfcc has type float64"),
    "another byte order": (typed(">f4"), "mfcc has type >f4"),
    "a compound": (typed([("a", "f4")]), "mfcc has type"),
    "a named type": (lambda file: file.__setitem__("mfcc", np.dtype("f4")), "mfcc is a Datatype"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_hdf5_would_believe_is_refused(sound, tmp_path, name):
    make, message = HOSTILE[name]
    path = shutil.copy(sound, tmp_path / "actor_07.h5")
    replace(make)(path)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said, seconds, used_mb = json.loads(done.stdout)
    assert said.startswith(f"{path}: ")
    assert message in said
    assert seconds < MOST_S
    assert used_mb < MOST_MB


def test_a_sound_shard_is_read_within_the_same_bounds(sound):
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(sound)], cwd=ROOT, capture_output=True, text=True
    )
    said, seconds, used_mb = json.loads(done.stdout)
    assert said is None
    assert seconds < MOST_S
    assert used_mb < MOST_MB


def test_datasets_that_share_their_bytes_are_refused(sound, tmp_path):
    with h5py.File(sound) as file:
        one, two = (file[name].id.get_offset() for name in ("label", "clip_id"))
    content = sound.read_bytes()
    assert content.count(struct.pack("<Q", one)) == 1
    path = tmp_path / "actor_07.h5"
    path.write_bytes(content.replace(struct.pack("<Q", one), struct.pack("<Q", two)))
    with pytest.raises(CacheError, match="lies within"):
        open_shard(path)


def jpeg_shard(path, change):
    """A shard whose frames are JPEGs; `change` may alter the two datasets that they are."""
    rows = [(clip, noise_arrays(1)) for clip in CLIPS]
    write_shard(path, 2, tuple(rows[0][1]), rows, as_jpeg=True)
    with h5py.File(path, "r+") as file:
        change(file["frames_jpeg"], file["frames_end"])
    return path


def set_at(place, value):
    def change(_, ends):
        ends[place] = value

    return change


def spoil(files, _):
    files[100:] = 0


def black_of(size):
    """The first frame is a whole JPEG, of another size."""

    def change(files, ends):
        import io

        from PIL import Image

        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "JPEG")
        content = np.frombuffer(buffer.getvalue(), np.uint8)
        files[: len(content)] = content
        ends[0, 0] = len(content)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at((0, 0), 2**63), "frames_end does not rise within frames_jpeg"),
        (set_at((1, 29), 2**40), "frames_end does not rise within frames_jpeg"),
        (set_at((0, 3), 0), "frames_end does not rise within frames_jpeg"),
        (set_at((0, 0), 50), "a frame is no whole JPEG"),
        (spoil, "a frame is no whole JPEG"),
        (black_of((64, 64)), r"a frame is RGB \(64, 64\), expected RGB 224x224"),
    ],
)
def test_jpegs_that_do_not_hold_are_refused_when_read(tmp_path, change, message):
    with open_shard(jpeg_shard(tmp_path / "actor_07.h5", change)) as shard:
        for row in (0, 1):
            try:
                shard.read("frames", row)
            except CacheError as exc:
                error = str(exc)
    with pytest.raises(CacheError, match=message):
        raise CacheError(error)


def test_mutated_shards_never_end_the_process(sound, tmp_path):
    """A short trial; `make fuzz` makes a long one."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz_shards", "--seconds", "3", "--seed", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    tried = json.loads(done.stdout.splitlines()[-1])
    assert tried["inputs"] > 100
    assert tried["refused"] > 0
    assert tried["refused"] + tried["read"] == tried["inputs"]
