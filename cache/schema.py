"""What a shard holds: every dataset with its type and shape (docs/cache-format.md)."""

from dataclasses import dataclass

import numpy as np

SCHEMA_VERSION = 2

FRAME_COUNT = 30
FRAME_SIZE = 224

# Sec. 3.2 of the paper: skip the first 0.5 s, keep the next 2.45 s; 13 MFCCs.
OFFSET_S = 0.5
DURATION_S = 2.45
SAMPLE_RATE_HZ = 44_100
HOP_LENGTH = 512
MFCC_COUNT = 13
SAMPLE_COUNT = round(DURATION_S * SAMPLE_RATE_HZ)  # 108,045
MFCC_STEPS = 1 + SAMPLE_COUNT // HOP_LENGTH  # 212

CLASS_COUNT = 8  # emotions: the values of the label

# The points of a face, in the order of iBUG 300-W that OpenFace and dlib share: jaw 0..16, brows
# 17..26, nose 27..35, eyes 36..47, mouth 48..67. They may be outside the picture, but not far.
POINT_COUNT = 68
POINT_LIMIT = 16_384  # pixels from the picture's corner


@dataclass(frozen=True)
class Field:
    """One dataset of a shard: its type, its shape for one clip, and what it means."""

    dtype: np.dtype
    shape: tuple[int, ...]
    meaning: str


FIELDS: dict[str, Field] = {
    "frames": Field(
        np.dtype("u1"), (FRAME_COUNT, FRAME_SIZE, FRAME_SIZE, 3), "RGB face crops, (T, H, W, 3)"
    ),
    "mfcc": Field(np.dtype("<f4"), (MFCC_COUNT, MFCC_STEPS), "MFCCs, not normalized"),
    "label": Field(np.dtype("u1"), (), "0..7, neutral to surprised"),
    "clip_id": Field(np.dtype("S20"), (), "RAVDESS file name without extension"),
    "actor": Field(np.dtype("u1"), (), "1..24"),
    "intensity": Field(np.dtype("u1"), (), "1 normal, 2 strong"),
    "statement": Field(np.dtype("u1"), (), "1..2"),
    "repetition": Field(np.dtype("u1"), (), "1..2"),
    "frame_index": Field(np.dtype("<u2"), (FRAME_COUNT,), "which frame of the video, from 0"),
    "face_box": Field(np.dtype("<f4"), (FRAME_COUNT, 4), "x1, y1, x2, y2 in source pixels"),
    "face_score": Field(np.dtype("<f4"), (FRAME_COUNT,), "probability; 0 where interpolated"),
    "waveform": Field(np.dtype("<i2"), (SAMPLE_COUNT,), "the sound that the MFCCs come from"),
    "landmarks": Field(
        np.dtype("<f4"), (FRAME_COUNT, POINT_COUNT, 2), "x, y of 68 facial points in source pixels"
    ),
}

# Fields that an audio-only cache lacks (one of landmarks lacks only frames), and fields that are
# optional.
PICTURE = ("frames", "frame_index", "face_box", "face_score")
OPTIONAL = ("waveform", "landmarks")

# How a shard may hold `frames` instead: each as a JPEG file, one after the other, and for each clip
# and frame the byte behind its end.
JPEG_FIELDS: dict[str, Field] = {
    "frames_jpeg": Field(np.dtype("u1"), (), "JPEG files of all clips, one after the other"),
    "frames_end": Field(np.dtype("<u8"), (FRAME_COUNT,), "where each of them ends in frames_jpeg"),
}

# What preprocessing computes for a clip; the other fields follow from its name.
COMPUTED = (*PICTURE, "mfcc", *OPTIONAL)
NAMED = tuple(name for name in FIELDS if name not in COMPUTED)


def shard_name(actor: int) -> str:
    """The file name of an actor's shard, `actor_05.h5`."""
    return f"actor_{actor:02d}.h5"
