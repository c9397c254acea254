"""Every setting that changes a byte of a shard, in one place."""

from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

from cache import schema
from cache.diff import settings_apart

# A clip may end this much before the 2.95 s that are used: the last frame is then repeated and
# silence appended, and the manifest says so. One RAVDESS recording ends at 2.936 s.
SHORTFALL_S = 0.25

# The sound of a RAVDESS mp4 comes this much later than in the separate recording.
RECORDING_LAG_S = 1 / 30

# The share of the examined frames that must show a face.
MIN_FOUND = 0.5

# OpenFace's own confidence in its landmarks, 0..1; below this they are not those of a face.
MIN_CONFIDENCE = 0.5

# dlib's predictor expects the square that dlib's own detector gives. Of MTCNN's box, it has this
# share of the geometric mean of both sides, and is this share of the height lower.
DLIB_SIDE, DLIB_SHIFT = 0.9, 0.06
DLIB_MODEL = "shape_predictor_68_face_landmarks.dat"


@dataclass(frozen=True)
class FaceSettings:
    """How faces are found and cropped."""

    detector: str = "facenet-pytorch 2.5.3 MTCNN"
    detect_height: int = 144  # pixels to which frames are reduced for the detector
    min_face_size: int = 36  # pixels at that height
    every: int = 5  # the detector examines each n-th frame; boxes in between are interpolated
    score: float = 0.9  # the lowest probability of a face, 0..1
    margin: float = 1.15  # the side of the crop, as a multiple of the longer side of the face box
    smoothing_s: float = 0.15  # the standard deviation of the Gaussian that steadies the crop


@dataclass(frozen=True)
class Settings:
    """The settings of one cache; the shapes of its arrays are in `cache.schema`."""

    modality: str = "av"  # or "audio", recordings only; or "landmarks", facial points and sound
    faces: str = "mtcnn"  # or "landmarks" for the published ones, as in the paper
    audio: str = "mp4"  # the clip's own sound, or "wav" for its separate recording
    waveform: bool = False  # whether to keep the samples beside their MFCCs
    landmarks: str | None = None  # the source of the 68 points of each face: "csv" or "dlib"
    crop: FaceSettings = FaceSettings()

    @property
    def computed(self) -> tuple[str, ...]:
        """Which of `schema.COMPUTED` the shards contain."""
        absent = {"av": set(), "landmarks": {"frames"}, "audio": set(schema.PICTURE)}[self.modality]
        absent |= set() if self.waveform else {"waveform"}
        absent |= set() if self.landmarks else {"landmarks"}
        return tuple(name for name in schema.COMPUTED if name not in absent)

    @property
    def detection(self) -> FaceSettings:
        """As `crop`, but every second detection is skipped to save time for dlib's predictor."""
        every = self.crop.every * (2 if self.landmarks == "dlib" else 1)
        return replace(self.crop, every=every)

    @property
    def has_video(self) -> bool:
        """Whether the clips are videos: not for sound only, nor for points of a CSV and sound."""
        recordings = (self.modality, self.landmarks, self.audio) == ("landmarks", "csv", "wav")
        return self.modality != "audio" and not recordings

    @property
    def has_tables(self) -> bool:
        """Whether each clip comes with a CSV of landmarks."""
        return self.modality != "audio" and (self.faces == "landmarks" or self.landmarks == "csv")

    def versions(self) -> dict[str, str]:
        """The installed versions of the libraries that can change a byte with these settings."""
        names = ["h5py", "librosa", "numpy", "scipy", "soxr"]
        if self.has_video:
            names += ["av"]
            names += ["facenet-pytorch", "torch", "torchvision"] if self.faces == "mtcnn" else []
            names += ["dlib-bin", "face-recognition-models"] if self.landmarks == "dlib" else []
        return {name: version(name) for name in sorted(names)}

    def config(self) -> dict[str, Any]:
        """The settings as they go into the manifest and its fingerprint."""
        window = {"offset_s": schema.OFFSET_S, "duration_s": schema.DURATION_S}
        window["shortfall_s"] = SHORTFALL_S
        mfcc = {"n_mfcc": schema.MFCC_COUNT, "n_fft": 2048, "n_mels": 128}
        sound = {"resampler": "soxr HQ", "sample_rate_hz": schema.SAMPLE_RATE_HZ, **window}
        sound |= {"channels": "mean", "mfcc": {**mfcc, "hop_length": schema.HOP_LENGTH}}
        sound["source"] = self.audio if self.modality != "audio" else "wav"
        config = {"modality": self.modality, "waveform": self.waveform, "sound": sound}
        if self.modality == "audio":
            return config
        if self.audio == "wav":
            sound["lag_s"] = RECORDING_LAG_S
        if self.faces == "mtcnn":
            crop = asdict(self.detection)
        else:
            crop = {"margin": self.crop.margin, "smoothing_s": self.crop.smoothing_s}
            crop["min_confidence"] = MIN_CONFIDENCE
        config["faces"] = {"source": self.faces, "min_found": MIN_FOUND, **crop}
        times = {"count": schema.FRAME_COUNT, **window}
        if self.modality == "av":
            picture = {"size": schema.FRAME_SIZE, "color": "RGB", "resize": "swscale area"}
            config["frames"] = {**times, **picture}
        if self.landmarks:
            how = {"min_confidence": MIN_CONFIDENCE}
            if self.landmarks == "dlib":
                how = {"model": DLIB_MODEL, "box_side": DLIB_SIDE, "box_shift": DLIB_SHIFT}
            points = {"source": self.landmarks, "points": schema.POINT_COUNT, **how}
            config["landmarks"] = {**times, **points}
        return config


def from_config(config: Any) -> Settings:
    """The settings from which a manifest's config was written: the inverse of `Settings.config`.

    ValueError if it was not written from the settings of this version.
    """
    try:
        settings = Settings(
            modality=config["modality"],
            faces=config.get("faces", {}).get("source", "mtcnn"),
            audio=config["sound"]["source"] if config["modality"] != "audio" else "mp4",
            waveform=config["waveform"],
            landmarks=config.get("landmarks", {}).get("source"),
        )
        apart = "; ".join(settings_apart("", config, settings.config()))
    except (AttributeError, KeyError, TypeError) as exc:
        raise ValueError(f"the settings of the features are not readable ({exc!r:.80})") from exc
    if apart:
        made = "the features were made with other settings than today's"
        advice = "Use the version that made them"
        raise ValueError(f"{made} (recorded and current: {apart:.200}). {advice}")
    return settings
