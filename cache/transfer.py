"""Download files: resumed where they stopped, checked, several at a time.

requests belongs to the extra `share`, which training does without, so it is imported in functions.
"""

import hashlib
import http.client
import io
import math
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from tqdm import tqdm

from cache.command import FailedError, printable
from cache.files import sync

if TYPE_CHECKING:
    import requests

# No compression: Range offsets count uncompressed bytes.
_HEADERS = {"User-Agent": "CFN-SR", "Accept-Encoding": "identity"}
_ATTEMPTS = 4
_TIMEOUT_S = (15, 60)  # to connect, and between two bytes
_LONGEST_WAIT_S = 120  # before another attempt, and for a small file
_SLOWEST_BYTES, _SLOWEST_S = 2**16, 60  # of a large file: what must come in which time
_REDIRECTS = 10
_CHUNK_BYTES = 2**16


@dataclass(frozen=True)
class RemoteFile:
    """One file to download."""

    name: str  # under which it is saved
    address: str  # a URL, or a path on this machine
    bytes: int
    digest: str  # the checksum, as `sha256:...` or `md5:...`, hexadecimal


def download_all(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    jobs: int,
    accept: Callable[[Path], None] = lambda path: None,
    pause_s: float = 1.0,
) -> tuple[dict[str, str], dict[str, str]]:
    """Download the files that `folder` lacks; one that fails does not stop the others.

    A file gets its name only when it is complete and its checksum is correct. Until then its bytes
    are in `NAME.part`, which the next call resumes. A file that is there is hashed on every call,
    which takes about two seconds per gigabyte, and replaced if it is wrong.

    Args:
        jobs: the number of simultaneous downloads.
        accept: raises ValueError to refuse a file before it gets its name.
        pause_s: the wait before the second retry; it doubles with each further one.

    Returns:
        For each file that is there now "kept", "downloaded" or "replaced", by name; and for each
        that failed the reason, by name.

    Raises:
        OSError: if the disk lacks the space.
    """
    missing = [file for file in files if not (folder / file.name).exists()]
    needed = sum(file.bytes - _size(folder / f"{file.name}.part") for file in missing)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"{folder}: {needed:,} more bytes are required, but only {free:,} are free")
    done, failures = {}, {}
    with (
        tqdm(desc="download", total=sum(f.bytes for f in files), unit="B", unit_scale=True) as bar,
        ThreadPoolExecutor(jobs) as pool,
    ):
        downloads = _Downloads(folder, accept, pause_s, bar)
        futures = {pool.submit(downloads.bring, file): file.name for file in files}
        try:
            for future in as_completed(futures):
                try:
                    done[futures[future]] = future.result()
                except (FailedError, OSError, ValueError) as exc:
                    failures[futures[future]] = shown(exc)
        except BaseException:
            downloads.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return done, failures


def read_small(address: str, most_bytes: int) -> bytes:
    """The content of a small file at a URL or path, cut off some bytes after `most_bytes`.

    FailedError if it cannot be read, or takes more than two minutes.
    """
    content, deadline = bytearray(), _Deadline(_LONGEST_WAIT_S)
    try:
        if "://" not in address:
            with Path(address).open("rb") as opened:
                return opened.read(most_bytes + 1)
        with _get(address, {}, deadline) as response:
            if response.status_code != 200:
                raise OSError(_answer(response))
            for chunk in _chunks(response, deadline):
                content += chunk
                if len(content) > most_bytes:
                    break
    except (FailedError, OSError) as exc:
        raise FailedError(f"{shown(address)}: cannot be read ({shown(exc)})") from exc
    return bytes(content)


def shown(text: object) -> str:
    """A URL, or a message from a server, without password and control characters."""
    return re.sub(r"(?<=://)[^/\s]*@", "", printable(text))


class _BrokenError(FailedError):
    """A download stopped in a way that another attempt may repair."""


