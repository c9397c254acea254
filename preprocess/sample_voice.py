"""Synthesise the voices of the synthetic sample: pulses, breath and formants, from numbers alone.

A `Voice` is who speaks (drawn once per actor). A clip is a train of glottal pulses with breath
noise, shaped in short-time spectra by the formants of a syllable pattern (source and filter,
Fant 1960).

The voice carries one of four groups, never the emotion itself: the two emotions of a group draw
from the same distributions. `preprocess.sample` says why.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

VOICE_GROUPS = (
    "flat",  # neutral
    "soft",  # calm
    "bright",  # happy
    "soft",  # sad
    "bright",  # angry
    "tense",  # fearful
    "flat",  # disgust
    "tense",  # surprised
)
SAMPLE_RATE_HZ = 48_000

# Formants 1 to 3 in Hz for a male voice (after Peterson & Barney 1952), and how far the lips open.
_VOWELS = {
    "i": ((390, 1990, 2550), 0.35),
    "a": ((730, 1090, 2440), 1.0),
    "o": ((570, 840, 2410), 0.75),
    "e": ((500, 1500, 2500), 0.5),
    "y": ((660, 1600, 2500), 0.9),
}
# Centre in Hz and length in seconds of the noise that opens a syllable.
_CONSONANTS = {
    "k": (1900, 0.05),
    "d": (3000, 0.03),
    "t": (4200, 0.05),
    "s": (6500, 0.09),
    "b": (700, 0.03),
    "-": (500, 0.0),  # none
}
# "Kids are talking by the door" and "Dogs are sitting by the door".
STATEMENTS = {
    1: ("ki", "-a", "to", "ki", "by", "de", "do"),
    2: ("do", "-a", "si", "ti", "by", "de", "do"),
}
_HOP, _WINDOW = 256, 1024


class Delivery(NamedTuple):
    """How a group speaks."""

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
    """An actor's voice: pitch in Hz, and what scales its formants and breath."""

    pitch_hz: float
    formant_scale: float
    breath: float
    tilt_db: float


def draw_voice(rng: np.random.Generator, male: bool) -> Voice:
    """Draw an actor's voice from `rng`: a male one at 90 to 150 Hz, a female one at 170 to 250."""
    return Voice(
        pitch_hz=rng.uniform(90, 150) if male else rng.uniform(170, 250),
        formant_scale=rng.uniform(0.95, 1.03) if male else rng.uniform(1.10, 1.18),
        breath=rng.uniform(0.0, 0.03),
        tilt_db=rng.uniform(-0.5, 0.5),
    )


def openness(statement: int) -> np.ndarray:
    """How far each syllable of a statement opens the lips: (7,) float64 in 0..1."""
    return np.array([_VOWELS[syllable[1]][1] for syllable in STATEMENTS[statement]])


def _delivery(group: str, strength: float) -> Delivery:
    """The group's manner, its distance from "flat" times `strength`."""
    plain, manner = np.array(_DELIVERIES["flat"]), np.array(_DELIVERIES[group])
    return Delivery(*(plain + (manner - plain) * strength))


def _pulses(pitch_hz: np.ndarray) -> np.ndarray:
    """One pulse a period, at fractions of a sample: (N,) pitch -> (N,) signal of unit power."""
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


