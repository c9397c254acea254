"""Fetch files from a web server: resumed, checked, several side by side.

pooch and requests are of the extra `share`, which training does without: so they are imported where
they are used.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

from tqdm import tqdm

if TYPE_CHECKING:
    import requests

ATTEMPTS = 4

_HEADERS = {
    "User-Agent": "CFN-SR",
    # Packed on the way, the bytes would not be the ones that a Range counts.
    "Accept-Encoding": "identity",
}
_TIMEOUT_S = (15, 60)  # to connect, and between two bytes
_LONGEST_WAIT_S = 120
_REDIRECTS = 10
# What is read and not yet written when a connection breaks is lost, so read little at a time.
_CHUNK_BYTES = 1 << 16
_CONTENT_RANGE = re.compile(r"bytes (?P<start>[0-9]{1,18})-[0-9]{1,18}/(?P<total>[0-9]{1,18}|\*)")


class DownloadError(Exception):
    """A file could not be fetched or unpacked; says what was found, expected and to be done."""


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch.

    Attributes:
        name: under which it is kept.
        address: where it is.
        bytes: its size.
        digest: its checksum, as `sha256:...` or `md5:...`, hexadecimal.
        see: where a person may look what has become of it.
    """

    name: str
    address: str
    bytes: int
    digest: str
    see: str


