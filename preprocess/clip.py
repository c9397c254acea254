"""One clip, from its bytes to its arrays."""

import numpy as np

from preprocess.audio import cut, mfcc, read_recording, to_int16
from preprocess.decode import ClipError, decode
from preprocess.face import crop, crop_boxes
from preprocess.landmarks import landmark_boxes
from preprocess.settings import RECORDING_LAG_S, Settings


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
