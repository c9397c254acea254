"""Frames as JPEG files: an eighth of their bytes, and slightly different pictures."""

import io
from collections.abc import Sequence

import numpy as np

from cache.schema import FRAME_SIZE

# How a manifest's `config.frames.codec` describes these files.
CODEC = {"name": "jpeg", "quality": 95, "subsampling": "4:4:4", "lossy": True}


def encode(frames: np.ndarray) -> list[bytes]:
    """Encode frames, uint8 RGB (T, H, W, 3), as one JPEG file each, without chroma subsampling."""
    from PIL import Image  # comes with torchvision

    files = []
    for frame in frames:
        buffer = io.BytesIO()
        options = {name: CODEC[name] for name in ("quality", "subsampling")}
        Image.fromarray(frame).save(buffer, "JPEG", **options)
        files.append(buffer.getvalue())
    return files


def decode(files: Sequence[bytes]) -> np.ndarray:
    """Decode JPEG files into frames, uint8 RGB (T, FRAME_SIZE, FRAME_SIZE, 3).

    ValueError if a file is not a complete JPEG of that size in color.
    """
    from PIL import Image

    size = (FRAME_SIZE, FRAME_SIZE)
    frames = np.empty((len(files), *size, 3), np.uint8)
    for out, content in zip(frames, files, strict=True):
        try:
            picture = Image.open(io.BytesIO(content), formats=("JPEG",))
            if picture.size != size or picture.mode != "RGB":
                raise ValueError(f"a frame is {picture.mode} {picture.size}, expected RGB {size}")
            out[:] = np.asarray(picture)
        except (OSError, SyntaxError) as exc:  # how Pillow reports a damaged file
            raise ValueError(f"a frame is not a complete JPEG ({exc})") from exc
    return frames
