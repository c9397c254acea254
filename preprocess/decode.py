"""A video or sound file to its frames and its sound, for training and prediction alike.

A clip for training must be whole and ordinary, because a cache is made once and used by many.
`clip=True` refuses what a prediction accepts: any length, late tracks, gaps in the sound.
"""

import io
import math
import re
import resource
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import soxr
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition, Stream
from av.video.reformatter import ColorTrc

from cache.schema import OFFSET_S, SAMPLE_RATE_HZ

# Limits of a clip.
MAX_BYTES = 256 * 2**20
MAX_DURATION_S = 60

# Limits of every file. Beyond them, a small hostile file could claim any amount of memory or time.
MAX_PIXELS = 4096 * 2304
MAX_ASPECT = 4
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_GAP_S = 60
MAX_INDEX = 10**7  # entries, one per frame
MAX_MEMORY = 2**29  # bytes that a call of the decoder may add to those of the process
# Seconds for opening a file, and then for each second of it.
OPENING_S, WORK_S = 60, 30

# Time stamps of sound may be wrong by this much; more is a gap or an overlap.
SOUND_JITTER_S = 0.02

# The comment in the metadata of every clip of the synthetic sample.
SAMPLE_COMMENT = "synthetic sample drawn by CFN-SR"

# Formats that keep everything in one file. Playlists (HLS, DASH, concat) are not among them,
# because they make the decoder open other files and addresses.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,flv,asf,ogg,wav,flac,mp3,aac"
)

# Those whose duration FFmpeg guesses, as for all formats whose clock may jump.
_GUESSED = ("mp3", "aac", "mpegvideo")

# From one packet to the next, a clock may go back and forth by these seconds. Beyond them, another
# recording follows, or the clock started over.
_BACK_S, _FORTH_S = 0.5, 10.0

# How swscale converts and resizes: the mean of the area under each pixel (bilinear where it
# enlarges), color at full resolution, and the same bytes on every processor.
SCALING = "area+full_chroma_inp+full_chroma_int+accurate_rnd+bitexact"

# Formats of which any part can be cut out: others have colors at every fourth pixel, or two
# values or two bytes side by side, that a cut at an odd pixel would tear apart.
_SIMPLE = {f"{yuv}{part}p" for yuv in ("yuv", "yuvj") for part in (420, 422, 444)} | {"rgb24"}

# Color matrices that swscale knows (RGB, BT.709, unspecified, FCC, BT.601, 240M, BT.2020), and
# the brightness curves that it must convert, because only HDR displays show them.
_MATRICES = (0, 1, 2, 4, 5, 6, 7, 9)
_HDR = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}

# ITU-R BS.775: what each channel adds if many are mixed to two, and these to their mean.
_SHARES = {"FL": 0.5, "FR": 0.5, "FC": math.sqrt(0.5), "LFE": 0.0, "LFE2": 0.0}
_OTHERS = 0.5 * math.sqrt(0.5)

# Two channels cancel out if their mean has less than this share of the power of their difference.
_CANCELS = 0.01


class ClipError(ValueError):
    """A file cannot be used; the message is the reason."""


@contextmanager
def open_video(
    source: Path | str | bytes, *, picture: bool = True, sound: bool = True, clip: bool = False
) -> "Iterator[Video]":
    """Open a video or sound file, given by its path or its bytes.

    It will be read for its `picture` or its `sound`; with `clip`, what is expected of a clip for
    training is checked. ClipError if the file cannot be decoded, or has no such track; OSError if
    it cannot be opened.
    """
    options = {"format_whitelist": _FORMATS} | ({"err_detect": "explode"} if clip else {})
    # FFmpeg gets an open file, never a name, which it would read as an address: "http:", "concat:".
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        bounded = _Bounded(file)
        with bounded.call(f". Formats that are read: {_FORMATS.replace(',', ', ')}"):
            container = av.open(bounded, options=options)
        with container:
            yield Video(container, bounded, picture, sound, clip)


