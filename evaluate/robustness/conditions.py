"""What is done to clips to see how much a network depends on each part of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from cache.ravdess import Clip
from cache.schema import SAMPLE_COUNT
from model.prepare import MEAN

SEED = 0
_FULL_SCALE = 32_768  # of 16-bit samples

Fields = dict[str, np.ndarray]


@dataclass(frozen=True)
class Condition:
    """One change of clips.

    `modality` is the one that is changed, "audio" or "video"; None where none is. `title` is short
    enough for a table. `change` takes a clip and its fields as they lie in the cache, and gives
    those of them that it changes. `needs` is a field that it needs besides the network's.
    """

    name: str
    modality: str | None
    title: str
    change: Callable[[Clip, Fields], Fields]
    needs: str | None = None


def generator(clip: Clip, purpose: int) -> np.random.Generator:
    """Random numbers of one clip and purpose: the same in whatever order clips are taken."""
    return np.random.default_rng([SEED, purpose, *map(int, clip.clip_id.split("-"))])


def noisy(waveform: np.ndarray, snr_db: float, random: np.random.Generator) -> np.ndarray:
    """Add white noise, scaled to the clip's own power.

    Args:
        waveform: (samples,), in any unit.
        snr_db: ratio of the clip's power to the noise's, over the whole clip.
        random: of the noise.

    Returns:
        float32 (samples,), in the same unit, not clipped; a silent clip stays silent.
    """
    signal = waveform.astype(np.float64)
    noise = random.standard_normal(len(signal))
    power = np.mean(signal**2) / 10 ** (snr_db / 10)
    return (signal + noise * np.sqrt(power / np.mean(noise**2))).astype(np.float32)


def frozen(frames: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Show the last shown frame again in place of a share of the frames, never of the first.

    Args:
        frames: (T, ...).
        share: 0..1 of the T frames, rounded to whole frames.
        random: which.
    """
    count = len(frames)
    lost = 1 + random.choice(count - 1, size=round(share * count), replace=False)
    shown = np.arange(count)
    shown[lost] = 0
    return frames[np.maximum.accumulate(shown)]


def brighter(frames: np.ndarray, factor: float) -> np.ndarray:
    """Multiply uint8 pictures of any shape, rounded, and cut off at 255."""
    values = np.clip(np.rint(np.arange(256) * factor), 0, 255).astype(np.uint8)
    return values[frames]


def _sound(waveform: np.ndarray, fields: Fields) -> Fields:
    """What a clip with another sound (samples,), in units of 16 bits, has in place of its own."""
    changed: Fields = {"waveform": waveform}
    if "mfcc" in fields:
        # Here and not above, because a report names conditions without the libraries of sound.
        from preprocess.audio import mfcc

        changed["mfcc"] = mfcc(waveform.astype(np.float32) / _FULL_SCALE)
    return changed


def _as_cached(_clip: Clip, _fields: Fields) -> Fields:
    return {}


def _silent(_clip: Clip, fields: Fields) -> Fields:
    return _sound(np.zeros(SAMPLE_COUNT, np.int16), fields)


def _with_noise(clip: Clip, fields: Fields, *, snr_db: float) -> Fields:
    # The same noise at each level, so that levels differ in nothing else.
    return _sound(noisy(fields["waveform"], snr_db, generator(clip, purpose=0)), fields)


def _grey(_clip: Clip, fields: Fields) -> Fields:
    """The mean colour, in whole steps of 255: what networks see as zero, within 0.01."""
    colour = np.rint(np.array(MEAN) * 255).astype(np.uint8)
    return {"frames": np.broadcast_to(colour, fields["frames"].shape)}


def _with_frozen(clip: Clip, fields: Fields, *, share: float) -> Fields:
    return {"frames": frozen(fields["frames"], share, generator(clip, purpose=1))}


def _with_light(_clip: Clip, fields: Fields, *, factor: float) -> Fields:
    return {"frames": brighter(fields["frames"], factor)}


CONDITIONS = (
    Condition("as_cached", None, "as cached", _as_cached),
    Condition("sound_missing", "audio", "no sound", _silent),
    *(
        Condition(
            *(f"noise_{snr_db}_db", "audio", f"{snr_db} dB SNR"),
            partial(_with_noise, snr_db=snr_db),
            needs="waveform",
        )
        for snr_db in (20, 10, 0)
    ),
    Condition("picture_missing", "video", "no picture", _grey),
    *(
        Condition(
            *(f"frames_frozen_{percent}", "video", f"{percent} % frozen"),
            partial(_with_frozen, share=percent / 100),
        )
        for percent in (50, 80)
    ),
    *(
        Condition(
            *(f"brightness_{factor}", "video", f"light x{factor}"),
            partial(_with_light, factor=factor),
        )
        for factor in (0.5, 1.5)
    ),
)
