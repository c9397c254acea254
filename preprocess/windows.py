"""Select the 2.45 s windows of a video: one for a clip, several for a longer file."""

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from cache.schema import DURATION_S, FRAME_COUNT, OFFSET_S, SAMPLE_COUNT, SAMPLE_RATE_HZ
from preprocess.decode import Video, open_video
from preprocess.limits import MAX_BYTES, ClipError
from preprocess.settings import SHORTFALL_S

# A file of up to 6 s is one clip; a longer one has a window every half window.
CLIP_S = 6.0
HOP_S = DURATION_S / 2

# How much of a window the file must have. The rest is a repeated frame and silence.
LEAST_S = DURATION_S - SHORTFALL_S

# A window with fewer different frames than this (6 per second) does not show how a face moves.
FEW_FRAMES = FRAME_COUNT // 2

_SILENT_PEAK = 1e-4  # of full scale, -80 dB: no voice, at most the noise of a codec
SILENT = "the sound is silent: it stays below -80 dB"


@dataclass(frozen=True)
class Window:
    """2.45 s of a file; the 30 frames are those in the middle of 30 equal parts of it."""

    start_s: float  # in seconds from the start of the file
    # As shown, mostly as decoded (RGB would take twice the memory, and only the crops need it).
    # None without a picture, or where `problem` says why.
    frames: list[av.VideoFrame] | None = None
    frame_index: np.ndarray | None = None  # uint16 (30,), the number of each in the file, from 0
    waveform: np.ndarray | None = None  # float32 (108045,) in -1..1, mono at 44.1 kHz
    notes: tuple[str, ...] = ()  # what was padded, repeated or unusual, for the manifest
    problem: str | None = None  # why the window cannot be used
    synthetic: bool = False  # whether the file says that it belongs to the synthetic sample


@dataclass(frozen=True)
class Plan:
    """Where the windows of a file start: at `first_s`, then every `hop_s`; None: only one."""

    first_s: float = OFFSET_S
    hop_s: float | None = None

    def starts_s(self) -> Iterator[float]:
        """Yield the starts in seconds, without end if there is a hop."""
        numbers = [0] if self.hop_s is None else itertools.count()
        return (self.first_s + number * (self.hop_s or 0) for number in numbers)


def plan(path: Path | str, hop_s: float | None = None) -> Plan:
    """Choose the windows of a file by its length; ClipError if it is too short or unreadable.

    A file of up to 6 s is one clip: its window starts at 0.5 s as in training, or earlier if it
    would end too late. A longer file has windows from 0.5 s on. They start every `hop_s`; by
    default every half window, and a clip has only one.
    """
    with open_video(path, picture=False, sound=False) as video:
        length_s = video.length_s(CLIP_S)
    if length_s < LEAST_S:
        raise ClipError(f"lasts {length_s:.2f} s, expected at least {LEAST_S:.2f} s")
    is_short = length_s < OFFSET_S + LEAST_S
    first_s = max(0.0, length_s - DURATION_S) if is_short else OFFSET_S
    return Plan(first_s, hop_s or (None if length_s <= CLIP_S else HOP_S))


def decode(
    content: bytes, *, picture: bool = True, sound: bool = True, sound_delay_s: float = 0.0
) -> Window:
    """Decode the part of a clip that is used, 0.5 to 2.95 s, and check the whole file.

    Differs from the paper: it takes frames from the whole video and sound from 0.5 s to 2.95 s; we
    take both from the same 2.45 s, so that face and voice belong together. A silence of
    `sound_delay_s` is inserted before the sound. ClipError if the file is damaged, cut off, more
    than 0.25 s too short, far from a RAVDESS clip in size or length, or lacks a wanted track.
    """
    if len(content) > MAX_BYTES:
        raise ClipError(f"{len(content)} bytes, expected at most {MAX_BYTES} for one short clip")
    with open_video(content, picture=picture, sound=sound, clip=True) as video:
        [window] = read_windows(video, Plan(), sound_delay_s)
    if window.problem:
        raise ClipError(window.problem)
    return window


def read_windows(video: Video, plan: Plan, sound_delay_s: float = 0.0) -> Iterator[Window]:
    """Yield the windows of a file, with its picture and sound as it was opened.

    Memory use is a few windows, regardless of the length of the file. Windows that end more than
    0.25 s after the file are skipped. A clip is then read to its end. ClipError if the file is
    damaged, or is too short for any window.
    """
    windows: Iterator[Window] = map(Window, plan.starts_s())
    sounds: Iterator[tuple[np.ndarray | None, tuple[str, ...]]] = itertools.repeat((None, ()))
    if video.has_picture:
        windows = _picture_windows(video, plan)
    if video.has_sound:
        sounds = _sound_windows(video.sound(sound_delay_s), plan)
    for start_s in plan.starts_s():
        window, heard = next(windows, None), next(sounds, None)
        if window is None or heard is None:
            if video.has_picture and video.has_sound and (window or heard):
                ended = "sound" if window else "picture"
                yield Window(start_s, problem=f"the {ended} ends before this window does")
            elif start_s + LEAST_S <= video.declared_s:
                declared = f"declares {video.declared_s:.2f} s: it is cut off or damaged"
                problem = f"the file ends before this window does, and {declared}"
                yield Window(start_s, problem=problem)
            return
        waveform, notes = heard
        notes = (*window.notes, *notes, *video.notes(start_s, start_s + DURATION_S))
        yield replace(window, waveform=waveform, notes=notes, synthetic=video.is_synthetic)
    if video.is_clip:
        deque(windows, maxlen=0)
        deque(sounds if video.has_sound else (), maxlen=0)


