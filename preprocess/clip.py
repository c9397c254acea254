"""From the bytes of one clip to its arrays."""

import hashlib
import os
import threading
import time
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from threadpoolctl import threadpool_limits

from preprocess.audio import mfcc, to_int16
from preprocess.dataset import Source
from preprocess.decode import ClipError
from preprocess.face import crop, crop_boxes, detect_faces
from preprocess.landmarks import landmark_boxes
from preprocess.settings import RECORDING_LAG_S, FaceSettings, Settings
from preprocess.windows import Window, decode
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
    """The arrays of one clip (`Settings.computed`), and notes on it for the manifest.

    Args:
        content: the bytes of the video, or of the recording for a cache of sound only.
        settings: the settings of the cache.
        recording: the bytes of the clip's separate recording, for `audio="wav"`.
        landmarks: the bytes of the clip's landmark CSV, for `faces="landmarks"`.
        drawn: whether the clips belong to the synthetic sample.

    Raises:
        ClipError: with the reason why the clip cannot be used.
    """
    if settings.modality == "audio":
        window = decode(content, picture=False)
    elif settings.audio == "mp4":
        window = decode(content, synthetic=drawn)
    else:
        window = decode(content, sound=False, synthetic=drawn)
        heard = decode(recording, picture=False, sound_delay_s=RECORDING_LAG_S)
        window = replace(window, waveform=heard.waveform, notes=(*window.notes, *heard.notes))
    arrays, notes = window_arrays(window, settings.crop, landmarks)
    return {name: arrays[name] for name in settings.computed}, (*window.notes, *notes)


def window_arrays(
    window: Window, settings: FaceSettings, landmarks: bytes | None = None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The arrays of a window, by the names of `schema.COMPUTED`, and notes on its face.

    Args:
        window: with picture, sound, or both; only the arrays of what is there are returned.
        settings: how faces are found and cropped.
        landmarks: the bytes of a landmark CSV that says where the face is; None for MTCNN.

    Raises:
        ClipError: if there is no face.
    """
    arrays: dict[str, np.ndarray] = {}
    notes: tuple[str, ...] = ()
    if window.waveform is not None:
        arrays |= {"mfcc": mfcc(window.waveform), "waveform": to_int16(window.waveform)}
    if window.frames is not None:
        if landmarks is None:
            boxes, scores, notes = detect_faces(window.frames, settings)
        else:
            boxes, scores, notes = landmark_boxes(landmarks, window.frame_index)
        boxes = crop_boxes(boxes, window.frames[0].height, window.frames[0].width, settings)
        arrays |= {
            "frames": crop(window.frames, boxes),
            "frame_index": window.frame_index,
            "face_box": boxes,
            "face_score": scores,
        }
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
