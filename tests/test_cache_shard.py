import h5py
import numpy as np
import pytest
from conftest import noise_arrays

from cache.ravdess import expected_clips
from cache.schema import FIELDS
from cache.shard import CacheError, open_shard, write_shard

CLIPS = expected_clips(7)[:3]


def write(path, clips=CLIPS, count=None, change=None):
    rows = [(clip, noise_arrays(seed)) for seed, clip in enumerate(clips)]
    if change:
        change(rows)
    write_shard(path, count or len(rows), tuple(rows[0][1]), rows)
    return path


def test_what_is_written_is_read_back(tmp_path):
    with open_shard(write(tmp_path / "actor_07.h5")) as shard:
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
        assert file["frames"].shape == (3, 30, 224, 224, 3)
        assert file["frames"].dtype == np.uint8
        assert file["frames"].chunks is None
        assert file["mfcc"].shape == (3, 13, 212)
        assert file["clip_id"].dtype == np.dtype("S20")
        assert file["frame_index"].dtype == np.uint16
        assert file["face_box"].shape == (3, 30, 4)


def test_the_same_clips_give_the_same_bytes(tmp_path):
    one, two = write(tmp_path / "one.h5"), write(tmp_path / "two.h5")
    assert one.read_bytes() == two.read_bytes()


def test_clips_out_of_order_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected sorted"):
        write(tmp_path / "a.h5", CLIPS[::-1])
    assert not list(tmp_path.iterdir())


def test_a_wrong_number_of_clips_is_refused(tmp_path):
    with pytest.raises(ValueError, match="3 clips came, expected 4"):
        write(tmp_path / "a.h5", count=4)


def test_an_array_of_another_type_is_refused(tmp_path):
    def change(rows):
        rows[1][1]["mfcc"] = rows[1][1]["mfcc"].astype(np.float64)

    with pytest.raises(ValueError, match=r"mfcc is float64 \(13, 212\), expected float32"):
        write(tmp_path / "a.h5", change=change)


def test_a_file_that_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "a.h5").write_text("hello")
    with pytest.raises(CacheError, match="not a readable HDF5 file"):
        open_shard(tmp_path / "a.h5")
    with pytest.raises(CacheError, match="not a readable HDF5 file"):
        open_shard(tmp_path / "missing.h5")


def replace(path, name, make):
    with h5py.File(path, "r+") as file:
        del file[name]
        make(file)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: None, "datasets mfcc are missing or unknown"),
        (
            lambda file: file.create_dataset("mfcc", data=np.zeros((3, 13, 212))),
            "mfcc has type float64, expected float32",
        ),
        (
            lambda file: file.create_dataset("mfcc", data=np.zeros((3, 13, 9), "f4")),
            r"mfcc has shape \(3, 13, 9\), expected \(3, 13, 212\)",
        ),
        (
            lambda file: file.create_dataset("mfcc", (3, 13, 212), "f4", compression="gzip"),
            "mfcc is not stored as one contiguous block",
        ),
        (
            lambda file: file.create_dataset(
                "mfcc", (3, 13, 212), "f4", external=[("other.bin", 0, 3 * 13 * 212 * 4)]
            ),
            "mfcc is not stored as one contiguous block",
        ),
        (lambda file: file.create_group("mfcc"), "mfcc is a Group, expected a dataset"),
        (
            lambda file: file.__setitem__("mfcc", h5py.SoftLink("/frames")),
            "mfcc is a link out of its place",
        ),
        (
            lambda file: file.__setitem__("mfcc", h5py.ExternalLink("x.h5", "/mfcc")),
            "mfcc is a link out of its place",
        ),
        (lambda file: file.create_dataset("mfcc", (3, 13, 212), "f4"), "mfcc was never written"),
    ],
)
def test_a_shard_with_anything_but_plain_data_is_refused(tmp_path, make, message):
    path = replace(write(tmp_path / "a.h5"), "mfcc", make)
    with pytest.raises(CacheError, match=message):
        open_shard(path)


def test_a_truncated_shard_is_refused(tmp_path):
    path = write(tmp_path / "a.h5")
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(CacheError, match=r"not a readable HDF5 file|bytes on disk"):
        open_shard(path)


def test_every_field_says_what_it_means():
    assert all(field.meaning for field in FIELDS.values())