class _Bounded:
    """A file for the decoder, and limits on the memory and time of the decoder's calls.

    FFmpeg believes what a file declares: an mp4 of 600 bytes can claim three gigabytes.
    """

    def __init__(self, file: BinaryIO):
        self.seek, self.tell, self._read = file.seek, file.tell, file.read
        self.left_s = float(OPENING_S)
        self._began_s = self._measured_s = -math.inf
        self._most = resource.getrlimit(resource.RLIMIT_DATA)[0]

    def read(self, size: int) -> bytes:
        """Read on; if the time is up, the file ends here."""
        return b"" if time.monotonic() - self._began_s > self.left_s else self._read(size)

    @contextmanager
    def call(self, advice: str = "") -> Iterator[None]:
        """Limit a call of the decoder, and turn what it raises into a ClipError, with `advice`."""
        self._began_s = time.monotonic()
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        # Measured now and then, because it would take a tenth of the time of decoding.
        if sys.platform == "linux" and self._began_s - self._measured_s > 0.02:
            self._measured_s = self._began_s
            pages = int(Path("/proc/self/statm").read_bytes().split()[5])
            limits = pages * resource.getpagesize() + MAX_MEMORY, soft, hard
            self._most = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_DATA, (self._most, hard))
        try:
            yield
        except (av.FFmpegError, MemoryError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            if isinstance(exc, MemoryError):
                reason, advice = f"it claims more than {MAX_MEMORY >> 20} MB of memory", ""
            raise ClipError(f"not a readable video or recording: {reason}{advice}") from exc
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
            self.left_s -= time.monotonic() - self._began_s
            if self.left_s < 0:
                raise ClipError("takes too long to read: the file is damaged or hostile")


class Video:
    """An open file. Picture and sound can each be read once, from front to end."""

    def __init__(
        self, container: InputContainer, bounded: _Bounded, picture: bool, sound: bool, clip: bool
    ):
        self._container, self._bounded = container, bounded
        self._notes: dict[str, None] = {}  # on the whole file, each once
        self._gaps: list[tuple[float, float, str]] = []  # from, to, and a note on it
        kinds = [*["video"] * picture, *["audio"] * sound]
        self._tracks = [self._choose(kind) for kind in kinds]
        declared_s = (container.duration or 0) / av.time_base
        if clip and declared_s > MAX_DURATION_S:
            most = f"expected at most {MAX_DURATION_S}"
            raise ClipError(f"the file claims {declared_s:.0f} s, {most}")
        # The clock of recorded broadcasts may jump; their length is guessed from its last value.
        self._may_jump = bool(container.format.flags & Flags.ts_discont.value)
        self.declared_s = 0.0 if self._may_jump or container.format.name in _GUESSED else declared_s
        self.has_picture, self.has_sound, self.is_clip = picture, sound, clip  # as it was opened
        # Whether the file says that it belongs to the synthetic sample.
        self.is_synthetic = container.metadata.get("comment") == SAMPLE_COMMENT
        # The time of some formats (MPEG program streams) does not start at 0; that of others does,
        # and has negative times only for what is not shown.
        first_s = (container.start_time or 0) / av.time_base
        self._zero_s = first_s if self._may_jump else max(0.0, first_s)
        self._end_s = 0.0  # of what was read so far
        for track in self._tracks:
            track.codec_context.thread_count = 1  # several files are decoded at the same time
            track.codec_context.options = {"err_detect": "explode"}
        if picture:
            _check_size(self._tracks[0].width, self._tracks[0].height)
            self._rectangle = _crop_rectangle(container, self._tracks[0])
        self._packets = self._demuxed()
        self._waiting = {track.index: deque[av.Packet]() for track in self._tracks}
        self._discarded = self._waiting_bytes = 0
        self._damaged: set[int] = set()  # tracks whose last packets could not be decoded
        self._looks: tuple | None = None  # of the frame for which `_graph` and `_shown` are

    def _choose(self, kind: str) -> Stream:
        """The track that players take: the default one, or the first, of those with a decoder."""
        tracks = [track for track in self._container.streams if track.type == kind]
        tracks = [track for track in tracks if not track.disposition & Disposition.attached_pic]
        if not tracks:
            raise ClipError(f"the file contains no {kind} track")
        tracks.sort(key=lambda track: not track.disposition & Disposition.default)
        known = [track for track in tracks if track.codec_context is not None]
        if not known:
            raise ClipError(f"the {kind} track has an unknown codec")
        if known[0] is not tracks[0]:
            self._notes[f"the default {kind} track has an unknown codec: another was used"] = None
        return known[0]

    def length_s(self, most_s: float) -> float:
        """The length in seconds as declared; or, where it is not, as read, up to `most_s` or so."""
        while not self.declared_s and self._end_s <= most_s and next(self._packets, None):
            pass
        return self.declared_s or self._end_s

    def notes(self, start_s: float, end_s: float) -> tuple[str, ...]:
        """What was unusual so far between two times; the next call is for a later start."""
        self._gaps = [gap for gap in self._gaps if gap[1] > start_s]
        return (*self._notes, *(note for gap_s, _, note in self._gaps if gap_s < end_s))

    def frames(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield each frame as decoded, not yet as `shown`, with its time in seconds.

        Damaged frames are left out, up to the next one that can be decoded by itself. ClipError if
        the picture is missing for a minute, or is damaged in a clip.
        """
        track = self._tracks[0]
        count, previous_s = 0, 0.0
        for frame in self._decoded(track):
            _check_size(frame.width, frame.height)
            if frame.time is None:
                raise ClipError(f"frame {count} has no time stamp")
            time_s = frame.time - self._zero_s
            if time_s - previous_s > MAX_GAP_S:
                raise ClipError(f"the picture is missing for {time_s - previous_s:.0f} s")
            if track.index in self._damaged:
                self._damaged.remove(track.index)
                note = f"the picture is damaged from {previous_s:.2f} to {time_s:.2f} s"
                self._gaps.append((previous_s, time_s, note))
            count, previous_s = count + 1, time_s
            yield time_s, frame
        # An edit list hides frames that the header counts.
        declared = track.frames - self._discarded
        if self.is_clip and track.frames and count != declared:
            raise ClipError(f"{count} frames could be read, of {declared} declared: it is cut off")
        if not count:
            raise ClipError("no frame could be read from the video track")

    def sound(self, delay_s: float = 0.0) -> Iterator[np.ndarray]:
        """Yield the sound from the start of the file on, after a silence of `delay_s`, in pieces.

        Where sound is missing there is silence, and where pieces overlap the later one is cut; a
        clip with such places is refused. ClipError if it is damaged, or missing for a minute.

        Yields:
            float32 (samples,) in -1..1, mono at 44.1 kHz.
        """
        resampler: soxr.ResampleStream | None = None
        for rate_hz, samples in self._mono(delay_s):
            # In pieces, soxr returns the same samples as for the whole sound at once.
            if resampler is None:
                resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, "float32", "HQ")
            yield resampler.resample_chunk(samples)
        if resampler is None:
            raise ClipError("no sound could be read from the audio track")
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)

    def _mono(self, delay_s: float) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the rate in Hz and the samples of each piece. See `sound`."""
        track = self._tracks[-1]
        looks = to_float = None
        rate_hz = count = 0  # samples so far, at that rate
        for frame in self._decoded(track):
            if frame.time is None:
                raise ClipError("a piece of sound has no time stamp")
            rate_hz = rate_hz or frame.sample_rate
            if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
                expected = f"expected {MIN_RATE_HZ} to {MAX_RATE_HZ}"
                raise ClipError(f"the sound has {rate_hz} samples per second, {expected}")
            if frame.sample_rate != rate_hz:
                raise ClipError(f"the sound changes from {rate_hz} to {frame.sample_rate} Hz")
            # Put the piece where its time stamp says, unless that is off by a trifle.
            gap = round((frame.time - self._zero_s + delay_s) * rate_hz) - count
            if count and abs(gap) <= SOUND_JITTER_S * rate_hz:
                gap = 0
            self._check_gap(gap / rate_hz, count / rate_hz)
            if looks != (looks := (frame.format.name, frame.layout.name)):
                to_float = av.AudioResampler(format="flt")  # PyAV crashes on eight planes
            mono = np.concatenate([self._mixed(part) for part in to_float.resample(frame)])
            if not np.isfinite(mono).all():
                raise ClipError("the sound contains NaN or Inf")
            mono = np.pad(mono, (gap, 0)) if gap > 0 else mono[-gap:]
            count += len(mono)
            yield rate_hz, mono
        # In a video, the frames are counted instead; its sound may well be shorter than declared.
        declared_s = float((track.duration or 0) * track.time_base) + delay_s
        is_recording = not self._container.streams.video
        if self.is_clip and is_recording and count < (declared_s - SOUND_JITTER_S) * rate_hz:
            raise ClipError(
                f"{count / rate_hz:.2f} s of sound could be read, the file declares "
                f"{declared_s:.2f} s: it is cut off or damaged"
            )

    def _check_gap(self, gap_s: float, end_s: float) -> None:
        """Raise ClipError if too much sound is missing (or overlaps, below 0) at `end_s`."""
        if gap_s > MAX_GAP_S:
            raise ClipError(f"the sound is missing for {gap_s:.0f} s")
        if self.is_clip and end_s and gap_s:
            raise ClipError(f"the sound jumps from {end_s:.2f} s to {end_s + gap_s:.2f} s")
        if self.is_clip and gap_s > OFFSET_S:
            raise ClipError(f"the sound starts at {gap_s:.2f} s, expected {OFFSET_S} s at most")
        if gap_s > SOUND_JITTER_S:
            note = f"the sound is missing from {end_s:.2f} to {end_s + gap_s:.2f} s"
            self._gaps.append((end_s, end_s + gap_s, note))

    def _mixed(self, frame: av.AudioFrame) -> np.ndarray:
        """A piece of sound, packed float32, as mono, float32 (samples,)."""
        layout = frame.layout
        planes = frame.to_ndarray().reshape(-1, layout.nb_channels).T
        if len(planes) > 2:
            self._notes[f"{len(planes)} channels of sound ({layout.name}) are mixed"] = None
            if layout.name.endswith("channels"):  # the file does not say which
                layout = av.AudioLayout(f"{len(planes)}c")
            shares = [_SHARES.get(channel.name, _OTHERS) for channel in layout.channels]
            return np.float32(shares) @ planes
        mono = planes.mean(axis=0, dtype=np.float32)
        half = (planes[0] - planes[-1]) / 2
        if mono @ mono < _CANCELS * (half @ half):
            self._notes["the right channel of the sound is inverted: it was turned back"] = None
            return half
        return mono

    def _decoded(self, track: Stream) -> Iterator[av.VideoFrame | av.AudioFrame]:
        """Yield what a track decodes to, in one pass over the file for both tracks.

        Packets of the other track wait until it is read, still compressed.
        """
        waiting = self._waiting[track.index]
        while waiting or (packet := next(self._packets, None)):
            if not waiting:
                self._waiting[packet.stream.index].append(packet)
                self._waiting_bytes += packet.size
                if self._waiting_bytes > MAX_BYTES:
                    raise ClipError("picture and sound are too far apart in the file")
                continue
            packet = waiting.popleft()
            self._waiting_bytes -= packet.size
            self._discarded += track.type == "video" and packet.is_discard
            # After damage, pictures are wrong up to the next one that builds on no other.
            is_lost = track.index in self._damaged and track.type == "video"
            if is_lost and packet.size and not packet.is_keyframe:
                continue
            is_damaged = packet.is_corrupt and not self.is_clip  # a part of it is missing
            with self._bounded.call():
                try:
                    frames = [] if is_damaged else packet.decode()
                except av.FFmpegError as exc:
                    if self.is_clip or isinstance(exc, MemoryError):
                        raise
                    is_damaged = True
            if is_damaged:
                self._damaged.add(track.index)
                track.codec_context.flush_buffers()
                continue
            yield from frames

    def _demuxed(self) -> Iterator[av.Packet]:
        """Yield the packets of the chosen tracks, on one clock that goes on where it jumps."""
        packets = self._container.demux()
        shift_s, shifts_s = 0.0, defaultdict[int, float](float)  # the latest; of each track
        ends_s: dict[int, float] = {}
        while True:
            with self._bounded.call():
                packet = next(packets, None)
            if packet is None:
                return
            track, time_base = packet.stream, packet.time_base
            if len(track.index_entries) > MAX_INDEX:
                raise ClipError(f"the file claims more than {MAX_INDEX} frames")
            if track.type in ("video", "audio") and packet.dts is not None:
                time_s = float(packet.dts * time_base)
                if self._may_jump and track.index in ends_s:
                    # Its own shift still fits, or that of a track that jumped before, or a new one.
                    late_s = time_s - ends_s[track.index]
                    shifts = shifts_s[track.index], shift_s, -late_s
                    fitting = [each for each in shifts if -_BACK_S <= late_s + each <= _FORTH_S]
                    shifts_s[track.index] = fitting[0]
                    if len(fitting) == 1:
                        shift_s, at_s = -late_s, ends_s[track.index] - self._zero_s
                        note = f"the clock of the file jumps at {at_s:.2f} s"
                        self._gaps.append((at_s, at_s, f"{note}: taken as one recording"))
                ticks = round(shifts_s[track.index] / time_base)
                packet.dts += ticks
                if packet.pts is not None:
                    packet.pts += ticks
                length_s = float((packet.duration or 0) * time_base)
                ends_s[track.index] = time_s + shifts_s[track.index] + length_s
                end_s = max(self._end_s, ends_s[track.index] - self._zero_s)
                self._bounded.left_s += WORK_S * min(end_s - self._end_s, MAX_GAP_S)
                self._end_s = end_s
                if self.is_clip and end_s > MAX_DURATION_S:
                    raise ClipError(f"longer than {MAX_DURATION_S} s, expected one short clip")
            if track in self._tracks:
                yield packet

    def shown(self, frame: av.VideoFrame) -> tuple[av.VideoFrame, tuple[str, ...]]:
        """A frame as the file says that it is to be shown, and notes on what that took.

        It is cut to the crop rectangle, upright, of square pixels and not HDR; and in a format of
        which any part can be cut out. ClipError if that is not possible.
        """
        if frame.color_trc not in _HDR:  # others are no reason to convert, whatever they are
            frame.color_trc = frame.color_primaries = ColorTrc.UNSPECIFIED
        matrix = bytes(frame.side_data.get("DISPLAYMATRIX") or b"")
        looks = frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_trc
        with self._bounded.call():
            if self._looks != (looks := (*looks, matrix)):
                aspect = self._tracks[0].sample_aspect_ratio or Fraction(1)
                filters, notes = _to_show(frame, matrix, aspect, self._rectangle)
                graph = filter_graph(frame, *filters)[0] if filters else None
                self._looks, self._graph, self._shown = looks, graph, notes
            if self._graph is not None:
                self._graph.push(frame)
                frame = self._graph.pull()
        return frame, self._shown


def _to_show(
    frame: av.VideoFrame, matrix: bytes, aspect: Fraction, rectangle: tuple[int, ...]
) -> tuple[list[tuple[str, str | None]], tuple[str, ...]]:
    """The filters for `Video.shown`, and notes.

    The file declares a display matrix (nine int32, or nothing), the aspect of a pixel (its width by
    its height), and how many pixels to cut off on the left, right, top and bottom.
    """
    filters: list[tuple[str, str | None]] = []
    notes = []
    if frame.colorspace not in _MATRICES:
        raise ClipError(f"the colors have matrix {frame.colorspace}, expected one of {_MATRICES}")
    if curve := _HDR.get(frame.color_trc):  # with `full_chroma_int`, swscale gets its colors wrong
        smooth = SCALING.replace("+full_chroma_int", "")
        filters.append(("scale", f"flags={smooth}:out_transfer=bt709:out_primaries=bt709"))
        notes.append(f"converted from HDR ({curve}) to BT.709")
    elif frame.format.name not in _SIMPLE:
        filters.append(("scale", f"flags={SCALING}"))
    filters += [("format", "rgb24")] * len(filters)
    left, right, top, bottom = rectangle
    width, height = frame.width - left - right, frame.height - top - bottom
    if any(rectangle):
        filters.append(("crop", f"{width}:{height}:{left}:{top}:exact=1"))
        notes.append(f"cut to the {width}x{height} pixels that the file shows")
    if abs(aspect - 1) > 0.01:  # enlarge the shorter side
        width, height = round(width * max(aspect, 1)), round(height / min(aspect, 1))
        filters.append(("scale", f"{width}:{height}:flags={SCALING}"))
        notes.append(f"pixels of {aspect.numerator}:{aspect.denominator} made square")
    _check_size(width, height)
    if matrix:
        # A point (x, y) of the picture is shown at (ax + cy, bx + dy).
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        is_turned = abs(b) > abs(a)
        across, down = (c, b) if is_turned else (a, d)
        if max(map(abs, (a, d) if is_turned else (b, c))) > 0.01 * abs(across):
            turned = f"the picture is turned by {frame.rotation} degrees"
            raise ClipError(f"{turned}, expected a multiple of 90")
        filters += [("transpose", "cclock_flip")] * is_turned
        filters += [("hflip", None)] * (across < 0) + [("vflip", None)] * (down < 0)
        if a * d < b * c:
            notes.append("mirrored")
        elif angle := frame.rotation % 360:
            notes.append(f"turned by {angle} degrees")
    return filters, tuple(notes)


def _crop_rectangle(container: InputContainer, track: Stream) -> tuple[int, ...]:
    """What the container cuts off a picture on the left, right, top and bottom, in pixels."""
    # FFmpeg leaves this to its caller, and PyAV only shows it in the description of a file.
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        described = container.dumps_format()
    finally:
        av.logging.set_level(level)
    own = described.partition(f"Stream #0:{track.index}")[2].partition("Stream #")[0]
    found = re.search(r"\n +Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)", own)
    return tuple(map(int, found.groups())) if found else (0, 0, 0, 0)


def filter_graph(
    frame: av.VideoFrame, *filters: tuple[str, str | None]
) -> tuple[av.filter.Graph, list[av.filter.context.FilterContext]]:
    """A chain of filters, given by name and argument, for frames like this one; and its nodes."""
    graph = av.filter.Graph()
    graph.threads = 1
    looks = {"width": frame.width, "height": frame.height, "format": frame.format.name}
    source = graph.add_buffer(**looks, time_base=frame.time_base or Fraction(1, 1000))
    nodes = [graph.add(name, argument) for name, argument in (*filters, ("buffersink", None))]
    graph.link_nodes(source, *nodes).configure()
    return graph, nodes


def _check_size(width: int, height: int) -> None:
    """Raise ClipError for a picture of a size that no camera records."""
    if min(width, height) < 1:
        raise ClipError("the video has no size, or claims one that no decoder takes")
    if width * height > MAX_PIXELS or max(width, height) > MAX_ASPECT * min(width, height):
        raise ClipError(
            f"the video claims {width}x{height} pixels, expected at most {MAX_PIXELS}, and no side "
            f"longer than {MAX_ASPECT} times the other"
        )
