"""Speaks the clips of the synthetic sample: pulses, breath and formants, made of numbers only.

A `Voice` is an actor's voice. A clip is a train of glottal pulses with breath noise, shaped in
short-time spectra by the formants of a syllable pattern (source and filter, Fant 1960). The manner
depends on one of four groups, never on the emotion itself; `preprocess.sample` says why.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

# The group of each label: neutral, calm, happy, sad, angry, fearful, disgust, surprised.
VOICE_GROUPS = ("flat", "soft", "bright", "soft", "bright", "tense", "flat", "tense")
SAMPLE_RATE_HZ = 48_000

# Formants 1 to 3 in Hz of a male voice (after Peterson & Barney 1952), and how far the lips open.
_VOWELS = {
    "i": ((390, 1990, 2550), 0.35),
    "a": ((730, 1090, 2440), 1.0),
    "o": ((570, 840, 2410), 0.75),
    "e": ((500, 1500, 2500), 0.5),
    "y": ((660, 1600, 2500), 0.9),
}
# The center in Hz and length in seconds of the noise at the start of a syllable.
_CONSONANTS = {
    "k": (1900, 0.05),
    "d": (3000, 0.03),
    "t": (4200, 0.05),
    "s": (6500, 0.09),
    "b": (700, 0.03),
}
# "Kids are talking by the door" and "Dogs are sitting by the door"; "-" means no consonant.
STATEMENTS = {
    1: ("ki", "-a", "to", "ki", "by", "de", "do"),
    2: ("do", "-a", "si", "ti", "by", "de", "do"),
}
_HOP, _WINDOW = 256, 1024
_BINS_HZ = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE_HZ)


class Delivery(NamedTuple):
    """The manner in which a group speaks."""

    syllables_hz: float
    pitch: float  # factor on the actor's own
    rise: float  # octaves from the first to the last syllable
    swing: float  # octaves up and down within a phrase
    level_db: float  # relative to full scale, root mean square
    tilt_db: float  # per octave above 500 Hz
    tremor: float  # depth of the loudness, 0..1
    vibrato: float  # octaves
    breath: float  # noise in the source
    formant: float  # factor on the formants: a smile or a tight throat shortens the tract


_DELIVERIES = {
    "flat": Delivery(3.6, 1.0, 0.0, 0.02, -29, -11, 0, 0, 0.05, 1.0),
    "soft": Delivery(2.7, 0.82, -0.35, 0.04, -40, -5, 0, 0, 0.30, 0.94),
    "bright": Delivery(5.2, 1.35, 0.0, 0.42, -21, -2.5, 0, 0, 0.02, 1.06),
    "tense": Delivery(4.3, 1.85, 0.45, 0.05, -25, -5.5, 0.75, 0.07, 0.25, 1.15),
}


@dataclass(frozen=True)
class Voice:
    """An actor's voice: its pitch, and how it differs from others in formants and breath."""

    pitch_hz: float
    formant_scale: float
    breath: float
    tilt_db: float


def draw_voice(rng: Generator, male: bool) -> Voice:
    """A random voice: a male one has a pitch of 90 to 150 Hz, a female one of 170 to 250 Hz."""
    return Voice(
        pitch_hz=rng.uniform(90, 150) if male else rng.uniform(170, 250),
        formant_scale=rng.uniform(0.95, 1.03) if male else rng.uniform(1.10, 1.18),
        breath=rng.uniform(0.0, 0.03),
        tilt_db=rng.uniform(-0.5, 0.5),
    )


def openness(statement: int) -> np.ndarray:
    """How far each syllable of a statement opens the lips: (7,) float64 in 0..1."""
    return np.array([_VOWELS[syllable[1]][1] for syllable in STATEMENTS[statement]])


def _pulses(pitch_hz: np.ndarray) -> np.ndarray:
    """One pulse per period, at fractions of a sample: pitch (N,) -> signal (N,) of unit power."""
    cycles = np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    at = np.flatnonzero(np.diff(np.floor(cycles)) > 0)
    late = (cycles[at + 1] % 1) / (cycles[at + 1] - cycles[at])
    height = np.sqrt(SAMPLE_RATE_HZ / pitch_hz[at])
    signal = np.zeros(len(pitch_hz))
    np.add.at(signal, at, height * late)
    np.add.at(signal, at + 1, height * (1 - late))
    return signal


