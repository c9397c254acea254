"""RAVDESS at Zenodo: which files there are, and how one is fetched and resumed."""

import os
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from requests.utils import get_environ_proxies

ADDRESS = "https://zenodo.org/records/{record}/files/{name}?download=1"
ATTEMPTS = 4

_HEADERS = {
    "User-Agent": "CFN-SR (downloads RAVDESS)",
    # Packed on the way, the bytes would not be the ones that a Range counts.
    "Accept-Encoding": "identity",
}
_TIMEOUT_S = (15, 60)  # to connect, and between two bytes
_LONGEST_WAIT_S = 120
# What is read and not yet written when a connection breaks is lost, so read little at a time.
_CHUNK_BYTES = 1 << 16
_CONTENT_RANGE = re.compile(r"bytes (?P<start>[0-9]+)-[0-9]+/(?P<total>[0-9]+|\*)")

RAVDESS_RECORD, LANDMARKS_RECORD = 1188976, 3255102


class DownloadError(Exception):
    """A file could not be fetched or unpacked; says what was found, expected and to be done."""


@dataclass(frozen=True)
class ZenodoFile:
    """One zip at Zenodo.

    Attributes:
        name: file name, the same there and here.
        record: number of the Zenodo record.
        bytes: size of the zip.
        md5: hexadecimal, as Zenodo lists it.
        members: how many recordings or tables are in the zip.
        growth: the most that its members may hold together, in sizes of the zip.
        folder: where below the target folder it is unpacked.
    """

    name: str
    record: int
    bytes: int
    md5: str
    members: int
    growth: int
    folder: str = ""


# Actor: bytes, MD5. 60 recordings with sound (01-01-*) and the same 60 without (02-01-*) in each.
_VIDEO = {
    1: (552_968_353, "3c8ececaf392b4a9b11b32271f4f6d01"),
    2: (570_673_024, "a6f40d413b2e6ef25b3a595099e59abb"),
    3: (567_824_665, "68fa240ddd8a3cc410c64efe5fb2b0e4"),
    4: (546_560_009, "013eed832af1f7e97082aae398a00dbe"),
    5: (562_966_425, "b00e17d61374ef6ba86fef35d50a20fb"),
    6: (568_517_859, "3c42877921cc08cfb5c841a0f2cb94a7"),
    7: (565_652_404, "bdd29bfe082f80361ec6b589845c283d"),
    8: (562_573_079, "bed5f43d9c18e177e34d4bc1ed9b6d77"),
    9: (523_489_249, "775da349c50bf915a1bbcb37379bd092"),
    10: (565_580_163, "70199d1c6902f76e17df308d5c41fa01"),
    11: (518_634_370, "824504aa41a8fd575e5459d5701dd378"),
    12: (557_928_718, "2a1f0ddc0ca207beedee6ce2ea863ad7"),
    13: (501_877_549, "c5f2fd4fd77941636947620368c612b5"),
    14: (552_484_059, "466d31f4cce92a14b1f4ee884bbdf7d7"),
    15: (525_205_576, "4b3b9bc8473e86f884630f2506684887"),
    16: (562_416_513, "a63c54570ebbe6bd616d0dced5630f7e"),
    17: (551_688_845, "8b7ae3e5a85d2874ac8e1195e722e047"),
    18: (565_655_520, "fef2131ac361da182c0cb85f3d8e8a6c"),
    19: (581_121_687, "abb97d97d8c4e88c866cee1cea9d06d6"),
    20: (561_349_264, "5ddfb22770093bafebdefe8faa449f48"),
    21: (590_292_896, "d810cf2ff6863ef91306fc7a16d74fbb"),
    22: (560_907_466, "fee55f72c9871401f23d4b167de3217d"),
    23: (545_177_865, "b31e8c8904e66102e7a951694db752d6"),
    24: (595_799_165, "eef90e806c9179bc5b4b098d03647ae3"),
}

