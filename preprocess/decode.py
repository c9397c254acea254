"""From the bytes of a video file to its frames and its sound."""

import io
from dataclasses import dataclass

import av
import numpy as np

from cache.schema import DURATION_S, FRAME_COUNT, OFFSET_S
from preprocess.settings import SHORTFALL_S

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 4096 * 2304
MAX_DURATION_S = 60.0
MAX_FRAMES = 7200
MAX_ASPECT = 4

# Time stamps of sound may be off by this much; more is a gap or an overlap.
SOUND_JITTER_S = 0.02

# Containers that hold one clip in one file. Play lists (HLS, DASH, concat) are not among them,
# because they make the decoder open other files and addresses.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg"


class ClipError(ValueError):
    """A clip cannot be used; the message is the reason that `failures.json` gives."""


@dataclass(frozen=True)
class Decoded:
    """What a clip shows and says.

    Attributes:
        frames: 30 frames as decoded (so not yet RGB, which takes twice the memory and is needed
            of a part only), in the middle of 30 equal parts of 0.5 s .. 2.95 s.
        frame_index: uint16 (30,), the number of each frame in the video, from 0.
        sound: float32 (channels, samples), from the clip's time zero on; None if not asked for.
        rate_hz: of the sound.
        notes: what had to be repeated or was odd, for the manifest.
        drawn: whether the file says of itself that it is of the synthetic sample.
    """

    frames: list[av.VideoFrame]
    frame_index: np.ndarray
    sound: np.ndarray | None
    rate_hz: int
    notes: tuple[str, ...]
    drawn: bool


# What turns a picture upright, by the degrees counterclockwise that its file asks for.
_TURNS = {
    0: (),
    90: (("transpose", "cclock"),),
    180: (("hflip", None), ("vflip", None)),
    270: (("transpose", "clock"),),
}

# What every clip of the synthetic sample carries as its comment.
SAMPLE_COMMENT = "synthetic sample drawn by CFN-SR"


def frame_times_s() -> np.ndarray:
    """When the 30 frames are taken, float64 (30,) in seconds of the clip.

    Differs from the paper: it takes frames from the whole video and sound from 0.5 s .. 2.95 s;
    we take both from the same 2.45 s, so that face and voice belong together.
    """
    return OFFSET_S + (np.arange(FRAME_COUNT) + 0.5) * (DURATION_S / FRAME_COUNT)


def decode(content: bytes, *, with_sound: bool = True) -> Decoded:
    """Decode a clip once, from front to end, picture and sound.

    Args:
        content: the bytes of a video file (mp4 and a few other containers).
        with_sound: False leaves the sound out, and a file without any will do.

    Raises:
        ClipError: if the file is no video, is damaged or cut off, is far from a RAVDESS clip in
            size, has no picture or no sound, or is more than 0.25 s too short.
    """
    if len(content) > MAX_BYTES:
        raise ClipError(f"{len(content)} bytes, expected at most {MAX_BYTES}: not one short clip")
    options = {"err_detect": "explode", "format_whitelist": _CONTAINERS}
    try:
        with av.open(io.BytesIO(content), options=options) as container:
            return _decode(container, with_sound)
    except av.FFmpegError as exc:
        raise ClipError(f"not a readable video: {exc.strerror or exc}") from exc


def _decode(container: av.container.InputContainer, with_sound: bool) -> Decoded:
    if not container.streams.video:
        raise ClipError("no picture in the file, expected one video track")
    if with_sound and not container.streams.audio:
        raise ClipError("no sound in the file, expected an audio track (a full-AV clip has one)")
    video = container.streams.video[0]
    audio = container.streams.audio[0] if with_sound else None
    streams = [stream for stream in (video, audio) if stream is not None]
    check_picture(video)
    duration_s = (container.duration or 0) / av.time_base
    if duration_s > MAX_DURATION_S:
        raise ClipError(f"the file claims {duration_s:.0f} s, expected at most {MAX_DURATION_S} s")
    zero = zero_s(container)
    picked = FramePicker(frame_times_s() + zero)
    heard = _SoundCollector(zero)
    for stream in streams:
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode"}
    discarded = 0  # an edit list hides frames that the header still counts
    for packet in container.demux(streams):
        discarded += packet.stream is video and packet.is_discard
        for frame in packet.decode():
            if isinstance(frame, av.VideoFrame):
                picked.see(frame)
            else:
                heard.hear(frame)
    if video.frames and picked.seen != video.frames - discarded:
        raise ClipError(
            f"{picked.seen} frames could be read, the file declares {video.frames - discarded}: "
            "it is cut off or damaged"
        )
    if not picked.seen:
        raise ClipError("no frame could be read from the video track")
    frames, frame_index, notes = picked.finish()
    drawn = container.metadata.get("comment") == SAMPLE_COMMENT
    if audio is None:
        return Decoded(frames, frame_index, None, 0, notes, drawn)
    sound = heard.finish()
    return Decoded(frames, frame_index, sound, heard.rate_hz, notes, drawn)


def zero_s(container: av.container.InputContainer) -> float:
    """Where the time of a file starts; that of some (MPEG program streams) does not at zero."""
    return max(0, container.start_time or 0) / av.time_base


