"""Acts the clips of the synthetic sample: how a group holds the face and moves head and lips.

The display depends on one of four groups, never on the emotion itself; `preprocess.sample` says
why. `preprocess.sample_face` paints the poses.
"""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from preprocess.sample_face import Expression, Pose

# The group of each label: neutral, calm, happy, sad, angry, fearful, disgust, surprised.
FACE_GROUPS = ("relaxed", "relaxed", "joyful", "distressed")
FACE_GROUPS += ("hostile", "distressed", "hostile", "joyful")


class Motion(NamedTuple):
    """How the head is held and how it swings; lengths are in half face widths."""

    nod: float
    nod_hz: float
    shake: float
    shake_hz: float
    roll_deg: float
    roll_hz: float
    bow: float  # head held lower
    lean_deg: float  # to a random side
    near: float  # by how much the head is larger, a share


_DISPLAYS = {
    "relaxed": (
        Expression(0, 0, 0.05, 0, 1, 0, 1, 0.01, 0, 0, 0, 0, 0),
        Motion(0.015, 0.3, 0.015, 0.25, 0.6, 0.25, 0, 0, 0),
    ),
    "joyful": (
        Expression(0.12, 0, 0.10, 0, 1.24, 0, 1.28, 0.14, 0.12, 0.1, 0.09, 0.5, 0),
        Motion(0.05, 1.4, 0.02, 0.7, 2.5, 0.7, -0.04, 0, 0.01),
    ),
    "distressed": (
        Expression(0.07, 0.17, 0, 0.02, 0.8, 0.06, 0.82, -0.15, 0.05, 0, 0, 0.2, 0.2),
        Motion(0.02, 0.5, 0.02, 0.4, 1.0, 0.4, 0.08, 4.0, -0.01),
    ),
    "hostile": (
        Expression(-0.13, -0.16, 0.02, 0.07, 0.62, -0.02, 1.12, -0.05, 0.11, 0.8, 0.26, 1, 1),
        Motion(0.03, 2.2, 0.07, 2.2, 1.0, 1.1, 0.03, 0, 0.04),
    ),
}


def animate(
    group: str, strength: float, seconds: np.ndarray, speech: np.ndarray, rng: Generator
) -> list[Pose]:
    """Act a clip; returns one pose per frame, at the times `seconds`, (T,), rising from 0.

    `strength` is the factor on the distance of `group`, one of `FACE_GROUPS`, from "relaxed";
    `speech`, (T,) in 0..1, is how far speech opens the lips; `rng` is for what no group decides:
    phases, rates, blinks, gaze, small differences.
    """
    # What is fixed for the clip.
    calm = np.concatenate(_DISPLAYS["relaxed"])
    change = (np.concatenate(_DISPLAYS[group]) - calm) * strength * rng.uniform(0.92, 1.05)
    phase = rng.uniform(0, 2 * np.pi, size=4)
    pace = rng.uniform(0.85, 1.15)
    lean = rng.choice((-1, 1)) * rng.uniform(0.5, 1.2)
    wander = rng.uniform(-0.02, 0.02, size=2)
    blink_s = np.cumsum(rng.uniform(0.7, 2.4, size=4))
    gaze = rng.uniform(-0.02, 0.02, size=(4, 2))
    # The display builds up within the first quarter of a second; the head swings all the time.
    features = len(Expression._fields)
    poses = []
    for time_s, opening in zip(seconds, speech, strict=True):
        onset = 0.55 + 0.45 * min(1.0, time_s / 0.25)
        display = calm + change * onset
        face, head = Expression(*display[:features]), Motion(*display[features:])
        nod = head.nod * np.sin(2 * np.pi * head.nod_hz * pace * time_s + phase[0])
        shake = head.shake * np.sin(2 * np.pi * head.shake_hz * pace * time_s + phase[1])
        roll = head.roll_deg * np.sin(2 * np.pi * head.roll_hz * pace * time_s + phase[2])
        blink = np.clip(np.abs(time_s - blink_s).min() / 0.09, 0.2, 1)
        pose = Pose(
            x=shake + wander[0],
            y=nod + head.bow + wander[1],
            roll_deg=roll + head.lean_deg * lean + 0.5 * np.sin(1.7 * time_s + phase[3]),
            scale=1 + head.near,
            lids=float(blink),
            gaze=tuple(gaze[int(np.searchsorted(blink_s, time_s)) % 4]),
            speech=float(opening),
            expression=face,
        )
        poses.append(pose)
    return poses


def move_lips(
    seconds: np.ndarray, span_s: tuple, openness: np.ndarray, rng: Generator
) -> np.ndarray:
    """How far speech opens the lips, (T,) in 0..1, at the times `seconds`, (T,).

    The rhythm is independent of the voice, whose rate would reveal its group. Outside of `span_s`,
    from start to end, the lips are closed; `openness`, (N,) in 0..1, is how far each syllable opens
    them, repeated until the end.
    """
    start_s, end_s = span_s
    edges = start_s + np.cumsum(rng.uniform(0.22, 0.36, size=20))
    edges = np.concatenate(([start_s], edges[edges < end_s], [end_s]))
    peaks = np.resize(openness, len(edges) - 1) * rng.uniform(0.7, 1.0, size=len(edges) - 1)
    times = np.stack((edges[:-1], (edges[:-1] + edges[1:]) / 2), axis=1).ravel()
    heights = np.stack((np.full(len(peaks), 0.08), peaks), axis=1).ravel()
    return np.interp(seconds, [*times, end_s], [*heights, 0], left=0)
