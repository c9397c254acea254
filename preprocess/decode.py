"""A video or sound file to its frames and its sound, for training and prediction alike.

A clip for training must be whole and ordinary, because a cache is made once and used by many.
`clip=True` refuses what a prediction accepts: any length, late tracks, gaps in the sound.
"""

import io
import math
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import soxr
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition, Stream

from cache.schema import OFFSET_S, SAMPLE_RATE_HZ
from preprocess import limits
from preprocess.limits import MAX_DURATION_S, MAX_GAP_S, BoundedFile, ClipError, check_size
from preprocess.shown import Display

# Time stamps of sound may be wrong by this much; more is a gap or an overlap.
SOUND_JITTER_S = 0.02

# The comment in the metadata of every clip of the synthetic sample.
SAMPLE_COMMENT = "synthetic sample drawn by CFN-SR"

# Formats that keep everything in one file. Playlists (HLS, DASH, concat) are not among them,
# because they make the decoder open other files and addresses.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,flv,asf,ogg"
_FORMATS += ",wav,flac,mp3,aac"

# Formats whose duration FFmpeg guesses, as it does for all whose clock may jump.
_GUESSED = ("mp3", "aac", "mpegvideo")

# From one packet to the next, a clock may jump back or forth by these seconds. Beyond them,
# another recording follows, or the clock started over.
_BACK_S, _FORTH_S = 0.5, 10.0

# ITU-R BS.775: what each channel adds if many are mixed to two, and these to their mean.
_SHARES = {"FL": 0.5, "FR": 0.5, "FC": math.sqrt(0.5), "LFE": 0.0, "LFE2": 0.0}
_OTHERS = 0.5 * math.sqrt(0.5)

# Two channels cancel out if their mean has less than this share of the power of their difference.
_CANCELS = 0.01


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
        bounded = BoundedFile(file)
        with bounded.call(f". Formats that are read: {_FORMATS.replace(',', ', ')}"):
            container = av.open(bounded, options=options)
        with container:
            yield Video(container, bounded, picture, sound, clip)