def check_picture(video: av.VideoStream) -> None:
    """Raise ClipError for pictures of a size that no camera makes."""
    width, height = video.codec_context.width, video.codec_context.height
    if not width * height:
        raise ClipError("the video has no size, or claims one that no decoder takes")
    if width * height > MAX_PIXELS or max(width, height) > MAX_ASPECT * min(width, height):
        raise ClipError(
            f"the video claims {width}x{height} pixels, expected {MAX_PIXELS} at most and no side "
            f"{MAX_ASPECT} times the other"
        )


class FramePicker:
    """Sees every frame in turn and keeps those on the screen at the wanted times.

    A frame that is on the screen at two of them is kept twice.

    Args:
        times_s: in the time of the file, rising.
    """

    def __init__(self, times_s: np.ndarray):
        self._missing = list(times_s)
        self._previous: av.VideoFrame | None = None
        self._frames: list[av.VideoFrame] = []
        self._indices: list[int] = []
        self.seen = 0

    def see(self, frame: av.VideoFrame) -> None:
        if frame.time is None:
            raise ClipError(f"frame {self.seen} has no time stamp")
        if self.seen == MAX_FRAMES:
            raise ClipError(f"more than {MAX_FRAMES} frames: not one short clip")
        if frame.width * frame.height > MAX_PIXELS:
            raise ClipError(f"frame {self.seen} has {frame.width}x{frame.height} pixels")
        if self._previous is None and frame.time > self._missing[0]:
            raise ClipError(
                f"the video starts at {frame.time:.2f} s, its first frame is due at "
                f"{self._missing[0]:.2f} s"
            )
        if self._previous is not None:
            while self._missing and self._missing[0] < frame.time:
                self._keep()
        self._previous = frame
        self.seen += 1

    @property
    def is_full(self) -> bool:
        """Whether the frames of all times are there."""
        return not self._missing

    def finish(self) -> tuple[list[av.VideoFrame], np.ndarray, tuple[str, ...]]:
        """The kept frames, their indices, and notes on what was repeated at the end."""
        last = self._previous
        end_s = last.time + float(last.duration or 0) * float(last.time_base)
        late = [time_s for time_s in self._missing if time_s > end_s]
        if late and late[-1] - end_s > SHORTFALL_S:
            raise ClipError(
                f"the video ends at {end_s:.2f} s, expected at least {late[-1] - SHORTFALL_S:.2f} s"
            )
        notes = (f"video ends at {end_s:.3f} s: last frame repeated {len(late)} times",)
        while self._missing:
            self._keep()
        sizes = {(frame.width, frame.height, frame.format.name) for frame in self._frames}
        if len(sizes) > 1:
            raise ClipError(f"the picture changes within the clip: {sorted(sizes)}")
        turned = {frame.rotation % 360 for frame in self._frames}
        if len(turned) > 1:
            raise ClipError(f"the picture is turned by {sorted(turned)} degrees within the clip")
        angle = turned.pop()
        frames = [upright(frame) for frame in self._frames]
        notes = (*(notes if late else ()), *((f"turned by {angle} degrees",) if angle else ()))
        return frames, np.array(self._indices, np.uint16), notes

    def _keep(self) -> None:
        self._missing.pop(0)
        self._frames.append(self._previous)
        self._indices.append(self.seen - 1)


def upright(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame as it is to be shown; a telephone held upright writes its pictures lying.

    Raises:
        ClipError: if it is turned by no quarter turn.
    """
    angle = frame.rotation % 360
    if angle not in _TURNS:
        raise ClipError(f"the picture is turned by {angle} degrees, no quarter turn")
    if angle == 0:
        return frame
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format.name,
        time_base=frame.time_base,
    )
    turn = [graph.add(name, argument) for name, argument in _TURNS[angle]]
    graph.link_nodes(source, *turn, graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.pull()


class _SoundCollector:
    """Hears every piece of sound in turn and joins them from the clip's time zero on."""

    def __init__(self, zero_s: float):
        self._zero_s = zero_s
        self._start_s: float | None = None
        self._pieces: list[np.ndarray] = []
        self._count = 0
        self._to_float = av.AudioResampler(format="fltp")
        self.rate_hz = 0

    def hear(self, frame: av.AudioFrame) -> None:
        if frame.time is None:
            raise ClipError("a piece of sound has no time stamp")
        if self._start_s is None:
            self._start_s, self.rate_hz = frame.time, frame.sample_rate
            if frame.time - self._zero_s > OFFSET_S:
                raise ClipError(
                    f"the sound starts at {frame.time - self._zero_s:.2f} s, "
                    f"expected {OFFSET_S} s at most"
                )
        due_s = self._start_s + self._count / self.rate_hz
        if abs(frame.time - due_s) > SOUND_JITTER_S or frame.sample_rate != self.rate_hz:
            raise ClipError(
                f"the sound jumps from {due_s:.2f} s to {frame.time:.2f} s, or changes its rate"
            )
        self._count += frame.samples
        if self._count > MAX_DURATION_S * self.rate_hz:
            raise ClipError(f"the sound is longer than {MAX_DURATION_S:.0f} s: not one short clip")
        self._pieces += [part.to_ndarray() for part in self._to_float.resample(frame)]

    def finish(self) -> np.ndarray:
        """float32 (channels, samples), shifted where it starts before or after zero."""
        if not self._pieces:
            raise ClipError("no sound could be read from the audio track")
        waves = np.concatenate(self._pieces, axis=1).astype(np.float32, copy=False)
        lead = round((self._start_s - self._zero_s) * self.rate_hz)
        return np.pad(waves, ((0, 0), (lead, 0))) if lead > 0 else waves[:, -lead:]