@dataclass
class Outcome:
    """What became of the files.

    Attributes:
        downloaded: names of those that were fetched.
        replaced: names of those among them that lay there with other bytes.
        there: names of those that lay there and are right.
        failures: name to reason.
    """

    downloaded: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def fetch_all(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    jobs: int,
    pause_s: float = 1.0,
    accept: Callable[[Path], None] | None = None,
) -> Outcome:
    """Have all `files` in `folder`, whole and with the right checksum; one that fails stops none.

    Args:
        files: what to fetch.
        folder: an existing folder.
        jobs: how many downloads run side by side.
        pause_s: wait after the first broken connection; it doubles with every next one.
        accept: looks at a file with the right checksum before it gets its name, and raises
            `DownloadError` if it is not to have it.
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # it would write across the bar
    before = {file.name for file in files if (folder / file.name).exists()}
    stop, lock = threading.Event(), threading.Lock()
    outcome = Outcome()
    with (
        tqdm(total=sum(file.bytes for file in files), unit="B", unit_scale=True) as bar,
        ThreadPoolExecutor(jobs) as pool,
    ):
        bar.set_description("download")

        def advance(count: int) -> None:
            with lock:
                bar.update(count)

        options = {"advance": advance, "stop": stop, "pause_s": pause_s, "accept": accept}
        futures = {pool.submit(fetch, file, folder, **options): file.name for file in files}
        try:
            for future in as_completed(futures):
                name = futures[future]
                try:
                    fetched = future.result()
                except DownloadError as exc:
                    outcome.failures[name] = str(exc)
                except OSError as exc:
                    outcome.failures[name] = f"cannot be written ({exc})"
                else:
                    (outcome.downloaded if fetched else outcome.there).append(name)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    outcome.replaced = sorted(before.intersection(outcome.downloaded))
    return outcome


def fetch(
    file: RemoteFile,
    folder: Path,
    *,
    advance: Callable[[int], None],
    stop: threading.Event,
    pause_s: float = 1.0,
    accept: Callable[[Path], None] | None = None,
) -> bool:
    """Have `file` whole in `folder`, and say whether it had to be downloaded.

    Its checksum is computed on every call, also when it lies there already: about two seconds a
    gigabyte. A file that differs is replaced, once the right one is there. What arrives is in
    `NAME.part` until it is whole and right, and a later call goes on from there.

    Args:
        file: what to fetch.
        folder: an existing folder.
        advance: told how many bytes more are there; fewer, when a download starts over.
        stop: set from outside to give up soon.
        pause_s: wait after the first broken connection; it doubles with every next one.
        accept: see `fetch_all`.

    Raises:
        DownloadError: if the file cannot be had. `NAME.part` is kept for the next call, except
            when its bytes are wrong.
        OSError: if it cannot be written.
    """
    import pooch

    asked = []

    def downloader(url: str, temporary: str, _pooch: pooch.Pooch) -> None:
        asked.append(url)
        part = folder / f"{file.name}.part"
        if "://" in url:
            _download(url, part, file, advance, stop, pause_s)
        else:
            _copy(Path(url), part, file, advance, stop)
        if accept and pooch.hashes.hash_matches(part, file.digest):
            try:
                accept(part)
            except DownloadError:
                part.unlink()
                raise
        os.replace(part, temporary)  # pooch checks the sum and gives it its name

    known = pooch.create(
        path=folder.resolve(),  # pooch would take ~ for the home folder
        base_url="",
        registry={file.name: file.digest},
        urls={file.name: file.address},
    )
    try:
        known.fetch(file.name, downloader=downloader)
    except ValueError as exc:
        raise DownloadError(f"{exc} Run again to fetch it anew.") from exc
    if not asked:
        advance(file.bytes)
    return bool(asked)


def read_small(address: str, most_bytes: int) -> bytes:
    """The content of a file at an address, or a path, of at most so many bytes and one more.

    Raises:
        DownloadError: if it cannot be had.
    """
    shown = without_password(address)
    try:
        if "://" not in address:
            with Path(address).open("rb") as opened:
                return opened.read(most_bytes + 1)
        import requests

        with _session(address) as session:
            try:
                with _get(session, address, {}) as response:
                    if response.status_code != 200:
                        answer = _answer(response)
                        raise DownloadError(f"{shown}: {answer}, expected the file")
                    content = bytearray()
                    ends = time.monotonic() + _LONGEST_WAIT_S
                    for chunk in response.iter_content(_CHUNK_BYTES):
                        content += chunk
                        if len(content) > most_bytes:
                            break
                        if time.monotonic() > ends:
                            raise DownloadError(f"{shown}: takes more than {_LONGEST_WAIT_S} s")
                    return bytes(content)
            except requests.RequestException as exc:
                raise DownloadError(f"{shown}: cannot be fetched ({exc})") from exc
    except OSError as exc:
        raise DownloadError(f"{shown}: cannot be read ({exc})") from exc


class _BrokenError(Exception):
    """The download stopped in a way that another attempt may mend, after `wait_s`."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def _download(
    url: str,
    part: Path,
    file: RemoteFile,
    advance: Callable[[int], None],
    stop: threading.Event,
    pause_s: float,
) -> None:
    """Go on with `part` until it has all bytes; give up after `ATTEMPTS` that brought no more."""
    import requests

    if _size(part) > file.bytes:
        part.unlink()
    furthest = _size(part)
    advance(furthest)
    in_vain = 0
    with _session(url) as session:
        while _size(part) < file.bytes:
            try:
                _attempt(session, url, part, file, advance, stop)
            except (_BrokenError, requests.RequestException) as exc:
                # Bytes had before do not count: a server without Range begins again each time.
                in_vain = 0 if _size(part) > furthest else in_vain + 1
                furthest = max(furthest, _size(part))
                if in_vain == ATTEMPTS or stop.is_set():
                    raise DownloadError(
                        f"{_size(part)} of {file.bytes} bytes arrived, and {in_vain} attempts "
                        f"brought no more ({exc}). Run again to go on from there"
                    ) from exc
                wait_s = max(pause_s * 2 ** (in_vain - 1), getattr(exc, "wait_s", 0.0))
                stop.wait(min(wait_s, _LONGEST_WAIT_S))


def _copy(
    path: Path,
    part: Path,
    file: RemoteFile,
    advance: Callable[[int], None],
    stop: threading.Event,
) -> None:
    """From a folder that this machine sees; it is quick, so it begins anew each time."""
    try:
        opened = path.open("rb")
    except OSError as exc:
        raise DownloadError(f"{path} cannot be read ({exc})") from exc
    with opened, part.open("wb") as written:
        left = file.bytes
        while left and (chunk := opened.read(min(left, 2**20))):
            if stop.is_set():
                raise DownloadError("interrupted")
            written.write(chunk)
            advance(len(chunk))
            left -= len(chunk)
        os.fsync(written.fileno())


