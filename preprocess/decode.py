"""A video or sound file to its frames and its sound, for training and prediction alike.

A clip for training must be whole and ordinary, because a cache is made once and used by many.
`clip=True` refuses what a prediction accepts: any length, late tracks, gaps in the sound.
"""

import io
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soxr

from cache.schema import OFFSET_S, SAMPLE_RATE_HZ

# Limits of a clip.
MAX_BYTES = 256 * 2**20
MAX_DURATION_S = 60
MAX_FRAMES = 7200

# Limits of every file. Beyond them, a small hostile file could claim any amount of memory or time.
MAX_PIXELS = 4096 * 2304
MAX_ASPECT = 4
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_GAP_S = 60

# Time stamps of sound may be wrong by this much; more is a gap or an overlap.
SOUND_JITTER_S = 0.02

# The comment in the metadata of every clip of the synthetic sample.
SAMPLE_COMMENT = "synthetic sample drawn by CFN-SR"

# Formats that keep everything in one file. Playlists (HLS, DASH, concat) are not among them,
# because they make the decoder open other files and addresses.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,flv,asf,ogg,wav,flac,mp3,aac"
)

# The filters that turn a picture upright, by the rotation in degrees that its file declares.
_TURNS = {
    90: (("transpose", "cclock"),),
    180: (("hflip", None), ("vflip", None)),
    270: (("transpose", "clock"),),
}


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
        with _decoder_errors(f". Formats that are read: {_FORMATS.replace(',', ', ')}"):
            container = av.open(file, options=options)
        with container:
            yield Video(container, picture, sound, clip)


class Video:
    """An open file. Picture and sound can each be read once, from front to end."""

    def __init__(
        self, container: av.container.InputContainer, picture: bool, sound: bool, clip: bool
    ):
        streams = container.streams
        if picture and not streams.video:
            raise ClipError("the file contains no video track")
        if sound and not streams.audio:
            raise ClipError("the file contains no audio track")
        declared_s = (container.duration or 0) / av.time_base
        if clip and declared_s > MAX_DURATION_S:
            most = f"expected at most {MAX_DURATION_S}"
            raise ClipError(f"the file claims {declared_s:.0f} s, {most}")
        self.has_picture, self.has_sound, self.is_clip = picture, sound, clip  # as it was opened
        # Whether the file says that it belongs to the synthetic sample.
        self.is_synthetic = container.metadata.get("comment") == SAMPLE_COMMENT
        self._container = container
        # The time of some formats (MPEG program streams) does not start at 0.
        self._zero_s = max(0, container.start_time or 0) / av.time_base
        self._tracks = [*streams.video[:picture], *streams.audio[:sound]]
        for track in self._tracks:
            if track.codec_context is None:
                raise ClipError(f"the {track.type} track has an unknown codec")
            track.codec_context.thread_count = 1  # several files are decoded at the same time
            track.codec_context.options = {"err_detect": "explode"}
        if picture:
            _check_size(self._tracks[0].codec_context)
        self._demuxed = container.demux(self._tracks)
        self._waiting = {track.index: deque[av.Packet]() for track in self._tracks}
        self._discarded = 0

    def length_s(self) -> float:
        """The length in seconds; the packets tell it if the file does not declare it."""
        if self._container.duration:
            return self._container.duration / av.time_base
        with _decoder_errors():
            ends = [
                float((packet.pts + (packet.duration or 0)) * packet.time_base)
                for packet in self._container.demux()
                if packet.pts is not None and packet.time_base is not None
            ]
        return max(ends, default=0.0) - self._zero_s

    def frames(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield each frame as decoded, not yet upright, with its time in seconds.

        ClipError if the picture is damaged, or is missing for a minute.
        """
        track = self._tracks[0]
        count, previous_s = 0, 0.0
        for frame in self._decoded(track):
            _check_size(frame)
            if frame.time is None:
                raise ClipError(f"frame {count} has no time stamp")
            time_s = frame.time - self._zero_s
            if time_s - previous_s > MAX_GAP_S:
                raise ClipError(f"the picture is missing for {time_s - previous_s:.0f} s")
            if self.is_clip and count == MAX_FRAMES:
                raise ClipError(f"more than {MAX_FRAMES} frames, expected one short clip")
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
        to_float = av.AudioResampler(format="fltp")
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
            parts = [part.to_ndarray() for part in to_float.resample(frame)]
            mono = np.concatenate([part.mean(axis=0, dtype=np.float32) for part in parts])
            if not np.isfinite(mono).all():
                raise ClipError("the sound contains NaN or Inf")
            mono = np.pad(mono, (gap, 0)) if gap > 0 else mono[-gap:]
            count += len(mono)
            if self.is_clip and count > MAX_DURATION_S * rate_hz:
                raise ClipError(f"the sound is longer than {MAX_DURATION_S} s")
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

    def _decoded(self, track: av.stream.Stream) -> Iterator[av.VideoFrame | av.AudioFrame]:
        """Yield what a track decodes to, in one pass over the file for both tracks.

        Packets of the other track wait until it is read, still compressed.
        """
        waiting = self._waiting[track.index]
        with _decoder_errors():
            while waiting or (packet := next(self._demuxed, None)):
                if not waiting:
                    self._waiting[packet.stream.index].append(packet)
                    continue
                packet = waiting.popleft()
                self._discarded += track.type == "video" and packet.is_discard
                yield from packet.decode()


def upright(frame: av.VideoFrame) -> av.VideoFrame:
    """Turn a frame the way it is meant to be shown; phones record portraits sideways.

    ClipError if its rotation is not a multiple of 90 degrees.
    """
    angle = frame.rotation % 360
    if angle == 0:
        return frame
    if angle not in _TURNS:
        raise ClipError(f"the picture is turned by {angle} degrees, expected a multiple of 90")
    graph, _ = filter_graph(frame, *_TURNS[angle])
    graph.push(frame)
    return graph.pull()


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


@contextmanager
def _decoder_errors(advice: str = "") -> Iterator[None]:
    """Turn what the decoder raises into a ClipError, with what to do."""
    try:
        yield
    except av.FFmpegError as exc:
        reason = f"{exc.strerror or exc}{advice}"
        raise ClipError(f"not a readable video or recording: {reason}") from exc


def _check_size(picture: av.VideoCodecContext | av.VideoFrame) -> None:
    """Raise ClipError for a picture of a size that no camera records."""
    width, height = picture.width, picture.height
    if not width * height:
        raise ClipError("the video has no size, or claims one that no decoder takes")
    if width * height > MAX_PIXELS or max(width, height) > MAX_ASPECT * min(width, height):
        raise ClipError(
            f"the video claims {width}x{height} pixels, expected at most {MAX_PIXELS}, and no side "
            f"longer than {MAX_ASPECT} times the other"
        )
