"""Small videos with whatever fault a test needs."""

import io
import struct
from fractions import Fraction
from pathlib import Path
from tempfile import NamedTemporaryFile

import av
import numpy as np
import soundfile

RATE_HZ = 48_000


def noise_pictures(count: int, height: int = 90, width: int = 160) -> np.ndarray:
    """uint8 RGB (count, height, width, 3): no face in any."""
    return np.random.default_rng(0).integers(0, 255, (count, height, width, 3), np.uint8)


def tone(seconds: float, rate_hz: int = RATE_HZ, channels: int = 2, hertz=440.0) -> np.ndarray:
    """float32 (channels, samples): a sine."""
    wave = 0.1 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return np.tile(wave.astype(np.float32), (channels, 1))


def swept(seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """float32 (2, samples) that are different everywhere: a rising tone."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = 0.2 * np.sin(2 * np.pi * (200 + 100 * time) * time)
    return np.stack([wave, 0.5 * wave]).astype(np.float32)


def encode(
    pictures: np.ndarray | None,
    sound: np.ndarray | None,
    *,
    frame_rate: Fraction = Fraction(30_000, 1_001),
    rate_hz: int = RATE_HZ,
    container: str = "mp4",
    sound_starts_s: tuple[float, ...] = (0.0,),
    picture_start_s: float = 0.0,
) -> bytes:
    """An mp4 (H.264, AAC) of these pictures and this sound; None leaves the track out.

    The sound is cut into as many equal parts as `sound_starts_s` has times, each put at its own.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as mp4:
        if pictures is not None:
            video = mp4.add_stream("libx264", rate=frame_rate, options={"preset": "ultrafast"})
            video.height, video.width = pictures.shape[1:3]
        if sound is not None:
            layout = {1: "mono", 2: "stereo"}[len(sound)]
            audio = mp4.add_stream("aac", rate=rate_hz, layout=layout)
        if pictures is not None:
            for number, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.time_base = 1 / Fraction(frame_rate)
                frame.pts = number + round(picture_start_s * frame_rate)
                mp4.mux(video.encode(frame))
            mp4.mux(video.encode())
        if sound is not None:
            parts = np.array_split(sound, len(sound_starts_s), axis=1)
            for part, start_s in zip(parts, sound_starts_s, strict=True):
                samples = np.ascontiguousarray(part)
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
                frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
                frame.pts = round(start_s * rate_hz)
                mp4.mux(audio.encode(frame))
            mp4.mux(audio.encode())
    return buffer.getvalue()


def remuxed(content: bytes, container: str, *, by_track: bool = False, **options: str) -> bytes:
    """The same tracks in another container, one after the other, or with other options."""
    with NamedTemporaryFile() as file:  # moving the index needs a file to read from again
        with (
            av.open(io.BytesIO(content)) as old,
            av.open(file.name, "w", format=container, options=options) as new,
        ):
            tracks = {stream: new.add_stream_from_template(stream) for stream in old.streams}
            packets = [packet for packet in old.demux() if packet.dts is not None]
            if by_track:
                packets = [packet for packet in packets if packet.dts >= 0]
                packets.sort(key=lambda packet: packet.stream.index)
            for packet in packets:
                packet.stream = tracks[packet.stream]
                new.mux(packet)
        return Path(file.name).read_bytes()


def moved_to_front(content: bytes) -> bytes:
    """The same clip with its index before its data, as files for the web have."""
    return remuxed(content, "mp4", movflags="faststart")


def turned(content: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """An mp4 whose index asks to show a point (x, y) of its pictures at (ax + cy, bx + dy)."""
    a, b, c, d = (number << 16 for number in matrix)
    whole = bytearray(content)
    at = content.index(b"tkhd") + 44  # of the first track, the picture
    struct.pack_into(">5i", whole, at, a, b, 0, c, d)
    return bytes(whole)


def claiming(width: int, height: int, seconds: float) -> bytes:
    """A Matroska file of one broken picture that claims any size and length."""
    content = encode(noise_pictures(1, 256, 320), tone(0.1), container="matroska")
    head = bytearray(content[: content.index(bytes.fromhex("1F43B675"))])
    struct.pack_into(">H", head, head.index(bytes.fromhex("B0820140")) + 2, width)
    struct.pack_into(">H", head, head.index(bytes.fromhex("BA820100")) + 2, height)
    struct.pack_into(">d", head, head.index(bytes.fromhex("448988")) + 3, 1000 * seconds)
    return bytes(head) + bytes.fromhex("1F43B6758A E78100 A3858100008000")


def put(folder: Path, name: str, content: bytes) -> Path:
    """Write a file, with the folders above it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def record(folder: Path, clip_id: str, hertz: float) -> Path:
    """Write a small recording of 3.2 s, named as RAVDESS's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{clip_id}.wav"
    soundfile.write(path, tone(3.2, 8_000, 1, hertz).T, 8_000, subtype="PCM_16")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a cache by name, but of the stamps; nothing else is hidden."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != ".stamps.json"}


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of an mp4."""
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def claiming_samples(count: int, *, in_fragments: int = 0) -> bytes:
    """An mp4 of under a kilobyte whose tables claim so many frames of one byte each.

    They are claimed in the index, or in each of these fragments.
    """
    whole = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    tkhd = box(b"tkhd", numbers(1, 0, 0, 1, 0, 100, 0, 0, 0, 0, *whole, 64 << 16, 64 << 16))
    mdhd = box(b"mdhd", numbers(0, 0, 0, 8_000, 80_000, 0))
    hdlr = box(b"hdlr", bytes(8), b"vide", bytes(13))
    size = struct.pack(">HHIIIH", 64, 64, 72 << 16, 72 << 16, 0, 1)
    entry = box(b"jpeg", bytes(6), b"\0\1", bytes(16), size, bytes(32), b"\0\x18\xff\xff")
    listed = 0 if in_fragments else count
    tables = [
        box(b"stsd", numbers(0, 1), entry),
        box(b"stts", numbers(0, 1, listed, 1)),
        box(b"stsc", numbers(0, 1, 1, listed, 1)),
        box(b"stsz", numbers(0, 1, listed)),
        box(b"stco", numbers(0, 1, 8)),
    ]
    media = box(b"mdia", mdhd, hdlr, box(b"minf", box(b"vmhd", bytes(12)), box(b"stbl", *tables)))
    mvhd = box(b"mvhd", numbers(0, 0, 0, 1_000, 10_000, 0x10000), bytes(70), numbers(2))
    trex = box(b"mvex", box(b"trex", numbers(0, 1, 1, 1, 1, 0))) if in_fragments else b""
    moov = box(b"moov", mvhd, box(b"trak", tkhd, media), trex)
    run = box(b"traf", box(b"tfhd", numbers(0, 1)), box(b"trun", numbers(0, count)))
    moof = box(b"moof", box(b"mfhd", numbers(0, 1)), run) + box(b"mdat", bytes(16))
    return (
        box(b"ftyp", b"isom", numbers(512), b"isom")
        + moov
        + box(b"mdat", bytes(64))
        + moof * in_fragments
    )
