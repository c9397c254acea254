import hashlib
import random
import stat
import struct
import zipfile
from dataclasses import replace

import pytest

from cache.transfer import DownloadError
from preprocess.download import main, run, unpack
from preprocess.zenodo import AUDIO, LANDMARKS, VIDEO, ZenodoFile

SIZE = 300_000


@pytest.fixture
def table(server):
    """Two files that the server has, as the table of files lists them."""
    files = []
    for name in ("a.zip", "b.zip"):
        server.contents[name] = random.Random(name).randbytes(SIZE)
        md5 = hashlib.md5(server.contents[name]).hexdigest()
        files.append(ZenodoFile(name, 5, SIZE, md5, members=10, growth=3))
    return files


@pytest.fixture
def go(server, table, tmp_path):
    """Runs the command on the table, or on other files, and gives its exit status."""

    def go(files=None, **options):
        options = {"unpacked": False, "jobs": 2} | options
        return run(files or table, tmp_path, address=server.address, pause_s=0.001, **options)

    return go


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def one_error(capsys):
    """The only line of stderr about a failure; the others are the bar's."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "failed: " in line]
    assert len(lines) == 1
    return lines[0][lines[0].index("failed: ") :]


def test_files_arrive_whole_under_their_names(go, server, tmp_path, capsys):
    assert go() == 0
    assert names(tmp_path) == ["a.zip", "b.zip"]
    assert all((tmp_path / name).read_bytes() == server.contents[name] for name in names(tmp_path))
    assert "2 files downloaded, 0 there already" in capsys.readouterr().out


def test_a_second_run_asks_for_nothing(go, server, capsys):
    go()
    server.requests.clear()
    assert go() == 0
    assert server.requests == []
    assert "2 files there already, nothing to download" in capsys.readouterr().out


def test_a_redirect_is_followed_with_its_range(go, server, table, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(server.contents["a.zip"][:1000])
    assert go([replace(table[0], record=7)]) == 0
    assert server.ranges("a.zip") == ["bytes=1000-"]
    assert (tmp_path / "a.zip").read_bytes() == server.contents["a.zip"]


def test_a_broken_download_goes_on_from_where_it_stopped(go, server, tmp_path):
    server.faults["a.zip"] = ["break"]
    assert go() == 0
    first, second = server.ranges("a.zip")
    assert first is None
    assert 100_000 < int(second.removeprefix("bytes=").removesuffix("-")) <= 200_000
    assert (tmp_path / "a.zip").read_bytes() == server.contents["a.zip"]
    assert server.ranges("b.zip") == [None]


def test_the_next_run_goes_on_where_the_last_gave_up(go, server, tmp_path, capsys):
    server.faults["a.zip"] = ["break"] + ["silence"] * 4
    assert go() == 1
    kept = (tmp_path / "a.zip.part").stat().st_size
    assert names(tmp_path) == ["a.zip.part", "b.zip"]
    error = one_error(capsys)
    assert error.startswith(f"failed: a.zip: {kept} of {SIZE} bytes arrived, and 4 attempts")
    assert error.endswith("Run again to go on from there")
    server.requests.clear()
    assert go() == 0
    assert server.ranges("a.zip") == [f"bytes={kept}-"]
    assert (tmp_path / "a.zip").read_bytes() == server.contents["a.zip"]
    assert names(tmp_path) == ["a.zip", "b.zip"]


def test_a_part_that_was_whole_is_not_fetched_again(go, server, table, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(server.contents["a.zip"])
    assert go(table[:1]) == 0
    assert server.requests == []
    assert names(tmp_path) == ["a.zip"]


def test_a_server_without_range_starts_over(go, server, table, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(server.contents["a.zip"][:1000])
    server.faults["a.zip"] = ["no range"]
    assert go(table[:1]) == 0
    assert server.ranges("a.zip") == ["bytes=1000-"]
    assert (tmp_path / "a.zip").read_bytes() == server.contents["a.zip"]


def test_a_busy_server_is_asked_again(go, server, table):
    server.faults["a.zip"] = [503, 429, 500]
    assert go(table[:1]) == 0
    assert len(server.requests) == 4


def test_a_wrong_checksum_is_refused_and_stops_no_other_file(go, server, table, tmp_path, capsys):
    server.contents["a.zip"] = bytes(SIZE)
    assert go() == 1
    assert names(tmp_path) == ["b.zip"]
    error = one_error(capsys)
    assert f"expected md5:{table[0].md5} but got {hashlib.md5(bytes(SIZE)).hexdigest()}" in error
    assert error.endswith("Run again to fetch it anew.")


def test_a_wrong_part_is_deleted_so_that_the_next_run_starts_clean(go, table, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    assert go(table[:1]) == 1
    assert names(tmp_path) == []
    assert go(table[:1]) == 0


def test_a_damaged_file_is_replaced_and_the_user_told(go, server, table, tmp_path, capsys):
    (tmp_path / "a.zip").write_bytes(b"x")
    assert go() == 0
    assert (tmp_path / "a.zip").read_bytes() == server.contents["a.zip"]
    assert "a.zip was there with another MD5: replaced" in capsys.readouterr().out


def test_a_damaged_file_stays_until_the_right_one_is_there(go, server, table, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"x")
    server.faults["a.zip"] = [404]
    assert go() == 1
    assert (tmp_path / "a.zip").read_bytes() == b"x"


@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1])
def test_another_size_than_listed_is_refused_unread(go, server, tmp_path, capsys, size):
    server.contents["a.zip"] = bytes(size)
    assert go() == 1
    assert names(tmp_path) == ["b.zip"]
    assert f"the server offers {size} bytes, expected {SIZE}" in one_error(capsys)


def test_a_server_that_sends_more_than_listed_is_cut_off(go, server, tmp_path, capsys):
    server.faults["a.zip"] = ["longer"]
    assert go() == 1
    assert names(tmp_path) == ["b.zip"]
    assert f"the server sends more than {SIZE} bytes" in one_error(capsys)


def test_a_part_longer_than_the_file_starts_over(go, server, table, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(bytes(SIZE + 1))
    assert go(table[:1]) == 0
    assert server.ranges("a.zip") == [None]


def test_a_missing_file_fails_at_once_and_stops_no_other(go, server, tmp_path, capsys):
    del server.contents["a.zip"]
    assert go() == 1
    assert len(server.ranges("a.zip")) == 1
    assert names(tmp_path) == ["b.zip"]
    assert "the server answers 404 Not Found, expected the file" in one_error(capsys)


def test_no_server_at_all_is_one_clear_line_a_file(server, table, tmp_path, capsys):
    server.server_close()
    assert run(table[:1], tmp_path, unpacked=False, jobs=1, address=server.address, pause_s=0.001)
    assert f"0 of {SIZE} bytes arrived, and 4 attempts brought no more" in one_error(capsys)


def test_nothing_of_the_user_is_sent(go, server, tmp_path, monkeypatch):
    secret = tmp_path / "netrc"
    secret.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(secret))
    go()
    (_, headers), *_ = server.requests
    assert set(headers) <= {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
    assert headers["User-Agent"].startswith("CFN-SR")


def test_a_file_in_place_of_the_folder_is_wrong_use(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    assert main(["--out", str(tmp_path / "file")]) == 2
    assert "file is a file, expected a folder" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--only", "25"], ["--jobs", "0"], ["--only"]])
def test_wrong_arguments_are_wrong_use(tmp_path, wrong):
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path), *wrong])


def test_the_table_lists_24_actors_and_their_12_44_gib():
    assert list(VIDEO) == list(range(1, 25))
    assert sum(file.bytes for file in VIDEO.values()) / 2**30 == pytest.approx(12.44, abs=0.005)
    files = [*VIDEO.values(), AUDIO, LANDMARKS]
    assert len({file.md5 for file in files}) == len({file.name for file in files}) == 26
    assert all(len(file.md5) == 32 for file in files)


def write_zip(path, members):
    """A zip of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