class _Downloads:
    """Simultaneous downloads into one folder; setting `stop` makes them give up soon."""

    def __init__(
        self, folder: Path, accept: Callable[[Path], None], pause_s: float, bar: tqdm
    ) -> None:
        self.folder, self.accept, self.pause_s, self.bar = folder, accept, pause_s, bar
        self.stop = threading.Event()

    def bring(self, file: RemoteFile) -> str:
        """Download one file if necessary; returns "kept", "downloaded" or "replaced"."""
        final, part = self.folder / file.name, self.folder / f"{file.name}.part"
        existed = final.exists()
        if existed and _digest(final, file) == file.digest:
            self._advance(file.bytes)
            return "kept"
        if "://" in file.address:
            self._download(file, part)
        else:
            with Path(file.address).open("rb") as opened:
                self._write(iter(lambda: opened.read(_CHUNK_BYTES), b""), part, 0, file)
        try:
            if (found := _digest(part, file)) != file.digest:
                raise FailedError(
                    f"its checksum is {found}, expected {file.digest}. The file was deleted: "
                    "run again to download it again"
                )
            self.accept(part)
        except (FailedError, ValueError):
            part.unlink()
            raise
        sync(part)
        os.replace(part, final)
        return "replaced" if existed else "downloaded"

    def _download(self, file: RemoteFile, part: Path) -> None:
        """Resume `part` until it is complete; give up after `_ATTEMPTS` without progress."""
        from urllib3.util import Retry

        if _size(part) > file.bytes:
            part.unlink()
        furthest = _size(part)
        self._advance(furthest)
        # Retry only counts and spaces the attempts. Left to itself, it would sleep through an
        # interrupt, read error pages to their end, and not repair a broken body.
        retries = fresh = Retry(_ATTEMPTS, backoff_factor=self.pause_s)
        while _size(part) < file.bytes:
            try:
                self._attempt(file, part)
            except _BrokenError as exc:
                # A server without Range begins again each time, which is no progress.
                if _size(part) >= furthest + _SLOWEST_BYTES:
                    retries, furthest = fresh, _size(part)
                else:
                    retries = retries.increment("GET", error=exc)
                if not retries.total:
                    raise FailedError(
                        f"{_size(part)} of {file.bytes} bytes arrived, then {_ATTEMPTS} attempts "
                        f"failed ({exc}). Run again to resume"
                    ) from exc
                if self.stop.wait(retries.get_backoff_time()):
                    raise FailedError("interrupted") from exc

    def _attempt(self, file: RemoteFile, part: Path) -> None:
        """Request what `part` lacks; _BrokenError if not all of it came."""
        have, deadline = _size(part), _Deadline(_SLOWEST_S, _SLOWEST_BYTES)
        wanted = {"Range": f"bytes={have}-"} if have else {}
        with _get(file.address, wanted, deadline) as response:
            status, headers = response.status_code, response.headers
            if status == 429 or status >= 500:
                wait = headers.get("Retry-After", "")[:9]
                self.stop.wait(min(int(wait), _LONGEST_WAIT_S) if wait.isdecimal() else 0)
                raise _BrokenError(_answer(response))
            if have and status in (206, 416):
                rest = f"bytes {have}-{file.bytes - 1}/{file.bytes}"
                if status == 416 or headers.get("Content-Range") != rest:
                    part.unlink()
                    self._advance(-have)
                    raise _BrokenError(f"the server refused to send {rest}")
            elif status == 200:
                length = headers.get("Content-Length", "")
                if length.isdecimal() and length != str(file.bytes):
                    raise FailedError(
                        f"the server offers {length:.20} bytes, expected {file.bytes}. If this "
                        f"persists, the file has changed on the server: {file.address}"
                    )
                self._advance(-have)
                have = 0
            else:
                raise FailedError(f"{_answer(response)}, expected the file: {file.address}")
            self._write(_chunks(response, deadline), part, have, file)
        if _size(part) < file.bytes:
            raise _BrokenError("the connection ended early")

    def _write(self, chunks: Iterable[bytes], part: Path, start: int, file: RemoteFile) -> None:
        """Write `part` from byte `start`, and refuse more bytes than `file` has."""
        left = file.bytes - start
        with part.open("ab" if start else "wb") as opened:
            for chunk in chunks:
                if self.stop.is_set():
                    raise FailedError("interrupted")
                if len(chunk) > left:
                    part.unlink()
                    raise FailedError(
                        f"more than the expected {file.bytes} bytes came. They were deleted: run "
                        "again to download the file again"
                    )
                opened.write(chunk)
                self._advance(len(chunk))
                left -= len(chunk)

    def _advance(self, count: int) -> None:
        with self.bar.get_lock():
            self.bar.update(count)