class Video:
    """An open file. Picture and sound can each be read once, from front to end."""

    def __init__(
        self,
        container: InputContainer,
        bounded: BoundedFile,
        picture: bool,
        sound: bool,
        clip: bool,
    ):
        self._container, self._bounded = container, bounded
        self._notes: dict[str, tuple[float, float]] = {}  # each with its start and end in seconds
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
        for track in self._tracks:
            track.codec_context.thread_count = 1  # several files are decoded at the same time
            track.codec_context.options = {"err_detect": "explode"}
        if picture:
            check_size(self._tracks[0].width, self._tracks[0].height)
            self._display = Display(container, self._tracks[0])
        self._end_s = 0.0  # of what was read so far
        self._ends_s: dict[int, float] = {}  # of each track, on its clock
        self._shift_s, self._shifts_s = 0.0, defaultdict[int, float](float)  # latest; of each track
        self._packets = self._demuxed()
        self._waiting = {track.index: deque[av.Packet]() for track in self._tracks}
        self._discarded = self._waiting_bytes = 0
        self._damaged: set[int] = set()  # tracks whose last packets could not be decoded

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
            self._note(f"the default {kind} track has an unknown codec: another was used")
        return known[0]

    def _note(self, note: str, start_s: float = 0.0, end_s: float = math.inf) -> None:
        self._notes[note] = start_s, end_s

    def notes(self, start_s: float, end_s: float) -> tuple[str, ...]:
        """What was unusual so far between two times; the next call is for a later start."""
        self._notes = {note: span for note, span in self._notes.items() if span[1] > start_s}
        return tuple(note for note, span in self._notes.items() if span[0] < end_s)

    def length_s(self, most_s: float) -> float:
        """The length in seconds as declared; or, where it is not, as read, up to `most_s` or so."""
        while not self.declared_s and self._end_s <= most_s and next(self._packets, None):
            pass
        return self.declared_s or self._end_s

    def frames(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield each frame as decoded, not yet as `shown`, with its time in seconds.

        Damaged frames are skipped, up to the next one that can be decoded by itself. ClipError if
        the picture is missing for a minute, or is damaged in a clip.
        """
        track = self._tracks[0]
        count, previous_s = 0, 0.0
        for frame in self._decoded(track):
            check_size(frame.width, frame.height)
            if frame.time is None:
                raise ClipError(f"frame {count} has no time stamp")
            time_s = frame.time - self._zero_s
            if time_s - previous_s > MAX_GAP_S:
                raise ClipError(f"the picture is missing for {time_s - previous_s:.0f} s")
            if track.index in self._damaged:
                self._damaged.remove(track.index)
                note = f"the picture is damaged from {previous_s:.2f} to {time_s:.2f} s"
                self._note(note, previous_s, time_s)
            count, previous_s = count + 1, time_s
            yield time_s, frame
        # An edit list hides frames that the header counts.
        declared = track.frames - self._discarded
        if self.is_clip and track.frames and count != declared:
            raise ClipError(
                f"only {count} of {declared} declared frames could be read: it is cut off"
            )
        if not count:
            raise ClipError("no frame could be read from the video track")

    def shown(self, frame: av.VideoFrame) -> tuple[av.VideoFrame, tuple[str, ...]]:
        """A frame as the file says that it is to be shown, and notes on what that took.

        It is cut to the crop rectangle, upright, of square pixels and not HDR; and in a format of
        which any part can be cut out. ClipError if that is not possible.
        """
        with self._bounded.call():
            return self._display.shown(frame)

    def sound(self, delay_s: float = 0.0) -> Iterator[np.ndarray]:
        """Yield the sound in pieces, float32 (samples,) in -1..1, mono at 44.1 kHz.

        It starts with the file, after a silence of `delay_s`. Where sound is missing there is
        silence, and where pieces overlap the later one is cut; a clip with such places is refused.
        ClipError if it is damaged, or missing for a minute.
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
            if not limits.MIN_RATE_HZ <= rate_hz <= limits.MAX_RATE_HZ:
                expected = f"expected {limits.MIN_RATE_HZ} to {limits.MAX_RATE_HZ}"
                raise ClipError(f"the sound has {rate_hz} samples per second, {expected}")
            if frame.sample_rate != rate_hz:
                raise ClipError(f"the sound changes from {rate_hz} to {frame.sample_rate} Hz")
            # Put the piece where its time stamp says, unless the difference is tiny.
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
            self._note(note, end_s, end_s + gap_s)

    def _mixed(self, frame: av.AudioFrame) -> np.ndarray:
        """A piece of sound, packed float32, as mono, float32 (samples,)."""
        layout = frame.layout
        planes = frame.to_ndarray().reshape(-1, layout.nb_channels).T
        if len(planes) > 2:
            self._note(f"{len(planes)} channels of sound ({layout.name}) are mixed")
            if layout.name.endswith("channels"):  # the file does not say which
                layout = av.AudioLayout(f"{len(planes)}c")
            shares = [_SHARES.get(channel.name, _OTHERS) for channel in layout.channels]
            return np.float32(shares) @ planes
        mono = planes.mean(axis=0, dtype=np.float32)
        half = (planes[0] - planes[-1]) / 2
        if mono @ mono < _CANCELS * (half @ half):
            self._note("the right channel of the sound is inverted: it was turned back")
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
                if self._waiting_bytes > limits.MAX_BYTES:
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
        """Yield the packets of the chosen tracks, on one clock that continues where it jumps."""
        packets = self._container.demux()
        while True:
            with self._bounded.call():
                packet = next(packets, None)
            if packet is None:
                return
            if len(packet.stream.index_entries) > limits.MAX_INDEX:
                raise ClipError(f"the file claims more than {limits.MAX_INDEX} frames")
            if packet.stream.type in ("video", "audio") and packet.dts is not None:
                self._shift(packet)
            if packet.stream in self._tracks:
                yield packet

    def _shift(self, packet: av.Packet) -> None:
        """Put a packet on the common clock, and allow the time that reading on may take."""
        track, time_s = packet.stream.index, float(packet.dts * packet.time_base)
        if self._may_jump and track in self._ends_s:
            # Its own shift still fits, or that of a track that jumped before, or a new one.
            late_s = time_s - self._ends_s[track]
            shifts = self._shifts_s[track], self._shift_s, -late_s
            fitting = [each for each in shifts if -_BACK_S <= late_s + each <= _FORTH_S]
            self._shifts_s[track] = fitting[0]
            if len(fitting) == 1:
                self._shift_s, at_s = -late_s, self._ends_s[track] - self._zero_s
                note = f"the clock of the file jumps at {at_s:.2f} s"
                self._note(f"{note}: taken as one recording", at_s, at_s)
        ticks = round(self._shifts_s[track] / packet.time_base)
        packet.dts += ticks
        if packet.pts is not None:
            packet.pts += ticks
        length_s = float((packet.duration or 0) * packet.time_base)
        self._ends_s[track] = time_s + self._shifts_s[track] + length_s
        end_s = max(self._end_s, self._ends_s[track] - self._zero_s)
        self._bounded.left_s += limits.WORK_S * min(end_s - self._end_s, MAX_GAP_S)
        self._end_s = end_s
        if self.is_clip and end_s > MAX_DURATION_S:
            raise ClipError(f"longer than {MAX_DURATION_S} s, expected one short clip")
