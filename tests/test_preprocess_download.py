import hashlib
import os
import re

import pytest
from media import put
from processes import run, status_of

from cache.transfer import RemoteFile
from preprocess.download import AUDIO, main, video_name, zenodo_files


@pytest.fixture
def at_server(server, monkeypatch):
    """Puts a file of the test's server in the place of Zenodo's audio recordings."""
    server.contents[AUDIO] = b"recordings"
    md5 = hashlib.md5(b"recordings").hexdigest()
    file = RemoteFile(AUDIO, f"{server.address}/{AUDIO}", 10, f"md5:{md5}")
    changed = zenodo_files() | {AUDIO: file}
    monkeypatch.setattr("preprocess.download.zenodo_files", lambda: changed)
    return server


def test_what_happened_is_printed_and_in_the_exit_status(at_server, tmp_path, capsys):
    command = ["--out", str(tmp_path / "raw"), "--audio", "--no-video"]
    assert main(command) == 0
    assert (tmp_path / "raw" / AUDIO).read_bytes() == b"recordings"
    assert "1 files downloaded, 0 already there" in capsys.readouterr().out
    assert main(command) == 0
    assert "1 files already there, nothing to download" in capsys.readouterr().out
    (tmp_path / "raw" / AUDIO).write_bytes(b"damaged")
    assert main(command) == 0
    assert f"{AUDIO} had the wrong MD5 and was replaced" in capsys.readouterr().out
    (tmp_path / "raw" / AUDIO).unlink()
    at_server.faults[AUDIO] = [404]
    assert main(command) == 1
    assert f"failed: {AUDIO}: the server returned 404" in capsys.readouterr().err


def test_what_lies_there_as_loose_files_is_not_downloaded(at_server, tmp_path, capsys):
    command = ["--out", str(tmp_path), "--audio", "--landmarks", "--no-video", "--missing"]
    put(tmp_path, "recordings/Actor_07/03-01-06-01-02-01-07.wav", b"sound")
    put(tmp_path, "landmarks/01-01-06-01-02-01-07.csv", b"points")
    assert main(command) == 0
    assert not at_server.requests
    assert f"has 1 files 03-01-*.[wf]*: {AUDIO} is not needed" in capsys.readouterr().out
    (tmp_path / "recordings/Actor_07/03-01-06-01-02-01-07.wav").unlink()
    assert main(command) == 0
    assert (tmp_path / AUDIO).read_bytes() == b"recordings"


def test_make_speaks_of_variables_and_takes_a_job_per_cpu(tmp_path):
    ready = ("make", "-o", ".venv/.ready", "-s")
    (tmp_path / "03-01-01-01-01-01-01.wav").touch()
    done = run(*ready, "features", f"RAVDESS={tmp_path}", f"CACHE={tmp_path}/cache", status=2)
    assert "use --modality audio" in done.stderr
    note = "note: with make, set --cache by CACHE=DIR, --raw by RAVDESS=DIR"
    assert note in done.stderr
    cpus = len(os.sched_getaffinity(0))
    planned = run("make", "-n", "features", OMP_NUM_THREADS=1, OMP_THREAD_LIMIT=1).stdout
    assert planned.startswith(note)
    assert f"--cache 'data/sample-cache' --jobs {cpus} " in planned


def test_make_real_needs_a_folder_and_downloads_no_video(tmp_path):
    assert "make real DIR=/path/to" in run("make", "-n", "real", status=2).stderr
    planned = run("make", "-n", "real", f"DIR={tmp_path}", "FOLDS=0 1").stdout
    assert "--audio --landmarks --no-video --missing" in planned
    assert "--modality landmarks --audio wav --cache 'data/landmark-cache'" in planned
    assert "row/cfn_sr/0 row/cfn_sr/1" in planned
    rows = run("make", "-n", "row/cfn_sr/1", "PRESET=landmarks").stdout
    used = re.findall(r"--preset landmarks .* --recipe (\w+)", rows)
    assert used == ["landmarks", "modern", "fusion"]  # of faces, voices and both


@pytest.mark.parametrize("wrong", ["--only 25", "--jobs 0", "--only", "--no-video", ""])
def test_wrong_arguments_and_a_file_in_place_of_the_folder_are_wrong_use(tmp_path, wrong, capsys):
    (tmp_path / "file").write_bytes(b"")
    assert status_of(main, "--out", tmp_path / "file", *wrong.split()) == 2
    if not wrong:
        assert "file is a file, expected a folder" in capsys.readouterr().err


def test_the_table_lists_24_actors_and_their_12_44_gib():
    files = zenodo_files()
    videos = [files[video_name(actor)] for actor in range(1, 25)]
    assert sum(file.bytes for file in videos) / 2**30 == pytest.approx(12.44, abs=0.005)
    assert len({file.digest for file in files.values()}) == len(files) == 26
    assert all(re.fullmatch("md5:[0-9a-f]{32}", file.digest) for file in files.values())
