import errno
import fcntl
import json
import multiprocessing
import os
import platform
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cache.files import BusyError, atomic_path, locked, sha256_file, sync, write_json, write_text


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


# Locks. ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["", f"{platform.node()} 1"])  # empty: killed before it wrote
def test_what_a_killed_process_of_this_machine_left_is_taken_over_in_silence(
    tmp_path, monkeypatch, left
):
    monkeypatch.setattr("cache.files._WRITTEN_S", 0.1)
    (tmp_path / ".lock").write_text(left)
    (tmp_path / ".data.json.01234567.tmp").write_text("half")
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        assert (tmp_path / ".lock").read_text() == f"{platform.node()} {os.getpid()}"
    assert not list(tmp_path.iterdir())


def test_the_lock_of_another_machine_is_kept_and_says_whose_it_is(tmp_path):
    lock = tmp_path / ".lock"
    lock.write_text("node-7 4711")
    os.utime(lock, (time.time() - 305,) * 2)
    found = r"process 4711 on node-7, last active 30\d s ago\. .*, remove .*/\.lock"
    with pytest.raises(BusyError, match=found), locked(tmp_path):
        pass
    assert lock.read_text() == "node-7 4711"


def test_a_lock_gives_signs_of_life_and_goes_only_if_it_is_still_the_own_one(tmp_path, monkeypatch):
    monkeypatch.setattr("cache.files._SIGN_OF_LIFE_S", 0.01)
    lock = tmp_path / ".lock"
    with locked(tmp_path):
        os.utime(lock, (0, 0))
        ends = time.monotonic() + 30
        while not lock.stat().st_mtime:
            assert time.monotonic() < ends, "no sign of life"
        lock.write_text("node-7 4711")
    assert lock.exists()


def test_a_read_only_folder_is_locked_without_a_file(tmp_path, monkeypatch):
    def refuse(*arguments, **options):  # tests may run as root, who may write anywhere
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "open", refuse)
    with locked(tmp_path):
        assert not list(tmp_path.iterdir())
        with pytest.raises(BusyError, match="another run is at work there"), locked(tmp_path):
            pass


def hold_often(folder, name):
    """Lock a folder many times, as a machine of its own; an error if two have it."""
    platform.node = lambda: name
    fcntl.flock = lambda *_: None  # other machines do not see it
    held, ends = folder / "held", time.monotonic() + 2
    while time.monotonic() < ends:
        with suppress(BusyError), locked(folder):
            held.open("x").close()
            time.sleep(0.01)
            held.unlink()
        time.sleep(0.001)


def test_of_several_machines_one_at_a_time_has_the_lock(tmp_path):
    fresh = multiprocessing.get_context("spawn")
    machines = [fresh.Process(target=hold_often, args=(tmp_path, name)) for name in "abcd"]
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join()
    assert [machine.exitcode for machine in machines] == [0] * 4
    assert not list(tmp_path.iterdir())
