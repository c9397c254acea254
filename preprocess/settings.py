"""Every setting that changes a byte of a shard, in one place."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from cache.schema import (
    DURATION_S,
    FRAME_COUNT,
    FRAME_SIZE,
    HOP_LENGTH,
    MFCC_COUNT,
    OFFSET_S,
    PICTURE,
    SAMPLE_RATE_HZ,
)

# A clip may end this much before the 2.95 s that are used: the last frame is then repeated and
# silence appended, and the manifest says so. One RAVDESS recording ends at 2.936 s.
SHORTFALL_S = 0.25

# The sound of a RAVDESS mp4 lies this much after the same moment of the separate recording.
RECORDING_LAG_S = 1 / 30

# Of the frames that are looked at, this share must show a face.
MIN_FOUND = 0.5

# OpenFace's own confidence in its landmarks, 0..1; below this they are not those of a face.
MIN_CONFIDENCE = 0.5


@dataclass(frozen=True)
class FaceSettings:
    """How faces are found and cropped.

    `margin` is the side of the square crop over the longer side of the face box; `smoothing_s`
    is the standard deviation of the Gaussian that steadies the crop over time. The rest is for
    the detector: `detect_height` is the height in pixels that frames are reduced to for it, and
    `min_face_size` its smallest face at that height; `every` looks at each n-th of the 30 frames
    and interpolates between them; `score` is the least probability of a face.
    """

    detector: str = "facenet-pytorch 2.5.3 MTCNN"
    detect_height: int = 144
    min_face_size: int = 36
    every: int = 5
    score: float = 0.9
    margin: float = 1.15
    smoothing_s: float = 0.15


@dataclass(frozen=True)
class Settings:
    """The settings of one cache; the shape of its arrays is in `cache.schema`.

    Attributes:
        modality: "av", or "audio" for a cache of the recordings alone.
        faces: "mtcnn", or "landmarks" for the published ones, as the paper does.
        audio: "mp4" for the clip's own sound, or "wav" for the recording that belongs to it.
        waveform: whether the samples are kept beside their MFCCs.
        crop: see `FaceSettings`.
    """

    modality: str = "av"
    faces: str = "mtcnn"
    audio: str = "mp4"
    waveform: bool = False
    crop: FaceSettings = FaceSettings()

    @property
    def computed(self) -> tuple[str, ...]:
        """Which of `schema.COMPUTED` the shards hold."""
        return (
            *(PICTURE if self.modality == "av" else ()),
            "mfcc",
            *(("waveform",) if self.waveform else ()),
        )

    def config(self) -> dict[str, Any]:
        """The settings as they go into the manifest and its fingerprint."""
        config: dict[str, Any] = {
            "modality": self.modality,
            "waveform": self.waveform,
            "sound": {
                "source": self.audio if self.modality == "av" else "wav",
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
        if self.modality == "audio":
            return config
        if self.audio == "wav":
            config["sound"]["lag_s"] = RECORDING_LAG_S
        config["frames"] = {
            "count": FRAME_COUNT,
            "size": FRAME_SIZE,
            "offset_s": OFFSET_S,
            "duration_s": DURATION_S,
            "shortfall_s": SHORTFALL_S,
            "color": "RGB",
            "resize": "swscale area",
        }
        if self.faces == "mtcnn":
            config["faces"] = {"source": "mtcnn", "min_found": MIN_FOUND, **asdict(self.crop)}
        else:
            config["faces"] = {
                "source": "landmarks",
                "min_found": MIN_FOUND,
                "min_confidence": MIN_CONFIDENCE,
                "margin": self.crop.margin,
                "smoothing_s": self.crop.smoothing_s,
            }
        return config


# What the settings of faces may be; those of a file from others are not taken on trust.
_RANGES = {
    "detect_height": (int, 36, 2160),
    "min_face_size": (int, 8, 1080),
    "every": (int, 1, FRAME_COUNT),
    "score": (float, 0.0, 1.0),
    "margin": (float, 0.5, 4.0),
    "smoothing_s": (float, 0.001, 10.0),
}


def from_config(config: Any) -> Settings:
    """The settings that a manifest's config was written from, the inverse of `Settings.config`.

    Raises:
        ValueError: for a config that no settings of this version give.
    """
    try:
        faces = config.get("faces", {})
        crop = {each.name: faces[each.name] for each in fields(FaceSettings) if each.name in faces}
        if crop.get("detector", FaceSettings.detector) != FaceSettings.detector:
            raise ValueError(
                f"faces were found by {crop['detector']!r:.40}, this version has "
                f"{FaceSettings.detector}"
            )
        for name, (kind, least, most) in _RANGES.items():
            if name in crop and not (type(crop[name]) is kind and least <= crop[name] <= most):
                raise ValueError(
                    f"{name} of the faces is {crop[name]!r:.40}, expected {least} to {most}"
                )
        settings = Settings(
            modality=config["modality"],
            faces=faces.get("source", "mtcnn"),
            audio=config["sound"]["source"] if config["modality"] == "av" else "mp4",
            waveform=config["waveform"],
            crop=FaceSettings(**crop),
        )
        written = settings.config()
    except (AttributeError, KeyError, TypeError) as exc:
        raise ValueError(f"the settings of the features cannot be read ({exc!r:.80})") from exc
    differing = sorted(key for key in {*config, *written} if config.get(key) != written.get(key))
    if differing:
        raise ValueError(
            f"the features were made with other settings of {', '.join(map(str, differing))} than "
            "this version knows. Use the version that made them"
        )
    return settings