def frame_times_s(start_s: float = OFFSET_S) -> np.ndarray:
    """When the 30 frames of a window are taken, float64 (30,) in seconds from the file's start."""
    return start_s + (np.arange(FRAME_COUNT) + 0.5) * (DURATION_S / FRAME_COUNT)


def _picture_windows(video: Video, plan: Plan) -> Iterator[Window]:
    """Yield each window with its frames. See `read_windows`."""
    starts = plan.starts_s()
    upcoming = next(starts)
    # Windows under way: start, times of the frames, and the (number, frame) kept so far.
    under_way: deque[tuple[float, np.ndarray, list[tuple[int, av.VideoFrame]]]] = deque()
    shown, shown_s, done = None, 0.0, False
    for number, (time_s, frame) in enumerate(video.frames()):
        # Begin the windows whose first frame is due before this one.
        while upcoming is not None and (times := frame_times_s(upcoming))[0] < time_s:
            if shown:
                under_way.append((upcoming, times, []))
            else:
                due = f"its first frame is due at {times[0]:.2f} s"
                yield Window(upcoming, problem=f"the video starts at {time_s:.2f} s, {due}")
                done = True
            upcoming = next(starts, None)
        # The frame before this one was on the screen until now: at none of the times, or at some.
        for _, times, kept in under_way:
            kept += [shown] * (int(np.searchsorted(times, time_s)) - len(kept))
        while under_way and len(under_way[0][2]) == FRAME_COUNT:
            start_s, _, kept = under_way.popleft()
            yield _picture_window(video, start_s, kept)
            done = True
        shown, shown_s = (number, frame), time_s
    # The file has ended. Its last frame may be repeated for up to 0.25 s.
    if not done and not under_way:
        under_way.append((upcoming, frame_times_s(upcoming), []))
    end_s = shown_s + float((shown[1].duration or 0) * shown[1].time_base)
    for start_s, times, kept in under_way:
        if end_s < (least_s := times[-1] - SHORTFALL_S):
            if done:
                return
            raise ClipError(f"the video ends at {end_s:.2f} s, expected at least {least_s:.2f} s")
        late = (times > end_s).sum()
        note = f"video ends at {end_s:.3f} s: last frame repeated {late} times"
        kept += [shown] * (FRAME_COUNT - len(kept))
        yield _picture_window(video, start_s, kept, *([note] if late else []))
        done = True


def _picture_window(
    video: Video, start_s: float, kept: list[tuple[int, av.VideoFrame]], *notes: str
) -> Window:
    """The window with these 30 numbered frames, as they are to be shown."""
    numbers, frames = zip(*kept, strict=True)
    shown, more = zip(*map(video.shown, frames), strict=True)
    looks = {(each.width, each.height, each.format.name) for each in shown}
    if len(looks) > 1:
        return Window(start_s, problem=f"the video format changes mid-window: {sorted(looks)}")
    notes += tuple(dict.fromkeys(itertools.chain(*more)))
    different = len(set(numbers))
    if different < FEW_FRAMES:
        notes += (f"the picture stands still: {different} different frames in {DURATION_S} s",)
    return Window(start_s, list(shown), np.array(numbers).astype(np.uint16), notes=notes)


def _sound_windows(
    pieces: Iterator[np.ndarray], plan: Plan
) -> Iterator[tuple[np.ndarray, tuple[str, ...]]]:
    """Yield the waveform of each window, and notes. See `read_windows`."""
    kept, end = np.empty(0, np.float32), 0  # the samples before number `end`
    for start_s in plan.starts_s():
        # Read up to the end of the window, and drop what is before its start.
        start = round(start_s * SAMPLE_RATE_HZ)
        parts = [kept]
        while end < start + SAMPLE_COUNT and (piece := next(pieces, None)) is not None:
            end += len(piece)
            parts.append(piece)
            if end <= start:
                parts.clear()
        kept = np.concatenate([kept[:0], *parts])
        kept = kept[len(kept) - (end - start) :]
        window = kept[:SAMPLE_COUNT]
        # The file may have ended. Silence may be appended for up to 0.25 s.
        missing, end_s = SAMPLE_COUNT - len(window), end / SAMPLE_RATE_HZ
        if missing > SHORTFALL_S * SAMPLE_RATE_HZ:
            if start_s > plan.first_s:
                return
            least = f"at least {start_s + LEAST_S:.2f} s"
            raise ClipError(f"the sound ends at {end_s:.2f} s, expected {least}")
        notes = [f"sound ends at {end_s:.3f} s: {missing} zero samples appended"] * bool(missing)
        notes += [SILENT] * bool(np.abs(window).max(initial=0) < _SILENT_PEAK)
        yield np.pad(window, (0, missing)), tuple(notes)
    deque(pieces, maxlen=0)
