"""A video of any length, as windows that are each as long as what is used of a clip."""

import itertools
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soxr

from cache.schema import DURATION_S, OFFSET_S, SAMPLE_COUNT, SAMPLE_RATE_HZ
from preprocess.decode import (
    SOUND_JITTER_S,
    ClipError,
    FramePicker,
    check_picture,
    frame_times_s,
    upright,
    zero_s,
)
from preprocess.settings import SHORTFALL_S

# A file of no more than this is one clip, of which the network sees what it saw in training.
CLIP_S = 6.0
HOP_S = DURATION_S / 2  # from window to window of a longer one

# Sound and picture may be missing between two pieces, but not for longer than this.
MAX_GAP_S = 60.0

# Fewer different frames than this in a window (6 a second) are no moving face.
FEW_FRAMES = 15

# Rates of sound that recorders write; a file that claims another would take any amount of memory.
LEAST_HZ, MOST_HZ = 4_000, 384_000

# Containers that hold everything in one file, as for clips, and more of them. Play lists are not
# among them, because they make the decoder open other files and addresses.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,flv,asf,ogg,wav,flac,mp3,aac"
)


@dataclass(frozen=True)
class Plan:
    """Where the windows of a file lie: the first at `first_s`, then every `hop_s`; None is alone.

    Times are seconds from the file's time zero; a window lasts 2.45 s.
    """

    first_s: float
    hop_s: float | None

    def starts_s(self) -> Iterator[float]:
        if self.hop_s is None:
            return iter([self.first_s])
        return (self.first_s + number * self.hop_s for number in itertools.count())


def plan(path: Path, hop_s: float | None = None) -> Plan:
    """Choose the windows of a file by its length.

    A file of up to 6 s is one clip: its window starts at 0.5 s as in training, or earlier where it
    would end too soon. A longer one has windows from 0.5 s on.

    Args:
        path: the file.
        hop_s: from window to window; None is half a window, and one window for a clip.

    Raises:
        ClipError: if the file is no video or sound, or is too short for a window.
    """
    with _opened(path) as container:
        length_s = _length_s(container)
    if length_s < DURATION_S - SHORTFALL_S:
        raise ClipError(
            f"lasts {length_s:.2f} s, expected at least {DURATION_S - SHORTFALL_S:.2f} s"
        )
    first_s = OFFSET_S
    if length_s < OFFSET_S + DURATION_S - SHORTFALL_S:
        first_s = max(0.0, length_s - DURATION_S)
    return Plan(first_s, hop_s or (None if length_s <= CLIP_S else HOP_S))


def _length_s(container: av.container.InputContainer) -> float:
    """How long a file lasts; recordings of browsers do not say, so that their packets must."""
    if container.duration:
        return container.duration / av.time_base
    ends = [
        float((packet.pts + (packet.duration or 0)) * packet.time_base)
        for packet in container.demux()
        if packet.pts is not None and packet.time_base is not None
    ]
    return max(ends, default=0.0) - zero_s(container)


def sound_windows(path: Path, windows: Plan) -> Iterator[tuple[np.ndarray, tuple[str, ...]]]:
    """Yield the sound of each window, and what is odd about it.

    The same samples as `audio.cut` takes of a clip. Memory is that of a window, whatever the
    length of the file.

    Args:
        path: a file with sound.
        windows: as from `plan`; those that end more than 0.25 s after the sound are left out.

    Yields:
        float32 (108045,), mono at 44.1 kHz, and notes.

    Raises:
        ClipError: if there is no sound, or it cannot be read.
    """
    pieces = sound_pieces(path)
    kept, origin = np.empty(0, np.float32), 0  # samples, and the number of the first of them
    for start_s in windows.starts_s():
        start = round(start_s * SAMPLE_RATE_HZ)
        while origin + len(kept) < start + SAMPLE_COUNT:
            piece = next(pieces, None)
            if piece is None:
                break
            kept = np.concatenate([kept, piece])
            passed = min(max(start - origin, 0), len(kept))
            kept, origin = kept[passed:], origin + passed
        window = kept[max(start - origin, 0) :][:SAMPLE_COUNT]
        missing = SAMPLE_COUNT - len(window)
        if missing > SHORTFALL_S * SAMPLE_RATE_HZ:
            if start == round(windows.first_s * SAMPLE_RATE_HZ):
                end_s = (origin + len(kept)) / SAMPLE_RATE_HZ
                needed_s = start_s + DURATION_S - SHORTFALL_S
                raise ClipError(f"the sound ends at {end_s:.2f} s, expected {needed_s:.2f} s")
            return
        notes = (f"{missing} zero samples appended to the sound",) if missing else ()
        yield np.pad(window, (0, missing)), notes if window.any() else (*notes, "sound is silent")


@dataclass(frozen=True)
class Picture:
    """The 30 frames of a window as decoded; None where `problem` says why not."""

    frames: list[av.VideoFrame] | None
    notes: tuple[str, ...] = ()
    problem: str | None = None


