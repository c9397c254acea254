"""From the bytes of one clip to its arrays."""

from contextlib import suppress
from dataclasses import replace

import av
import numpy as np

from cache.ravdess import FRAME_HEIGHT, FRAME_WIDTH
from cache.schema import FRAME_COUNT, SAMPLE_COUNT
from preprocess.audio import mfcc, to_int16
from preprocess.face import crop, crop_boxes, detect_faces
from preprocess.landmarks import Track, predict_landmarks, read_track
from preprocess.limits import ClipError
from preprocess.settings import RECORDING_LAG_S, Settings
from preprocess.windows import Window, decode


def compute(
    content: bytes,
    settings: Settings,
    *,
    recording: bytes | None = None,
    landmarks: bytes | None = None,
    synthetic: bool = False,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The arrays of one clip (`Settings.computed`), and notes on it for the manifest.

    `content` are the bytes of the video, or of the recording without a video; `recording` and
    `landmarks` those of its recording (for `audio="wav"`) and landmark CSV; `synthetic` says
    whether it belongs to the synthetic sample. ClipError says why the clip cannot be used.
    """
    track = None if landmarks is None else read_track(landmarks)
    if settings.modality == "audio":
        window = decode(content, picture=False)
    elif not settings.has_video:
        frame_index, notes = track.frame_index()
        window = decode(content, picture=False, sound_delay_s=RECORDING_LAG_S)
        window = replace(window, frame_index=frame_index, notes=(*notes, *window.notes))
    elif settings.audio == "mp4":
        window = decode(content)
    else:
        window = decode(content, sound=False)
        heard = decode(recording, picture=False, sound_delay_s=RECORDING_LAG_S)
        window = replace(window, waveform=heard.waveform, notes=(*window.notes, *heard.notes))
    arrays, notes = window_arrays(window, settings, track)
    if settings.has_video and window.synthetic != synthetic:
        clip, folder = ("is not", "is") if synthetic else ("is", "is not")
        raise ClipError(
            f"{clip} synthetic, but its folder {folder} marked as a synthetic sample "
            "(sample.json): keep them apart"
        )
    return {name: arrays[name] for name in settings.computed}, (*window.notes, *notes)


def compute_empty(settings: Settings) -> None:
    """Do the work of a clip on gray pictures and silence; what it raises is the machine's fault."""
    window = Window(0, waveform=np.zeros(SAMPLE_COUNT, np.float32))
    if settings.has_video and settings.faces == "mtcnn":
        gray = np.full((FRAME_HEIGHT * 3 // 2, FRAME_WIDTH), 128, np.uint8)
        frames = [av.VideoFrame.from_ndarray(gray, format="yuv420p")] * FRAME_COUNT
        window = replace(window, frames=frames, frame_index=np.arange(FRAME_COUNT))
    with suppress(ClipError):  # no face was found
        window_arrays(window, settings)
    if settings.landmarks == "dlib":
        boxes = np.tile([500, 100, 800, 400], (FRAME_COUNT, 1))
        predict_landmarks(window.frames, boxes, boxes)


def window_arrays(
    window: Window, settings: Settings, track: Track | None = None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The arrays of a window, by the names of `schema.COMPUTED`, and notes on its face.

    Only the arrays of its picture or sound are returned, if it has only one. `track` has the points
    of a landmark CSV; without it, MTCNN finds the face. A window with `frame_index` and no frames
    is one of a RAVDESS video. ClipError if no face is found.
    """
    arrays: dict[str, np.ndarray] = {}
    notes: tuple[str, ...] = ()
    if window.waveform is not None:
        arrays |= {"mfcc": mfcc(window.waveform), "waveform": to_int16(window.waveform)}
    if window.frame_index is None:
        return arrays, notes
    size = FRAME_HEIGHT, FRAME_WIDTH
    if window.frames is not None:
        size = window.frames[0].height, window.frames[0].width
    if track is not None:
        boxes, scores, arrays["landmarks"], notes = track.at(window.frame_index)
    if track is None or settings.faces == "mtcnn":
        boxes, scores, more = detect_faces(window.frames, settings.detection)
        notes += more
    crops = crop_boxes(boxes, *size, settings.crop)
    if settings.landmarks == "dlib":
        arrays["landmarks"] = predict_landmarks(window.frames, boxes, crops)
    arrays |= {"frame_index": window.frame_index, "face_box": crops, "face_score": scores}
    if settings.modality == "av":
        arrays["frames"] = crop(window.frames, crops)
    return arrays, notes
