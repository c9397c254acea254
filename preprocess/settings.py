"""Every setting that changes a byte of a shard, in one place."""

from dataclasses import asdict, dataclass
from typing import Any

from cache.schema import (
    DURATION_S,
    FRAME_COUNT,
    FRAME_SIZE,
    HOP_LENGTH,
    MFCC_COUNT,
    OFFSET_S,
    SAMPLE_RATE_HZ,
)

# A clip may end this much before the 2.95 s that are used: the last frame is then repeated and
# silence appended, and the manifest says so. One RAVDESS recording ends at 2.936 s.
SHORTFALL_S = 0.25


@dataclass(frozen=True)
class FaceSettings:
    """How faces are found and cropped.

    `detect_height` is the height in pixels that frames are reduced to for the detector, and
    `min_face_size` its smallest face at that height; `every` looks at each n-th of the 30 frames
    and interpolates between them; `score` is the least probability of a face; `margin` is the
    side of the square crop over the longer side of the box; `smoothing_s` is the standard
    deviation of the Gaussian that steadies the crop over time.
    """

    source: str = "mtcnn"
    detector: str = "facenet-pytorch 2.5.3 MTCNN"
    detect_height: int = 144
    min_face_size: int = 36
    every: int = 5
    score: float = 0.9
    margin: float = 1.15
    smoothing_s: float = 0.15


@dataclass(frozen=True)
class Settings:
    """The settings of one cache; the shape of its arrays is in `cache.schema`."""

    faces: FaceSettings = FaceSettings()
    audio: str = "mp4"

    def config(self) -> dict[str, Any]:
        """The settings as they go into the manifest and its fingerprint."""
        return {
            "faces": asdict(self.faces),
            "frames": {
                "count": FRAME_COUNT,
                "size": FRAME_SIZE,
                "offset_s": OFFSET_S,
                "duration_s": DURATION_S,
                "shortfall_s": SHORTFALL_S,
                "color": "RGB",
                "resize": "torch bilinear, antialiased",
            },
            "sound": {
                "source": self.audio,
                "channels": "mean",
                "sample_rate_hz": SAMPLE_RATE_HZ,
                "resampler": "soxr HQ",
                "offset_s": OFFSET_S,
                "duration_s": DURATION_S,
                "shortfall_s": SHORTFALL_S,
                "mfcc": {
                    "n_mfcc": MFCC_COUNT,
                    "n_fft": 2048,
                    "hop_length": HOP_LENGTH,
                    "n_mels": 128,
                },
            },
        }
