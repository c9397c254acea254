"""From the bytes of one clip to its arrays."""

from dataclasses import replace

import numpy as np

from preprocess.audio import mfcc, to_int16
from preprocess.decode import ClipError
from preprocess.face import crop, crop_boxes, detect_faces
from preprocess.landmarks import landmark_boxes
from preprocess.settings import RECORDING_LAG_S, FaceSettings, Settings
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

    Args:
        content: the bytes of the video, or of the recording for a cache of sound only.
        settings: the settings of the cache.
        recording: the bytes of the clip's separate recording, for `audio="wav"`.
        landmarks: the bytes of the clip's landmark CSV, for `faces="landmarks"`.
        synthetic: whether the clip belongs to the synthetic sample.

    Raises:
        ClipError: with the reason why the clip cannot be used.
    """
    if settings.modality == "audio":
        window = decode(content, picture=False)
    elif settings.audio == "mp4":
        window = decode(content)
    else:
        window = decode(content, sound=False)
        heard = decode(recording, picture=False, sound_delay_s=RECORDING_LAG_S)
        window = replace(window, waveform=heard.waveform, notes=(*window.notes, *heard.notes))
    arrays, notes = window_arrays(window, settings.crop, landmarks)
    if settings.modality == "av" and window.synthetic != synthetic:
        clip, folder = ("is not", "is") if synthetic else ("is", "is not")
        raise ClipError(
            f"{clip} synthetic, but its folder {folder} marked as a synthetic sample "
            "(sample.json): keep them apart"
        )
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