def _attempt(
    session: "requests.Session",
    url: str,
    part: Path,
    file: RemoteFile,
    advance: Callable[[int], None],
    stop: threading.Event,
) -> None:
    """Ask once for what `part` lacks.

    Raises:
        _BrokenError, requests.RequestException: if it did not all come.
        DownloadError: if the server does not have this file.
    """
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with _get(session, url, headers) as response:
        start, total = _offer(response, file)
        if start not in (0, have):
            part.unlink(missing_ok=True)
            advance(-have)
            raise _BrokenError(f"asked for what follows byte {have}, the server refused")
        if total not in (None, file.bytes):
            raise DownloadError(
                f"the server offers {total} bytes, expected {file.bytes}. If it stays so, the "
                f"file was changed there: compare {file.see}"
            )
        advance(start - have)
        _write(response, part, start, file, advance, stop)


def _offer(response: "requests.Response", file: RemoteFile) -> tuple[int | None, int | None]:
    """Where what the server sends begins, and the size it gives the whole file, where it does.

    The beginning is None where the server cannot go on from the byte that it was asked for.
    """
    status = response.status_code
    if status == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    if status == 206:
        given = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if given is None:
            return None, None
        return int(given["start"]), None if given["total"] == "*" else int(given["total"])
    if status == 416 and "Range" in response.request.headers:
        return None, None
    answer = _answer(response)
    if status == 429 or status >= 500:
        wait_s = response.headers.get("Retry-After", "")
        raise _BrokenError(answer, wait_s=int(wait_s) if wait_s.isdecimal() else 0)
    raise DownloadError(f"{answer}, expected the file. See {file.see}")


def _write(
    response: "requests.Response",
    part: Path,
    start: int,
    file: RemoteFile,
    advance: Callable[[int], None],
    stop: threading.Event,
) -> None:
    """Write what the server sends into `part` from byte `start` on, and sync it."""
    left = file.bytes - start
    with part.open("ab" if start else "wb") as opened:
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                if stop.is_set():
                    raise _BrokenError("interrupted")
                if len(chunk) > left:
                    part.unlink()
                    raise DownloadError(
                        f"the server sends more than {file.bytes} bytes, as many as expected. "
                        "What came was deleted: run again to fetch it anew"
                    )
                opened.write(chunk)
                left -= len(chunk)
                advance(len(chunk))
        finally:
            opened.flush()
            os.fsync(opened.fileno())
    if left:
        raise _BrokenError(f"the connection ended {left} bytes early")


def without_password(address: str) -> str:
    """An address as it may be shown."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _answer(response: "requests.Response") -> str:
    return f"the server answers {response.status_code} {ascii(response.reason)[1:-1]}"


@contextmanager
def _get(
    session: "requests.Session", url: str, headers: Mapping[str, str]
) -> Iterator["requests.Response"]:
    """The answer at the end of some redirects; requests would read all that comes on the way.

    Raises:
        DownloadError: if they do not end, or lead off the web.
    """
    for _ in range(_REDIRECTS):
        with session.get(
            url, headers=headers, stream=True, timeout=_TIMEOUT_S, allow_redirects=False
        ) as response:
            if not response.is_redirect:
                yield response
                return
            url = urljoin(url, response.headers["Location"])
        if urlsplit(url).scheme not in ("http", "https"):
            raise DownloadError(f"the server sends elsewhere, to {url[:80]!a}: not the web")
    raise DownloadError(f"the server sends elsewhere {_REDIRECTS} times, expected the file")


def _session(url: str) -> "requests.Session":
    """A session that sends nothing of the user's but what a proxy asks for."""
    import requests
    from requests.utils import get_environ_proxies

    session = requests.Session()
    # Trusting the environment would send a password of ~/.netrc. Proxies and certificates are
    # needed all the same.
    session.trust_env = False
    session.proxies = get_environ_proxies(url)
    session.verify = (
        os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    )
    session.headers.update(_HEADERS)
    # `_get` follows redirects. Told not to, a session still reads all that comes with one.
    session.get_redirect_target = lambda _: None
    return session


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