def picture_windows(path: Path, windows: Plan) -> Iterator[Picture]:
    """Yield the frames of each window, and what is odd about them.

    The same frames as `decode` takes of a clip. Memory is that of a few windows, whatever the
    length of the file.

    Args:
        path: a video.
        windows: as from `plan`; those that end more than 0.25 s after the video are left out.

    Raises:
        ClipError: if there is no picture, it cannot be read, or it is too short for any window.
    """
    with _opened(path) as container:
        video = _picture_track(container)
        check_picture(video)
        zero = zero_s(container)
        wanted = (zero + start_s - OFFSET_S + frame_times_s() for start_s in windows.starts_s())
        upcoming = next(wanted, None)
        under_way: deque[FramePicker] = deque()
        previous, done = None, 0
        for frame in container.decode(video):
            if frame.time is None:
                raise ClipError("a frame has no time stamp")
            gap_s = frame.time - (zero if previous is None else previous.time)
            if gap_s > MAX_GAP_S:
                raise ClipError(f"the picture is missing for {gap_s:.0f} s")
            while upcoming is not None and upcoming[0] < frame.time:
                if previous is None:
                    problem = f"the video starts at {frame.time - zero:.2f} s, within this window"
                    yield Picture(None, problem=problem)
                    done += 1
                else:
                    under_way.append(FramePicker(upcoming))
                    under_way[-1].see(previous)
                upcoming = next(wanted, None)
            for picker in under_way:
                picker.see(frame)
            previous = frame
            while under_way and under_way[0].is_full:
                try:
                    yield _finished(under_way.popleft())
                except ClipError as exc:  # its frames are of two sizes, say; those after it are not
                    yield Picture(None, problem=str(exc))
                done += 1
    if previous is None:
        raise ClipError("no frame could be read from the video track")
    if not under_way and not done:  # it ends before its first frame is due
        under_way.append(FramePicker(upcoming))
        under_way[-1].see(previous)
    for picker in under_way:
        try:
            last = _finished(picker)
        except ClipError:
            if not done:
                raise
            return  # this window, and so those after it, are longer than the video
        yield last
        done += 1


def upright_frames(path: Path) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield all frames of a video as they are to be shown, each with its time in seconds.

    Raises:
        ClipError: if there are none, or they cannot be read.
    """
    with _opened(path) as container:
        zero = zero_s(container)
        for frame in container.decode(_picture_track(container)):
            if frame.time is not None:
                yield frame.time - zero, upright(frame)


def _picture_track(container: av.container.InputContainer) -> av.VideoStream:
    if not container.streams.video:
        raise ClipError("no picture in the file, expected a video track")
    return container.streams.video[0]


def _finished(picker: FramePicker) -> Picture:
    frames, indices, notes = picker.finish()
    different = len(set(indices.tolist()))
    if different < FEW_FRAMES:
        notes += (f"the picture stands still: {different} different frames in {DURATION_S} s",)
    return Picture(frames, notes)


def sound_pieces(path: Path) -> Iterator[np.ndarray]:
    """Yield the sound of a file from its time zero on, piece by piece.

    Where sound is missing there is silence; where pieces overlap, the later one is cut.

    Yields:
        float32 (samples,), mono at 44.1 kHz.

    Raises:
        ClipError: if there is none, or it cannot be read.
    """
    with _opened(path) as container:
        if not container.streams.audio:
            raise ClipError("no sound in the file, expected an audio track")
        zero = zero_s(container)
        to_float = av.AudioResampler(format="fltp")
        stream, rate_hz, heard = None, 0, 0
        for frame in container.decode(container.streams.audio[0]):
            if frame.time is None:
                raise ClipError("a piece of sound has no time stamp")
            if stream is None:
                rate_hz = frame.sample_rate
                if not LEAST_HZ <= rate_hz <= MOST_HZ:
                    raise ClipError(
                        f"the sound has {rate_hz} samples a second, "
                        f"expected {LEAST_HZ} to {MOST_HZ}"
                    )
                stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, "float32", quality="HQ")
            if frame.sample_rate != rate_hz:
                raise ClipError(f"the sound changes its rate to {frame.sample_rate} Hz")
            gap = round((frame.time - zero) * rate_hz) - heard
            if gap > MAX_GAP_S * rate_hz:
                raise ClipError(f"the sound is missing for {gap / rate_hz:.0f} s")
            if heard and abs(gap) <= SOUND_JITTER_S * rate_hz:
                gap = 0
            parts = [part.to_ndarray() for part in to_float.resample(frame)]
            mono = np.concatenate([part.mean(axis=0, dtype=np.float32) for part in parts])
            if not np.isfinite(mono).all():
                raise ClipError("the sound holds values that are no numbers")
            mono = np.pad(mono, (gap, 0)) if gap > 0 else mono[-gap:]  # silence, or an overlap
            heard += len(mono)
            yield stream.resample_chunk(mono)
        if stream is None:
            raise ClipError("no sound could be read from the audio track")
        yield stream.resample_chunk(np.empty(0, np.float32), last=True)


@contextmanager
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    try:
        with av.open(str(path), options={"format_whitelist": _CONTAINERS}) as container:
            for stream in (*container.streams.video, *container.streams.audio):
                stream.codec_context.options = {"err_detect": "explode"}
            yield container
    except av.FFmpegError as exc:
        raise ClipError(f"not a readable video: {exc.strerror or exc}") from exc