GOOD = [
    ("Actor_01/", b""),
    ("Actor_01/01-01-01-01-01-01-01.mp4", b"full"),
    ("Actor_01/03-01-01-01-01-01-01.wav", b"sound"),
    ("01-01-01-01-01-01-01.csv", b"frame"),
]


def member(name, mode=0):
    info = zipfile.ZipInfo("x")
    info.filename = name  # as it is: the constructor cuts and mends
    info.external_attr = mode << 16
    return info


def test_recordings_are_unpacked_and_the_rest_stays_in_the_zip(tmp_path):
    rest = [("__MACOSX/Actor_01/._01-01-01-01-01-01-01.mp4", b"x"), ("Actor_01/.DS_Store", b"x")]
    path = write_zip(tmp_path / "a.zip", GOOD + rest)
    folder = tmp_path / "folder"
    assert unpack(path, folder, members=10, most_bytes=100) == (3, 0)
    assert names(folder) == sorted(name.removesuffix("/") for name, _ in GOOD)
    assert (folder / "Actor_01/01-01-01-01-01-01-01.mp4").read_bytes() == b"full"


def test_a_second_unpacking_writes_nothing(tmp_path):
    path = write_zip(tmp_path / "a.zip", GOOD)
    unpack(path, tmp_path, members=10, most_bytes=100)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in names(tmp_path)}
    assert unpack(path, tmp_path, members=10, most_bytes=100) == (0, 3)
    assert before == {name: (tmp_path / name).stat().st_mtime_ns for name in names(tmp_path)}


