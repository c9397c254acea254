"""From 2.45 s of sound to MFCCs (Sec. 3.2)."""

import librosa
import numpy as np

from cache.schema import HOP_LENGTH, MFCC_COUNT, SAMPLE_RATE_HZ


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Samples in -1..1 as int16 of the same shape, rounded; louder ones are clipped."""
    return np.clip(np.rint(waveform * 32_768), -32_768, 32_767).astype(np.int16)


def mfcc(waveform: np.ndarray) -> np.ndarray:
    """The first 13 MFCCs, float32 (13, 212), of 2.45 s at 44.1 kHz, float32 (108045,).

    librosa's defaults: 2048-sample Hann windows every 512 samples, centered; 128 Slaney mel bands;
    power in dB, at most 80 below the peak; orthonormal DCT-II.
    """
    return librosa.feature.mfcc(
        y=waveform, sr=SAMPLE_RATE_HZ, n_mfcc=MFCC_COUNT, n_fft=2048, hop_length=HOP_LENGTH
    ).astype(np.float32, copy=False)