def speak(
    voice: Voice,
    group: str,
    strength: float,
    statement: int,
    length: int,
    start_s: float,
    end_s: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Speak a statement, over and over until `end_s`.

    Args:
        voice: who speaks.
        group: one of `VOICE_GROUPS`.
        strength: 1 as drawn for the group, more to exaggerate its distance from "flat".
        statement: 1 or 2, the syllable pattern.
        length: samples to return, at 48 kHz.
        start_s, end_s: where the first syllable starts and the last one ends, seconds.
        rng: the clip's own nuisance: rates, pitch and level within a small range, noise.

    Returns:
        (length,) float32 in -1..1.
    """
    manner = _delivery(group, strength)
    pace = manner.syllables_hz * rng.uniform(0.94, 1.06)
    count = max(2, round((end_s - start_s) * pace))
    steps = rng.uniform(0.85, 1.15, size=count)
    edges = start_s + (end_s - start_s) * np.concatenate(([0], np.cumsum(steps) / steps.sum()))
    pattern = STATEMENTS[statement]
    spoken = [pattern[index % len(pattern)] for index in range(count)]
    middles = (edges[:-1] + edges[1:]) / 2

    seconds = np.arange(length) / SAMPLE_RATE_HZ
    done = np.clip((seconds - start_s) / (end_s - start_s), 0, 1)
    phrase = np.sin(2 * np.pi * 2 * done - np.pi / 2)
    wobble = np.sin(2 * np.pi * rng.uniform(6.0, 7.0) * seconds + rng.uniform(0, 2 * np.pi))
    drift = np.interp(seconds, middles, rng.normal(0, 0.02, size=count))
    octaves = manner.rise * (done - 0.5) + manner.swing * phrase + manner.vibrato * wobble + drift
    pitch_hz = voice.pitch_hz * manner.pitch * rng.uniform(0.96, 1.04) * 2**octaves

    # Each syllable swells fast and fades: one breakpoint each for onset, peak, hold and end.
    span = np.diff(edges)
    at = edges[:-1, None] + span[:, None] * np.array([0.0, 0.22, 0.65, 0.99])
    swell = np.array([0.05, 1.0, 0.8, 0.05]) * rng.uniform(0.8, 1.0, size=(count, 1))
    loud = np.interp(seconds, at.ravel(), swell.ravel(), left=0, right=0)
    loud = loud * (1 - manner.tremor * 0.5 * (1 + wobble))

    frames = length // _HOP + 1
    frame_s = np.arange(frames) * _HOP / SAMPLE_RATE_HZ
    bins_hz = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE_HZ)
    scale = voice.formant_scale * manner.formant * rng.uniform(0.98, 1.02)
    targets = np.array([(*_VOWELS[syllable[1]][0], 3500, 4500) for syllable in spoken])
    gain = np.full((frames, len(bins_hz)), 0.02)
    for number, weight in enumerate((1.0, 0.8, 0.6, 0.4, 0.3)):
        centre = np.interp(frame_s, middles, targets[:, number])[:, None] * scale
        half_band = 45 + 0.03 * centre
        gain += weight / np.sqrt(1 + ((bins_hz - centre) / half_band) ** 2)
    octaves_up = np.log2(np.maximum(bins_hz, 500) / 500)
    gain *= 10 ** ((manner.tilt_db + voice.tilt_db) * octaves_up / 20)

    breath = manner.breath + voice.breath
    source = (1 - breath) * _pulses(pitch_hz) + breath * rng.normal(size=length)
    voiced = _shape(source * loud, gain)

    # Consonants: a burst of noise round its own centre as a syllable opens.
    burst_gain = np.zeros_like(gain)
    burst_loud = np.zeros(length)
    for syllable, onset in zip(spoken, edges[:-1], strict=True):
        centre, long_s = _CONSONANTS[syllable[0]]
        if not long_s:
            continue
        near = np.abs(frame_s - onset) < 0.06 + long_s
        burst_gain[near] = np.exp(-((np.log2(np.maximum(bins_hz, 1) / centre) / 0.5) ** 2))
        first = int(onset * SAMPLE_RATE_HZ)
        burst = np.hanning(int(2 * long_s * SAMPLE_RATE_HZ))[: length - first]
        burst_loud[first : first + len(burst)] += burst
    hiss = _shape(rng.normal(size=length) * burst_loud, burst_gain)
    hiss *= 10 ** ((manner.tilt_db + 8) / 20)

    speech = voiced / (np.std(voiced) + 1e-12) + 0.25 * hiss / (np.std(hiss) + 1e-12)
    level = 10 ** ((manner.level_db + rng.uniform(-1.5, 1.5)) / 20)
    room = 10 ** (-72 / 20) * rng.normal(size=length)
    # Rounded off below full scale: AAC overshoots the peaks it is given.
    return (0.8 * np.tanh((speech * level + room) / 0.8)).astype(np.float32)