@pytest.mark.parametrize(
    "name",
    [
        "../evil.mp4",
        "Actor_01/../../evil.mp4",
        "/evil.mp4",
        "C:/evil.mp4",
        "..\\evil.mp4",
        "./evil.mp4",
        "Actor_01//evil.mp4",
        "evil\x00.mp4",
    ],
)
def test_a_zip_with_a_name_that_leads_elsewhere_is_refused_whole(tmp_path, name):
    path = write_zip(tmp_path / "a.zip", [*GOOD, (member(name), b"evil")])
    with pytest.raises(DownloadError, match="expected names below its own folder"):
        unpack(path, tmp_path / "deep/folder", members=10, most_bytes=100)
    assert names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK, stat.S_IFDIR])
def test_a_zip_with_a_link_or_special_file_is_refused_whole(tmp_path, kind):
    path = write_zip(tmp_path / "a.zip", [*GOOD, (member("evil.mp4", kind | 0o777), b"/etc")])
    with pytest.raises(DownloadError, match=r"'evil\.mp4', a link or special file"):
        unpack(path, tmp_path / "folder", members=10, most_bytes=100)
    assert names(tmp_path) == ["a.zip"]


def test_a_zip_that_would_unpack_to_too_much_is_refused_whole(tmp_path):
    path = write_zip(tmp_path / "a.zip", [*GOOD, ("bomb.mp4", bytes(1_000_000))])
    assert path.stat().st_size < 3000
    with pytest.raises(DownloadError, match="would unpack to 1000014 bytes, expected 3000 at most"):
        unpack(path, tmp_path / "folder", members=10, most_bytes=3000)
    assert names(tmp_path) == ["a.zip"]


def test_a_member_that_is_larger_than_it_says_is_not_written(tmp_path):
    path = write_zip(tmp_path / "a.zip", [("bomb.mp4", bytes(1_000_000))])
    content = bytearray(path.read_bytes())
    struct.pack_into("<L", content, content.index(b"PK\1\2") + 24, 10)
    path.write_bytes(content)
    with pytest.raises(DownloadError, match="is a damaged zip"):
        unpack(path, tmp_path / "folder", members=10, most_bytes=3000)
    assert names(tmp_path / "folder") == []


