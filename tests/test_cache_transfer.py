"""Downloads from a server with faults."""

import hashlib
import random
import time
from dataclasses import replace

import pytest
from server import REDIRECT_MIB

from cache.command import FailedError
from cache.transfer import RemoteFile, download_all, read_small

SIZE = 300_000
WRONG = hashlib.md5(bytes(SIZE)).hexdigest()


@pytest.fixture
def files(server):
    """Two files that the server has."""
    for name in ("a.zip", "b.zip"):
        server.contents[name] = random.Random(name).randbytes(SIZE)
    digests = {name: hashlib.md5(server.contents[name]).hexdigest() for name in server.contents}
    return [
        RemoteFile(name, f"{server.address}/{name}", SIZE, f"md5:{digest}")
        for name, digest in digests.items()
    ]


@pytest.fixture
def go(files, tmp_path):
    """Downloads both files, or others, into tmp_path."""

    def go(others=None, **options):
        return download_all(others or files, tmp_path, jobs=2, pause_s=0.001, **options)

    return go


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_arrive_whole_and_a_second_run_requests_nothing(go, server, tmp_path):
    assert go() == ({"a.zip": "downloaded", "b.zip": "downloaded"}, {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == server.contents
    server.requests.clear()
    assert go() == ({"a.zip": "kept", "b.zip": "kept"}, {})
    assert server.requests == []


def test_a_broken_download_resumes_where_it_stopped_also_in_the_next_run(go, server, tmp_path):
    server.faults["a.zip"] = ["break"] + ["silence"] * 4
    done, failures = go()
    kept = (tmp_path / "a.zip.part").stat().st_size
    assert done == {"b.zip": "downloaded"}
    assert failures["a.zip"].startswith(f"{kept} of {SIZE} bytes arrived, then 4 attempts failed")
    assert names(tmp_path) == ["a.zip.part", "b.zip"]
    assert 100_000 < kept <= 200_000
    assert server.ranges("a.zip") == [None, *[f"bytes={kept}-"] * 4]
    server.requests.clear()
    assert go()[1] == {}
    assert server.ranges("a.zip") == [f"bytes={kept}-"]
    assert (tmp_path / "a.zip").read_bytes() == server.contents["a.zip"]
    assert names(tmp_path) == ["a.zip", "b.zip"]


@pytest.mark.parametrize(
    ("part", "faults", "ranges"),
    [
        (SIZE, [], []),  # complete already
        (SIZE + 1, [], [None]),  # too long
        (1000, ["no range"], ["bytes=1000-"]),
        (1000, [416], ["bytes=1000-", None]),
        (1000, ["other range"], ["bytes=1000-", None]),
        (1000, [503, 500], ["bytes=1000-"] * 3),
    ],
)
def test_a_part_is_resumed_or_begun_again(go, server, files, tmp_path, part, faults, ranges):
    content = server.contents["a.zip"] + b"x"
    (tmp_path / "a.zip.part").write_bytes(content[:part])
    server.faults["a.zip"] = faults
    assert go(files[:1])[1] == {}
    assert server.ranges("a.zip") == ranges
    assert names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"contents": bytes(SIZE)}, f"its checksum is md5:{WRONG}, expected md5:"),
        ({"contents": bytes(SIZE - 1)}, f"the server offers {SIZE - 1} bytes, expected {SIZE}"),
        ({"contents": bytes(SIZE + 1)}, f"the server offers {SIZE + 1} bytes, expected {SIZE}"),
        ({"contents": None}, "the server returned 404 Not Found, expected the file"),
        ({"faults": ["longer"]}, f"more than the expected {SIZE} bytes came"),
        ({"redirects": "/a.zip"}, "the server redirects 10 times"),
        ({"redirects": "file:///etc/passwd"}, "redirects to 'file:///etc/passwd', expected http"),
        ({"redirects": "http://["}, "Invalid IPv6 URL"),
        ({"redirects": "http://a\x1bc/"}, "then 4 attempts failed (Failed to parse"),
    ],
)
def test_what_is_not_the_listed_file_stops_no_other(go, server, tmp_path, change, reason):
    for where, value in change.items():
        getattr(server, where)["a.zip"] = value
    done, failures = go()
    assert reason in failures["a.zip"]
    assert failures["a.zip"].isprintable()
    assert len(server.ranges("a.zip")) <= 1  # another attempt would not help
    assert done == {"b.zip": "downloaded"}
    assert names(tmp_path) == ["b.zip"]


