"""Frames as JPEG files: an eighth of the bytes, and not quite the same pictures."""

import io
from collections.abc import Sequence

import numpy as np

from cache.schema import FRAME_SIZE

QUALITY = 95


def encode(frames: np.ndarray) -> list[bytes]:
    """Each frame of uint8 RGB (T, 224, 224, 3) as a JPEG file, its colour at full size."""
    from PIL import Image  # torchvision brings it

    files = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=QUALITY, subsampling="4:4:4")
        files.append(buffer.getvalue())
    return files


def decode(files: Sequence[bytes]) -> np.ndarray:
    """The frames of these JPEG files, uint8 RGB (T, 224, 224, 3).

    Raises:
        ValueError: for a file that is no whole JPEG of that size in colour.
    """
    from PIL import Image

    frames = np.empty((len(files), FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    for out, content in zip(frames, files, strict=True):
        try:
            picture = Image.open(io.BytesIO(content), formats=("JPEG",))
            if picture.size != (FRAME_SIZE, FRAME_SIZE) or picture.mode != "RGB":
                raise ValueError(f"a frame is {picture.mode} {picture.size}, expected RGB 224x224")
            out[:] = np.asarray(picture)
        except (OSError, SyntaxError) as exc:  # Pillow's ways to say that a file is no picture
            raise ValueError(f"a frame is no whole JPEG ({exc})") from exc
    return frames
