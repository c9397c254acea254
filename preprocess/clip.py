"""One clip, from its bytes to its arrays: the task that workers run."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from preprocess.audio import cut, mfcc
from preprocess.dataset import Source
from preprocess.decode import ClipError, decode
from preprocess.face import crop, crop_boxes, detect_faces
from preprocess.settings import Settings
from preprocess.work import Work


@dataclass(frozen=True)
class Result:
    """What became of one clip: `failure` is the reason it failed, or None."""

    source: Source
    failure: str | None


def compute(content: bytes, settings: Settings) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The computed arrays of one clip (`cache.schema.COMPUTED`) and notes on it.

    Args:
        content: the bytes of the video file.
        settings: of the cache.

    Raises:
        ClipError: with the reason why the clip cannot be used.
    """
    decoded = decode(content)
    waveform, sound_notes = cut(decoded.sound, decoded.rate_hz)
    boxes, scores, face_notes = detect_faces(decoded.frames, settings.faces)
    height, width = decoded.frames[0].height, decoded.frames[0].width
    boxes = crop_boxes(boxes, height, width, settings.faces)
    arrays = {
        "frames": crop(decoded.frames, boxes),
        "mfcc": mfcc(waveform),
        "frame_index": decoded.frame_index,
        "face_box": boxes,
        "face_score": scores,
    }
    return arrays, (*decoded.notes, *sound_notes, *face_notes)


def process(source: Source, work: Work, settings: Settings) -> Result:
    """Compute one clip and leave it in `work`, so that nothing large goes between processes.

    Errors of the clip are returned, because one raised
    would end the whole run.
    """
    torch.set_num_threads(1)
    try:
        content = source.read()
        # One thread of everything: the jobs are the parallelism, and a sum that is split over
        # threads would round otherwise, so that bytes would depend on the number of jobs.
        with threadpool_limits(1):
            arrays, notes = compute(content, settings)
    except ClipError as exc:
        return Result(source, str(exc))
    record = {
        "source": source.name,
        "source_sha256": hashlib.sha256(content).hexdigest(),
        "notes": list(notes),
    }
    work.save(source.clip.clip_id, arrays, record)
    return Result(source, None)