class _Deadline:
    """`seconds` for an answer, and as many again for each `amount` bytes of its content."""

    def __init__(self, seconds: float, amount: float = math.inf):
        self.seconds, self.amount = seconds, amount
        self.ends, self.count = time.monotonic() + seconds, 0

    def advance(self, count: int) -> None:
        """Note that `count` bytes of content came."""
        self.count += count
        if self.count >= self.amount:
            self.ends, self.count = time.monotonic() + self.seconds, 0


class _TimedReader(io.RawIOBase):
    """The bytes of a connection, with a look at the clock after each read from the network.

    Reading a line or a chunk may take many of these: a server that sends a byte per second, or
    headers without end, would hold it forever.
    """

    def __init__(self, connection: io.RawIOBase, deadline: _Deadline):
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:
        count = self._connection.readinto(buffer)
        if time.monotonic() > self._deadline.ends:
            raise _BrokenError(f"the server is too slow: not done in {self._deadline.seconds} s")
        return count

    def close(self) -> None:
        self._connection.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """An answer, the headers included, that is read with a deadline."""

    def __init__(self, deadline: _Deadline, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), deadline))


@contextmanager
def _get(
    url: str, headers: Mapping[str, str], deadline: _Deadline
) -> Iterator["requests.Response"]:
    """Request a URL and follow redirects, to http(s) only, without reading what they carry.

    An adapter without a session: a session would send passwords from ~/.netrc and read redirects
    to their end. Proxies and certificates come from the environment all the same. _BrokenError if
    there is no answer before the deadline; FailedError if the redirects do not end, or lead
    elsewhere.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from requests.utils import get_environ_proxies
    from urllib3.exceptions import HTTPError

    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    options = {"stream": True, "timeout": _TIMEOUT_S, "verify": bundle}
    with closing(HTTPAdapter()) as adapter:
        for _ in range(_REDIRECTS):
            try:
                request = requests.Request("GET", url, {**_HEADERS, **headers}).prepare()
                proxies = get_environ_proxies(url)
                pool = adapter.get_connection_with_tls_context(request, bundle, proxies)
                timed = {"response_class": staticmethod(partial(_TimedResponse, deadline))}
                pool.ConnectionCls = type("Timed", (pool.ConnectionCls,), timed)
                response = adapter.send(request, proxies=proxies, **options)
            except (requests.RequestException, HTTPError) as exc:
                reason = getattr(exc.args[0] if exc.args else exc, "reason", exc)
                raise _BrokenError(reason) from exc
            with response:
                if not response.is_redirect:
                    yield response
                    return
            url = urljoin(url, response.headers["Location"])
            if urlsplit(url).scheme not in ("http", "https"):
                raise FailedError(f"the server redirects to {url[:80]!a}, expected http or https")
        raise FailedError(f"the server redirects {_REDIRECTS} times, expected the file")


def _chunks(response: "requests.Response", deadline: _Deadline) -> Iterator[bytes]:
    """The body of a response as it arrives; _BrokenError if it breaks or is too slow."""
    from urllib3.exceptions import HTTPError

    try:
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
            deadline.advance(len(chunk))
            yield chunk
    except HTTPError as exc:
        raise _BrokenError(exc) from exc


def _answer(response: "requests.Response") -> str:
    return f"the server returned {response.status_code} {response.reason}"


def _digest(path: Path, file: RemoteFile) -> str:
    """The checksum of `path`, of the kind that `file` has."""
    kind, _, _ = file.digest.partition(":")
    with path.open("rb") as opened:
        return f"{kind}:{hashlib.file_digest(opened, kind).hexdigest()}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