VIDEO = {
    actor: ZenodoFile(
        f"Video_Speech_Actor_{actor:02d}.zip", RAVDESS_RECORD, size, md5, members=120, growth=3
    )
    for actor, (size, md5) in _VIDEO.items()
}
AUDIO = ZenodoFile(
    "Audio_Speech_Actors_01-24.zip",
    RAVDESS_RECORD,
    208_468_073,
    "bc696df654c87fed845eb13823edef8a",
    members=1440,
    growth=6,  # 16 bit PCM; 2.5 times, reckoned from the length of the recordings
)
LANDMARKS = ZenodoFile(
    "FacialTracking_Actors_01-24.zip",
    LANDMARKS_RECORD,
    417_163_019,
    "5753bbc64a9a790f8a8d3e03cba526ee",
    members=2452,
    growth=10,  # numbers as text
    folder="landmarks",  # they lie flat in the zip
)


def store(files: Iterable[ZenodoFile], folder: Path, address: str = ADDRESS) -> pooch.Pooch:
    """The pooch that knows these files' MD5s and addresses, and that they go to `folder`."""
    return pooch.create(
        path=folder,
        base_url="",
        registry={file.name: f"md5:{file.md5}" for file in files},
        urls={file.name: address.format(record=file.record, name=file.name) for file in files},
    )


def fetch(
    file: ZenodoFile,
    known: pooch.Pooch,
    *,
    advance: Callable[[int], None],
    stop: threading.Event,
    pause_s: float = 1.0,
) -> bool:
    """Have `file` whole in the folder of `known`, and say whether it had to be downloaded.

    Its MD5 is computed on every call, also when it lies there already: about two seconds a
    gigabyte. A file that differs is replaced, once the right one is there. What arrives is in
    `NAME.part` until it is whole and right, and a later call goes on from there.

    Args:
        file: what to fetch, one of those that `known` was made from.
        known: from `store`.
        advance: told how many bytes more are there; fewer, when a download starts over.
        stop: set from outside to give up soon.
        pause_s: wait after the first broken connection; it doubles with every next one.

    Raises:
        DownloadError: if the file cannot be had. `NAME.part` is kept for the next call, except
            when its bytes are wrong.
        OSError: if it cannot be written.
    """
    asked = []

    def downloader(url: str, temporary: str, _pooch: pooch.Pooch) -> None:
        asked.append(url)
        part = known.abspath / f"{file.name}.part"
        _download(url, part, file, advance, stop, pause_s)
        os.replace(part, temporary)  # pooch checks the MD5 and gives it its name

    try:
        known.fetch(file.name, downloader=downloader)
    except ValueError as exc:
        raise DownloadError(f"{exc} Run again to fetch it anew.") from exc
    if not asked:
        advance(file.bytes)
    return bool(asked)


class _BrokenError(Exception):
    """The download stopped in a way that another attempt may mend, after `wait_s`."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def _download(
    url: str,
    part: Path,
    file: ZenodoFile,
    advance: Callable[[int], None],
    stop: threading.Event,
    pause_s: float,
) -> None:
    """Go on with `part` until it has all bytes; give up after `ATTEMPTS` that brought no more."""
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


def _attempt(
    session: requests.Session,
    url: str,
    part: Path,
    file: ZenodoFile,
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
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        start, total = _offer(response, file)
        if start not in (0, have):
            part.unlink()
            advance(-have)
            raise _BrokenError(f"asked for what follows byte {have}, the server refused")
        if total not in (None, file.bytes):
            raise DownloadError(
                f"the server offers {total} bytes, expected {file.bytes}. If it stays so, the "
                f"file was changed at Zenodo: compare https://zenodo.org/records/{file.record}"
            )
        advance(start - have)
        _write(response, part, start, file, advance, stop)


def _offer(response: requests.Response, file: ZenodoFile) -> tuple[int | None, int | None]:
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
    answer = f"the server answers {status} {response.reason}"
    if status == 429 or status >= 500:
        wait_s = response.headers.get("Retry-After", "")
        raise _BrokenError(answer, wait_s=int(wait_s) if wait_s.isdecimal() else 0)
    raise DownloadError(
        f"{answer}, expected the file. See https://zenodo.org/records/{file.record}"
    )


def _write(
    response: requests.Response,
    part: Path,
    start: int,
    file: ZenodoFile,
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


def _session(url: str) -> requests.Session:
    """A session that sends nothing of the user's but what a proxy asks for."""
    session = requests.Session()
    # Trusting the environment would send a password of ~/.netrc. Proxies and certificates are
    # needed all the same.
    session.trust_env = False
    session.proxies = get_environ_proxies(url)
    session.verify = (
        os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    )
    session.headers.update(_HEADERS)
    return session


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