@pytest.mark.parametrize(("field", "value"), [(8, 1), (10, 99)])  # flags; method
def test_an_encrypted_or_oddly_packed_zip_is_refused_whole(tmp_path, field, value):
    path = write_zip(tmp_path / "a.zip", GOOD)
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, content.rindex(b"PK\1\2") + field, value)
    path.write_bytes(content)
    with pytest.raises(DownloadError, match="encrypted or packed otherwise than with deflate"):
        unpack(path, tmp_path / "folder", members=10, most_bytes=100)
    assert names(tmp_path) == ["a.zip"]


def test_a_zip_of_too_many_members_is_refused_whole(tmp_path):
    path = write_zip(tmp_path / "a.zip", [(f"{number}.csv", b"") for number in range(21)])
    with pytest.raises(DownloadError, match="holds 21 members, expected about 10"):
        unpack(path, tmp_path / "folder", members=10, most_bytes=100)
    assert names(tmp_path) == ["a.zip"]


def test_a_zip_that_names_a_recording_twice_is_refused_whole(tmp_path):
    path = write_zip(tmp_path / "a.zip", [("a.csv", b"1"), ("A.csv", b"2")])
    with pytest.raises(DownloadError, match=r"holds 'A\.csv' twice"):
        unpack(path, tmp_path / "folder", members=10, most_bytes=100)
    assert names(tmp_path) == ["a.zip"]


def test_a_recording_there_with_another_size_is_not_overwritten(tmp_path):
    path = write_zip(tmp_path / "a.zip", GOOD)
    (tmp_path / "01-01-01-01-01-01-01.csv").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="lies there with 4 bytes, expected 5"):
        unpack(path, tmp_path, members=10, most_bytes=100)
    assert names(tmp_path) == ["01-01-01-01-01-01-01.csv", "a.zip"]


def test_a_member_with_a_wrong_crc_is_not_written(tmp_path):
    path = write_zip(tmp_path / "a.zip", GOOD)
    content = bytearray(path.read_bytes())
    struct.pack_into("<L", content, content.rindex(b"PK\1\2") + 16, 0)
    path.write_bytes(content)
    with pytest.raises(DownloadError, match=r"is a damaged zip \(Bad CRC-32 .* Delete it"):
        unpack(path, tmp_path, members=10, most_bytes=100)
    assert not (tmp_path / "01-01-01-01-01-01-01.csv").exists()


def test_downloads_are_unpacked_beside_the_zips_on_request(go, server, tmp_path, capsys):
    files = []
    for name, members in {"a.zip": GOOD, "b.zip": [("../evil.mp4", b"")]}.items():
        server.contents[name] = write_zip(tmp_path / name, members).read_bytes()
        (tmp_path / name).unlink()
        md5 = hashlib.md5(server.contents[name]).hexdigest()
        files.append(ZenodoFile(name, 5, len(server.contents[name]), md5, 10, 3, folder=name[0]))
    assert go(files, unpacked=True) == 1
    assert names(tmp_path / "a") == sorted(name.removesuffix("/") for name, _ in GOOD)
    assert not (tmp_path / "b").exists()
    printed = capsys.readouterr()
    assert "3 recordings unpacked" in printed.out
    assert "failed: b.zip: holds '../evil.mp4'" in printed.err
    assert go(files[:1], unpacked=True) == 0
    assert "3 recordings there already, nothing to unpack" in capsys.readouterr().out


def test_recordings_can_be_had_without_the_videos(tmp_path, monkeypatch, capsys):
    asked = []

    def note(files, *_, **__):
        asked.extend(file.name for file in files)
        return 0

    monkeypatch.setattr("preprocess.download.run", note)
    assert main(["--out", str(tmp_path), "--audio", "--no-video"]) == 0
    assert asked == [AUDIO.name]
    assert main(["--out", str(tmp_path), "--no-video"]) == 2
    assert "leaves nothing" in capsys.readouterr().err


def test_a_zip_of_a_version_to_come_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Actor_01/03-01-01-01-01-01-01.wav", b"content")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 99
    path.write_bytes(content)
    with pytest.raises(DownloadError, match=r"is a damaged zip \(zip file version 9\.9\)"):
        unpack(path, tmp_path / "out", members=1, most_bytes=100)
