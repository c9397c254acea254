"""How clips are changed to see how much a network depends on each part of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from cache.ravdess import Clip
from cache.schema import SAMPLE_COUNT
from model.inputs import MEAN, to_waveform

Fields = dict[str, np.ndarray]
# Takes a clip and its fields as in the cache, returns the fields that it changes.
Change = Callable[[Clip, Fields], Fields]


@dataclass(frozen=True)
class Condition:
    """One change of clips in one modality, which may need a field that the network does not."""

    name: str
    modality: str | None
    title: str
    change: Change
    needs: str | None = None


def generator(clip: Clip, purpose: int) -> np.random.Generator:
    """Random numbers for one clip and purpose, whatever the order of the clips; the seed is 0."""
    return np.random.default_rng([0, purpose, *map(int, clip.clip_id.split("-"))])


def noisy(waveform: np.ndarray, snr_db: float, random: np.random.Generator) -> np.ndarray:
    """Add white noise to samples (N,) of any unit, `snr_db` below the power of the whole clip.

    Returns float32 (N,), in the same unit, not clipped; silence stays silent.
    """
    signal = waveform.astype(np.float64)
    noise = random.standard_normal(len(signal))
    power = np.mean(signal**2) / 10 ** (snr_db / 10)
    return (signal + noise * np.sqrt(power / np.mean(noise**2))).astype(np.float32)


def frozen(frames: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Replace a share 0..1 of frames (T, ...), never the first, by the last frame shown before."""
    count = len(frames)
    lost = 1 + random.choice(count - 1, size=round(share * count), replace=False)
    shown = np.arange(count)
    shown[lost] = 0
    return frames[np.maximum.accumulate(shown)]


def brighter(frames: np.ndarray, factor: float) -> np.ndarray:
    """Multiply uint8 pictures of any shape by a factor, round, and clip to 0..255."""
    values = np.clip(np.rint(np.arange(256) * factor), 0, 255).astype(np.uint8)
    return values[frames]


def _with_sound(waveform: np.ndarray, fields: Fields) -> Fields:
    """What a clip with another waveform (N,), in units of 16-bit samples, has instead."""
    changed: Fields = {"waveform": waveform}
    if "mfcc" in fields:
        # Not at the top, because a report names conditions without the libraries for sound.
        from preprocess.audio import mfcc

        changed["mfcc"] = mfcc(to_waveform(torch.from_numpy(waveform)).numpy())
    return changed


def _silence(_clip: Clip, fields: Fields) -> Fields:
    return _with_sound(np.zeros(SAMPLE_COUNT, np.int16), fields)


def _mean_sound(clip: Clip, fields: Fields) -> Fields:
    """Zero to the networks, as where training drops the sound: the mean of the training clips."""
    silent = _silence(clip, fields)
    if "mfcc" in fields:
        mean = fields.get("mfcc_mean", np.zeros((1, 1), np.float32))  # (13, 1)
        silent["mfcc"] = np.broadcast_to(mean, fields["mfcc"].shape)
    return silent


def _gray(_clip: Clip, fields: Fields) -> Fields:
    """The mean color, in whole steps of 255: zero to the networks, within 0.01."""
    color = np.rint(np.multiply(MEAN, 255)).astype(np.uint8)
    return {"frames": np.broadcast_to(color, fields["frames"].shape)}


def _noise(snr_db: float) -> Change:
    # The same noise at each level, so that levels differ in nothing else.
    return lambda clip, fields: _with_sound(
        noisy(fields["waveform"], snr_db, generator(clip, purpose=0)), fields
    )


def _frozen(share: float) -> Change:
    return lambda clip, fields: {"frames": frozen(fields["frames"], share, generator(clip, 1))}


def _light(factor: float) -> Change:
    return lambda _clip, fields: {"frames": brighter(fields["frames"], factor)}


CONDITIONS = (
    Condition("as_cached", None, "as cached", lambda _clip, _fields: {}),
    Condition("sound_missing", "audio", "silence", _silence),
    Condition("sound_mean", "audio", "mean sound", _mean_sound),
    Condition("noise_20_db", "audio", "20 dB SNR", _noise(20), needs="waveform"),
    Condition("noise_10_db", "audio", "10 dB SNR", _noise(10), needs="waveform"),
    Condition("noise_0_db", "audio", "0 dB SNR", _noise(0), needs="waveform"),
    Condition("picture_missing", "video", "no picture", _gray),
    Condition("frames_frozen_50", "video", "50 % frozen", _frozen(0.5)),
    Condition("frames_frozen_80", "video", "80 % frozen", _frozen(0.8)),
    Condition("brightness_0.5", "video", "light x0.5", _light(0.5)),
    Condition("brightness_1.5", "video", "light x1.5", _light(1.5)),
)
