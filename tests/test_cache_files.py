import errno
import json
import os

import pytest

from cache.files import atomic_path, sha256_file, sync, write_json, write_text


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    final = tmp_path / "data.bin"
    with atomic_path(final) as temporary:
        temporary.write_bytes(b"abc")
        assert not final.exists()
    assert sha256_file(final).startswith("ba7816bf8f01cfea414140de5dae2223")

    def fail():
        with atomic_path(final) as temporary:
            temporary.write_bytes(b"new")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert final.read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [final]


def test_json_has_the_same_bytes_whatever_the_order_of_its_keys(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1, "ä": [2]})
    write_json(tmp_path / "b.json", {"ä": [2], "x": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"x": 1, "ä": [2]}


def test_a_file_system_that_cannot_sync_folders_is_written_but_one_that_fails_is_not(
    tmp_path, monkeypatch
):
    failures = {}

    def fsync(descriptor):
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"
        if kind in failures:
            raise OSError(failures[kind], os.strerror(failures[kind]))

    monkeypatch.setattr(os, "fsync", fsync)
    failures["folder"] = errno.EINVAL
    write_text(tmp_path / "a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"
    failures["folder"] = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        sync(tmp_path)
    failures["file"] = errno.EINVAL
    with pytest.raises(OSError, match="Invalid argument"):
        write_text(tmp_path / "b.txt", "b")
    assert not (tmp_path / "b.txt").exists()
