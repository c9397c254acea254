"""Shards: what is written is read back, and what a stranger's file could do is refused cheaply."""

import io
import json
import shutil
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from noise import noise_arrays
from PIL import Image
from processes import run

from cache.ravdess import expected_clips
from cache.schema import FIELDS, FRAME_COUNT
from cache.shard import CacheError, open_shard, write_shard

CLIPS = expected_clips(7)[:2]
SHAPE = (2, *FIELDS["mfcc"].shape)


def write(path, clips=CLIPS, count=None, change=None, **options):
    rows = [(clip, noise_arrays(seed)) for seed, clip in enumerate(clips)]
    if change:
        change(rows)
    write_shard(path, count or len(rows), tuple(rows[0][1]), rows, **options)
    return path


def test_what_is_written_is_read_back_and_has_the_same_bytes_each_time(tmp_path):
    one, two = write(tmp_path / "actor_07.h5"), write(tmp_path / "two.h5")
    assert one.read_bytes() == two.read_bytes()
    with open_shard(one) as shard:
        for row, clip in enumerate(CLIPS):
            expected = noise_arrays(row)
            assert set(shard.computed) == set(expected)
            for name in shard.computed:
                np.testing.assert_array_equal(shard.read(name, row), expected[name])
            assert shard.clip_ids[row] == clip.clip_id
            assert shard.read("label", row) == clip.label
            for name in ("actor", "intensity", "statement", "repetition"):
                assert shard.column(name)[row] == getattr(clip, name)


def test_types_and_shapes_are_those_of_the_contract(tmp_path):
    with h5py.File(write(tmp_path / "actor_07.h5")) as file:
        assert file["frames"].shape == (2, 30, 224, 224, 3)
        assert file["frames"].dtype == np.uint8
        assert file["frames"].chunks is None
        assert file["mfcc"].shape == (2, 13, 212)
        assert file["clip_id"].dtype == np.dtype("S20")
        assert file["frame_index"].dtype == np.uint16
        assert file["face_box"].shape == (2, 30, 4)


def of_another_type(rows):
    rows[1][1]["mfcc"] = rows[1][1]["mfcc"].astype(np.float64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": CLIPS[::-1]}, "expected sorted"),
        ({"count": 4}, "got 2 clips, expected 4"),
        ({"change": of_another_type}, r"mfcc is float64 \(13, 212\), expected float32"),
    ],
)
def test_rows_that_are_not_a_shard_leave_no_file(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.h5", **options)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "a.h5").write_text("hello")
    for name in ("a.h5", "missing.h5"):
        with pytest.raises(CacheError, match=r"not a readable HDF5 file.*make features RAVDESS="):
            open_shard(tmp_path / name)


# What a stranger's file may cost: seconds, and MB of a process that only reads caches.
MOST_S = 1.0
MOST_MB = 300
OPEN = r"""
import json, re, sys, time
from pathlib import Path
from cache.shard import CacheError, open_shard
results = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    started = time.perf_counter()
    try:
        open_shard(path).read("mfcc", 0)
        said = None
    except CacheError as exc:
        said = str(exc)
    results[path.name] = said, time.perf_counter() - started
used_mb = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps([results, used_mb]))
"""


def mfcc(*args, **options):
    """Creates a dataset `mfcc`."""
    return lambda file: file.create_dataset("mfcc", *args, **options)


def put(entry):
    """Puts something else in the place of `mfcc`."""
    return lambda file: file.__setitem__("mfcc", entry)


def low_level(space, plist=None):
    return lambda file: h5py.h5d.create(
        file.id, b"mfcc", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(space), plist and plist()
    )


def virtual(file):
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "mfcc", SHAPE)
    file.create_virtual_dataset("mfcc", layout)


def unknown_filter():
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(SHAPE)
    plist.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL, (1,))
    return plist


def bomb(file):
    options = {"chunks": (*SHAPE[:2], 100_000), "compression": "gzip"}
    data = file.create_dataset("mfcc", (*SHAPE[:2], 20_000_000), "f4", **options)
    data[:, :, :100_000] = 0


def nested_groups(file):
    group = file.create_group("mfcc")
    for _ in range(10_000):
        group = group.create_group("g")


def many_groups(file):
    for number in range(10_000):
        file.create_group(f"g{number}")


def with_attribute(file, holder="mfcc"):
    file.create_dataset("mfcc", data=np.zeros(SHAPE, "f4"))
    file[holder].attrs["more"] = "than expected"


def label_at(place):
    """Has the dataset `label` begin at another byte of the file."""

    def make(file):
        mfcc(data=np.zeros(SHAPE, "f4"))(file)
        start = struct.pack("<Q", file["label"].id.get_offset())
        other = struct.pack("<Q", place(file))
        file.flush()
        content = Path(file.filename).read_bytes()
        assert content.count(start) == 1
        return content.replace(start, other)

    return make


