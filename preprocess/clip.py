"""One clip, from its bytes to its arrays: the task that workers run."""

import hashlib
import os
import threading
import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from threadpoolctl import threadpool_limits

from preprocess.audio import cut, mfcc, read_recording, to_int16
from preprocess.dataset import Source
from preprocess.decode import ClipError, decode
from preprocess.face import crop, crop_boxes
from preprocess.landmarks import landmark_boxes
from preprocess.settings import RECORDING_LAG_S, Settings
from preprocess.work import Work


@dataclass(frozen=True)
class Result:
    """What became of one clip: `failure` is the reason it failed, or None."""

    source: Source
    failure: str | None


def compute(
    content: bytes,
    settings: Settings,
    *,
    recording: bytes | None = None,
    landmarks: bytes | None = None,
    drawn: bool = False,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The computed arrays of one clip (`Settings.computed`) and notes on it.

    Args:
        content: the bytes of the video file, or of the recording for a cache of sound alone.
        settings: of the cache.
        recording: the bytes of the recording that belongs to the clip, where its sound is taken.
        landmarks: the bytes of the landmark CSV, where they say where the face is.
        drawn: whether the clips are of the synthetic sample.

    Raises:
        ClipError: with the reason why the clip cannot be used.
    """
    if settings.modality == "audio":
        return _compute_sound(*read_recording(content), settings)
    decoded = decode(content, with_sound=settings.audio == "mp4")
    if settings.audio == "mp4":
        sound, rate_hz = decoded.sound, decoded.rate_hz
    else:
        sound, rate_hz = read_recording(recording)
        sound = np.pad(sound, ((0, 0), (round(RECORDING_LAG_S * rate_hz), 0)))
    arrays, sound_notes = _compute_sound(sound, rate_hz, settings)
    if settings.faces == "landmarks":
        boxes, scores, face_notes = landmark_boxes(landmarks, decoded.frame_index)
    else:
        # Here and not above, because torch takes more memory than all the rest.
        from preprocess.detect import detect_faces

        boxes, scores, face_notes = detect_faces(decoded.frames, settings.crop)
    height, width = decoded.frames[0].height, decoded.frames[0].width
    boxes = crop_boxes(boxes, height, width, settings.crop)
    arrays |= {
        "frames": crop(decoded.frames, boxes),
        "frame_index": decoded.frame_index,
        "face_box": boxes,
        "face_score": scores,
    }
    if decoded.drawn != drawn:
        raise ClipError(
            "is drawn, but its folder is not marked as a sample (sample.json): keep it apart"
            if decoded.drawn
            else "is not drawn, but its folder is marked as a sample (sample.json): keep it apart"
        )
    return arrays, (*decoded.notes, *sound_notes, *face_notes)


def _compute_sound(
    sound: np.ndarray, rate_hz: int, settings: Settings
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    waveform, notes = cut(sound, rate_hz)
    arrays = {"mfcc": mfcc(waveform)}
    if settings.waveform:
        arrays["waveform"] = to_int16(waveform)
    return arrays, notes


def process(
    source: Source, work: Work, settings: Settings, *, drawn: bool, parent_pid: int | None
) -> Result:
    """Compute one clip and leave it in `work`, so that nothing large goes between processes.

    Errors of the clip are returned, because one raised would end the whole run. A worker ends
    when the process `parent_pid` that started it is gone; those of a cluster have None.

    Raises:
        CacheError: if this process is on a machine that cannot do the work as it was begun.
    """
    _check_worker(work)
    if parent_pid not in (None, os.getpid()):
        _end_with(parent_pid)
    with work.mark(source.clip.clip_id):
        return _process(source, work, settings, drawn)


@lru_cache(maxsize=1)
def _check_worker(work: Work) -> None:
    work.check_worker()  # once a process is enough


@lru_cache(maxsize=1)
def _end_with(parent_pid: int) -> None:
    """Let this worker end when the process that started it was killed; loky's wait for minutes."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _process(source: Source, work: Work, settings: Settings, drawn: bool) -> Result:
    read_ns = time.time_ns()
    try:
        content = source.file.read()
        # One thread of everything: the jobs are the parallelism, and a sum that is split over
        # threads would round otherwise, so that bytes would depend on the number of jobs.
        with threadpool_limits(1):
            arrays, notes = compute(
                content,
                settings,
                recording=source.recording and source.recording.read(),
                landmarks=source.landmarks and source.landmarks.read(),
                drawn=drawn,
            )
    except ClipError as exc:
        return Result(source, str(exc))
    except Exception as exc:  # whatever a strange file does to a library, the others go on
        return Result(source, f"broke the program: {type(exc).__name__}: {exc}".splitlines()[0])
    record = {
        "source": source.name,
        "source_sha256": hashlib.sha256(content).hexdigest(),
        "notes": list(notes),
    }
    work.save(source.clip.clip_id, arrays, record, read_ns)
    return Result(source, None)