def _shape(signal: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Multiply short-time spectra by `gain` (frames, bins): (N,) -> (N,), overlap and add."""
    window = np.hanning(_WINDOW + 1)[:-1]
    padded = np.pad(signal, (_WINDOW // 2, _WINDOW))
    starts = np.arange(len(gain)) * _HOP
    pieces = padded[starts[:, None] + np.arange(_WINDOW)] * window  # (frames, window)
    pieces = np.fft.irfft(np.fft.rfft(pieces) * gain, n=_WINDOW) * window
    summed = np.zeros(len(padded))
    for start, piece in zip(starts, pieces, strict=True):
        summed[start : start + _WINDOW] += piece
    # Squared Hann windows a quarter apart add up to 1.5.
    return summed[_WINDOW // 2 : _WINDOW // 2 + len(signal)] / 1.5


def delivery(group: str, strength: float) -> Delivery:
    """How one of `VOICE_GROUPS` speaks; `strength` is the factor on its distance from "flat"."""
    plain, of_group = np.array(_DELIVERIES["flat"]), np.array(_DELIVERIES[group])
    return Delivery(*(plain + (of_group - plain) * strength))


def speak(
    voice: Voice, manner: Delivery, statement: int, length: int, span_s: tuple, rng: Generator
) -> np.ndarray:
    """Speak a statement again and again for the time `span_s`: float32 (length,) in -1..1.

    The sample rate is 48 kHz. `statement`, 1 or 2, is the syllable pattern; `span_s` is the start
    and the end; `rng` is for what no group decides: rates, pitch and level within a small range,
    noise.
    """
    start_s, end_s = span_s

    # The rhythm: when each syllable starts and ends.
    pace = manner.syllables_hz * rng.uniform(0.94, 1.06)
    count = max(2, round((end_s - start_s) * pace))
    steps = rng.uniform(0.85, 1.15, size=count)
    edges = start_s + (end_s - start_s) * np.concatenate(([0], np.cumsum(steps) / steps.sum()))
    pattern = STATEMENTS[statement]
    spoken = [pattern[index % len(pattern)] for index in range(count)]
    middles = (edges[:-1] + edges[1:]) / 2

    # The melody.
    seconds = np.arange(length) / SAMPLE_RATE_HZ
    done = np.clip((seconds - start_s) / (end_s - start_s), 0, 1)
    phrase = np.sin(2 * np.pi * 2 * done - np.pi / 2)
    wobble = np.sin(2 * np.pi * rng.uniform(6.0, 7.0) * seconds + rng.uniform(0, 2 * np.pi))
    drift = np.interp(seconds, middles, rng.normal(0, 0.02, size=count))
    octaves = manner.rise * (done - 0.5) + manner.swing * phrase + manner.vibrato * wobble + drift
    pitch_hz = voice.pitch_hz * manner.pitch * rng.uniform(0.96, 1.04) * 2**octaves

    # The loudness: each syllable swells fast and fades, from onset over peak and hold to its end.
    span = np.diff(edges)
    at = edges[:-1, None] + span[:, None] * np.array([0.0, 0.22, 0.65, 0.99])
    swell = np.array([0.05, 1.0, 0.8, 0.05]) * rng.uniform(0.8, 1.0, size=(count, 1))
    loud = np.interp(seconds, at.ravel(), swell.ravel(), left=0, right=0)
    loud = loud * (1 - manner.tremor * 0.5 * (1 + wobble))

    frame_s = np.arange(length // _HOP + 1) * _HOP / SAMPLE_RATE_HZ
    scale = voice.formant_scale * manner.formant * rng.uniform(0.98, 1.02)
    gain = _formant_gain(frame_s, middles, spoken, scale, manner.tilt_db + voice.tilt_db)
    breath = manner.breath + voice.breath
    source = (1 - breath) * _pulses(pitch_hz) + breath * rng.normal(size=length)
    voiced = _shape(source * loud, gain)

    burst_gain, burst_loud = _consonants(frame_s, edges[:-1], spoken, length)
    hiss = _shape(rng.normal(size=length) * burst_loud, burst_gain)
    hiss *= 10 ** ((manner.tilt_db + 8) / 20)

    speech = voiced / (np.std(voiced) + 1e-12) + 0.25 * hiss / (np.std(hiss) + 1e-12)
    level = 10 ** ((manner.level_db + rng.uniform(-1.5, 1.5)) / 20)
    room = 10 ** (-72 / 20) * rng.normal(size=length)
    # Rounded off below full scale, because AAC overshoots the peaks.
    return (0.8 * np.tanh((speech * level + room) / 0.8)).astype(np.float32)


def _formant_gain(
    frame_s: np.ndarray, middles: np.ndarray, spoken: list[str], scale: float, tilt_db: float
) -> np.ndarray:
    """The spectra (frames, bins) of the vowels, gliding from the middle of one to the next."""
    targets = np.array([(*_VOWELS[syllable[1]][0], 3500, 4500) for syllable in spoken])
    gain = np.full((len(frame_s), len(_BINS_HZ)), 0.02)
    for number, weight in enumerate((1.0, 0.8, 0.6, 0.4, 0.3)):
        center = np.interp(frame_s, middles, targets[:, number])[:, None] * scale
        half_band = 45 + 0.03 * center
        gain += weight / np.sqrt(1 + ((_BINS_HZ - center) / half_band) ** 2)
    return gain * 10 ** (tilt_db * np.log2(np.maximum(_BINS_HZ, 500) / 500) / 20)


def _consonants(
    frame_s: np.ndarray, onsets: np.ndarray, spoken: list[str], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """The spectra (frames, bins) and the loudness (length,) of the noise that opens syllables."""
    gain, loud = np.zeros((len(frame_s), len(_BINS_HZ))), np.zeros(length)
    for syllable, onset in zip(spoken, onsets, strict=True):
        if syllable[0] not in _CONSONANTS:
            continue
        center, long_s = _CONSONANTS[syllable[0]]
        near = np.abs(frame_s - onset) < 0.06 + long_s
        gain[near] = np.exp(-((np.log2(np.maximum(_BINS_HZ, 1) / center) / 0.5) ** 2))
        first = int(onset * SAMPLE_RATE_HZ)
        burst = np.hanning(int(2 * long_s * SAMPLE_RATE_HZ))[: length - first]
        loud[first : first + len(burst)] += burst
    return gain, loud
