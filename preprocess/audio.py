"""From a clip's sound to its MFCCs (Sec. 3.2)."""

import io

import librosa
import numpy as np
import soundfile
import soxr

from cache.schema import HOP_LENGTH, MFCC_COUNT, OFFSET_S, SAMPLE_COUNT, SAMPLE_RATE_HZ
from preprocess.decode import MAX_DURATION_S, ClipError
from preprocess.settings import SHORTFALL_S


def read_recording(content: bytes) -> tuple[np.ndarray, int]:
    """A sound file (wav, flac) as float32 (channels, samples) in -1..1, and its rate in Hz.

    Raises:
        ClipError: if it is no sound file, is cut off, or is far longer than a clip.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as opened:
            rate_hz = opened.samplerate
            if opened.frames > MAX_DURATION_S * rate_hz:
                raise ClipError(
                    f"the recording has {opened.frames / rate_hz:.0f} s, "
                    f"expected at most {MAX_DURATION_S:.0f} s"
                )
            samples = opened.read(dtype="float32", always_2d=True)
            declared = opened.frames
    except soundfile.LibsndfileError as exc:
        raise ClipError(f"not a readable recording: {exc.error_string}") from exc
    if len(samples) != declared:
        raise ClipError(f"{len(samples)} samples could be read, the file declares {declared}")
    return samples.T, rate_hz


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Samples in -1..1 as int16, rounded; louder ones are clipped."""
    return np.clip(np.rint(waveform * 32_768), -32_768, 32_767).astype(np.int16)


def cut(sound: np.ndarray, rate_hz: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Mix to mono, resample to 44.1 kHz and keep 2.45 s from 0.5 s on.

    Args:
        sound: float (channels, samples) in -1..1, from the clip's time zero on.
        rate_hz: of `sound`.

    Returns:
        float32 (108045,), and notes for the manifest on what had to be appended.

    Raises:
        ClipError: if the sound ends more than 0.25 s before 2.95 s, or is not finite.
    """
    mono = sound.mean(axis=0, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise ClipError("the sound holds values that are no numbers")
    resampled = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    start = round(OFFSET_S * SAMPLE_RATE_HZ)
    kept = resampled[start : start + SAMPLE_COUNT]
    missing = SAMPLE_COUNT - len(kept)
    if missing > SHORTFALL_S * SAMPLE_RATE_HZ:
        needed_s = (start + SAMPLE_COUNT) / SAMPLE_RATE_HZ - SHORTFALL_S
        raise ClipError(
            f"the sound ends at {len(mono) / rate_hz:.2f} s, expected at least {needed_s:.2f} s"
        )
    notes = []
    if missing:
        notes.append(f"sound ends at {len(mono) / rate_hz:.3f} s: {missing} zero samples appended")
        kept = np.pad(kept, (0, missing))
    if not kept.any():
        notes.append("sound is silent: every sample is zero")
    return kept.astype(np.float32, copy=False), tuple(notes)


def mfcc(waveform: np.ndarray) -> np.ndarray:
    """The first 13 MFCCs, float32 (13, 212), of 2.45 s at 44.1 kHz, float32 (108045,).

    librosa's defaults: 2048-sample Hann windows every 512 samples, centred; 128 Slaney mel bands;
    power in dB, at most 80 below the peak; orthonormal DCT-II.
    """
    return librosa.feature.mfcc(
        y=waveform, sr=SAMPLE_RATE_HZ, n_mfcc=MFCC_COUNT, n_fft=2048, hop_length=HOP_LENGTH
    ).astype(np.float32, copy=False)