NOT_PLAIN = "mfcc is not stored as one contiguous block"
HOSTILE = {
    "an external file": (mfcc(SHAPE, "f4", external=[("/etc/hostname", 0, 10**5)]), NOT_PLAIN),
    "an external link": (put(h5py.ExternalLink("/etc/hostname", "/x")), "mfcc is a link"),
    "a soft link": (put(h5py.SoftLink("/label")), "mfcc is a link"),
    "a virtual dataset": (virtual, NOT_PLAIN),
    "a tebibyte declared": (low_level((*SHAPE[:2], 2**40 // 104)), "mfcc has shape"),
    "a gzip bomb": (bomb, NOT_PLAIN),
    "an unknown filter": (low_level(SHAPE, unknown_filter), NOT_PLAIN),
    "nested groups": (nested_groups, "mfcc is a Group, expected a dataset"),
    "many groups": (many_groups, "10006 objects at its root"),
    "references": (mfcc(SHAPE, h5py.ref_dtype), "mfcc has type object"),
    "strings of any length": (mfcc(SHAPE, h5py.string_dtype()), "mfcc has type object"),
    "an attribute": (with_attribute, "mfcc has attributes"),
    "an attribute of the file": (lambda file: with_attribute(file, "/"), "has attributes"),
    "another width": (mfcc(data=np.zeros(SHAPE, "f8")), "mfcc has type float64"),
    "another byte order": (mfcc(data=np.zeros(SHAPE, ">f4")), "mfcc has type >f4"),
    "a compound": (mfcc(data=np.zeros(SHAPE, [("a", "f4")])), "mfcc has type"),
    "a named type": (put(np.dtype("f4")), "mfcc is a Datatype"),
    "another shape": (mfcc((2, 13, 9), "f4"), "has shape (2, 13, 9), expected (N, 13, 212)"),
    "a scalar": (mfcc(data=np.float32(1)), "mfcc has shape ()"),
    "more rows": (mfcc(data=np.zeros((3, *SHAPE[1:]), "f4")), "has 3 rows, clip_id has 2"),
    "a missing dataset": (lambda file: None, "datasets mfcc are missing or unknown"),
    "no bytes": (mfcc(SHAPE, "f4"), "mfcc was never written"),
    "shared bytes": (label_at(lambda file: file["clip_id"].id.get_offset()), "overlaps"),
    "bytes behind the end": (label_at(lambda file: 2**30), ""),  # HDF5 may notice it, or we
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """What opening a valid shard of two clips, audio only, and each hostile one said and cost."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = [(clip, {"mfcc": noise_arrays(0)["mfcc"]}) for clip in CLIPS]
    write_shard(folder / "valid", len(rows), ("mfcc",), rows)
    for name, (make, _) in HOSTILE.items():
        path = shutil.copy(folder / "valid", folder / name)
        with h5py.File(path, "r+") as file:
            del file["mfcc"]
            content = make(file)
        if isinstance(content, bytes):
            path.write_bytes(content)
    return folder, *json.loads(run("python", "-c", OPEN, folder).stdout)


@pytest.mark.parametrize("name", [*HOSTILE, "valid"])
def test_what_hdf5_would_believe_is_refused_soon_and_in_little_memory(opened, name):
    folder, results, used_mb = opened
    said, seconds = results[name]
    if name == "valid":
        assert said is None
    else:
        assert said.startswith(f"{folder / name}: ")
        assert HOSTILE[name][1] in said
    assert seconds < MOST_S
    assert used_mb < MOST_MB


def set_at(place, value):
    def change(_, ends):
        ends[place] = value

    return change


def spoil(files, _):
    files[100:] = 0


def black_of(size):
    """The first frame is a whole JPEG, of another size."""

    def change(files, ends):
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "JPEG")
        content = np.frombuffer(buffer.getvalue(), np.uint8)
        files[: len(content)] = content
        ends[0, 0] = len(content)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at((0, 0), 2**63), "frames_end is unsorted or past the end"),
        (set_at((1, FRAME_COUNT - 1), 2**40), "frames_end is unsorted or past the end"),
        (set_at((0, 3), 0), "frames_end is unsorted or past the end"),
        (set_at((0, 0), 50), "a frame is not a complete JPEG"),
        (spoil, "a frame is not a complete JPEG"),
        (black_of((64, 64)), r"a frame is RGB \(64, 64\), expected RGB \(224, 224\)"),
    ],
)
def test_damaged_jpegs_are_refused_when_they_are_read(tmp_path, change, message):
    path = write(tmp_path / "actor_07.h5", as_jpeg=True)
    with h5py.File(path, "r+") as file:
        change(file["frames_jpeg"], file["frames_end"])
    with open_shard(path) as shard, pytest.raises(CacheError, match=message):
        [shard.read("frames", row) for row in (0, 1)]


def test_mutated_shards_never_end_the_process():
    """A short trial; `make fuzz` makes a long one."""
    done = run("python", "-m", "benchmarks.fuzz_shards", "--seconds", 0, "--seed", 1)
    tried = json.loads(done.stdout.splitlines()[-1])
    assert tried["inputs"] == 40
    assert tried["refused"] > 0
    assert tried["refused"] + tried["read"] == tried["inputs"]