def test_a_wrong_part_is_deleted_so_that_the_next_run_starts_clean(go, files, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    assert "its checksum is" in go(files[:1])[1]["a.zip"]
    assert names(tmp_path) == []
    assert go(files[:1])[1] == {}


def test_a_damaged_file_is_replaced_once_the_right_one_is_there(go, server, files, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"x")
    server.faults["a.zip"] = [404]
    assert "the server returned 404 Not Found" in go(files[:1])[1]["a.zip"]
    assert (tmp_path / "a.zip").read_bytes() == b"x"
    assert go(files[:1])[0] == {"a.zip": "replaced"}
    assert (tmp_path / "a.zip").read_bytes() == server.contents["a.zip"]


def test_a_busy_servers_wish_to_wait_is_granted_within_bounds(go, server, files, monkeypatch):
    monkeypatch.setattr("cache.transfer._LONGEST_WAIT_S", 0.3)  # not two minutes
    server.faults["a.zip"] = [429]  # asks for 9999 seconds
    started = time.monotonic()
    assert go(files[:1])[1] == {}
    assert 0.3 < time.monotonic() - started < 10


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "status line": b"",
    "header": b"HTTP/1.1 200 OK\r\nX: ",
    "content": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE,
    "chunk size": CHUNKED,
    "trailer": CHUNKED + b"0\r\nX: ",
}


@pytest.mark.parametrize("where", DRIPS)
def test_a_server_that_drips_bytes_does_not_hold_a_download(where, go, server, monkeypatch):
    for name in ("_SLOWEST_S", "_LONGEST_WAIT_S"):
        monkeypatch.setattr(f"cache.transfer.{name}", 0.2)  # not minutes
    server.faults["a.zip"] = [DRIPS[where]] * 5
    started = time.monotonic()
    done, failures = go()
    assert done == {"b.zip": "downloaded"}
    assert "then 4 attempts failed" in failures["a.zip"]
    assert "(the server is too slow: not done in 0.2 s)" in failures["a.zip"]
    with pytest.raises(FailedError, match=r"cannot be read \(the server is too slow"):
        read_small(f"{server.address}/a.zip", SIZE)
    assert time.monotonic() - started < 10


def test_redirects_are_followed_with_the_range_without_their_bodies(go, server, files, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(server.contents["a.zip"][:1000])
    server.redirects["a.zip"] = "/elsewhere/a.zip"
    assert go()[1] == {}
    assert server.ranges("a.zip") == ["bytes=1000-"]
    assert (tmp_path / "a.zip").read_bytes() == server.contents["a.zip"]
    assert server.redirect_mib < REDIRECT_MIB / 2  # some is in the sockets


def test_no_server_at_all_is_one_clear_line(go, server, files):
    server.server_close()
    reason = go(files[:1])[1]["a.zip"]
    assert reason.startswith(f"0 of {SIZE} bytes arrived, then 4 attempts failed")
    assert "\n" not in reason


def test_nothing_of_the_user_is_sent(go, server, tmp_path_factory, monkeypatch):
    secret = tmp_path_factory.mktemp("home") / "netrc"
    secret.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(secret))
    go()
    (_, headers), *_ = server.requests
    assert set(headers) <= {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
    assert headers["User-Agent"].startswith("CFN-SR")
    assert headers["Accept-Encoding"] == "identity"


def test_a_proxy_of_the_environment_is_used(go, server, files, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "")
    assert go([replace(files[0], address="http://host.invalid/a.zip")])[1] == {}
    assert server.requests[0][1]["Host"] == "host.invalid"


def test_a_password_in_an_address_is_not_shown(go, server, files):
    address = server.address.replace("://", "://me:secret@") + "/missing"
    with pytest.raises(FailedError, match=r"returned 404") as error:
        read_small(address, 10)
    _, failures = go([replace(files[0], address=address)])
    for text in (str(error.value), failures["a.zip"]):
        assert "127.0.0.1" in text
        assert "secret" not in text


def test_a_refused_file_gets_no_name(go, tmp_path):
    def accept(part):
        if part.name.startswith("a"):
            raise ValueError("not what it should be")

    assert go(accept=accept) == ({"b.zip": "downloaded"}, {"a.zip": "not what it should be"})
    assert names(tmp_path) == ["b.zip"]


def test_an_interrupt_keeps_what_arrived(go, server, tmp_path):
    def interrupt(part):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(accept=interrupt)
    assert {"a.zip.part", "b.zip.part"} & set(names(tmp_path))
    assert go()[1] == {}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == server.contents


def test_a_full_disk_is_noticed_beforehand(go, server, files):
    with pytest.raises(OSError, match="more bytes are required, but only"):
        go([replace(files[0], bytes=2**60)])
    assert server.requests == []
