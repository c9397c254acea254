"""What a RAVDESS clip is: its name, its fields, and the 1,440 clips the dataset should hold."""

import re
from dataclasses import dataclass

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
ACTORS = range(1, 25)

FULL_AV, VIDEO_ONLY, AUDIO_ONLY = 1, 2, 3
SPEECH, SONG = 1, 2

_FIELDS = ("modality", "channel", "emotion", "intensity", "statement", "repetition", "actor")
_HIGHEST = {
    "modality": 3,
    "channel": 2,
    "emotion": 8,
    "intensity": 2,
    "statement": 2,
    "repetition": 2,
    "actor": 24,
}
_PATTERN = re.compile(r"[0-9]{2}(?:-[0-9]{2}){6}", re.ASCII)


@dataclass(frozen=True, order=True)
class Clip:
    """One RAVDESS recording, by the seven numbers of its file name (Livingstone & Russo 2018).

    `modality` 1 full-AV, 2 video-only, 3 audio-only; `channel` 1 speech, 2 song; `emotion` 1..8;
    `intensity` 1 normal, 2 strong; `statement` and `repetition` 1..2; `actor` 1..24 (odd: male,
    even: female). Clips sort by these numbers, which is also the order of their `clip_id`.
    """

    modality: int
    channel: int
    emotion: int
    intensity: int
    statement: int
    repetition: int
    actor: int

    @classmethod
    def parse(cls, clip_id: str) -> "Clip":
        """Read a file name without its extension, such as `01-01-06-01-02-01-12`.

        Raises:
            ValueError: if the name is not seven two-digit numbers in RAVDESS's ranges.
        """
        if not _PATTERN.fullmatch(clip_id):
            raise ValueError(
                f"{clip_id!r} is not a RAVDESS name: expected seven two-digit numbers joined by "
                "'-', such as 01-01-06-01-02-01-12"
            )
        numbers = dict(zip(_FIELDS, map(int, clip_id.split("-")), strict=True))
        for field, number in numbers.items():
            if not 1 <= number <= _HIGHEST[field]:
                raise ValueError(
                    f"{clip_id!r} is not a RAVDESS name: {field} is {number}, "
                    f"expected 1..{_HIGHEST[field]}"
                )
        if numbers["emotion"] == 1 and numbers["intensity"] == 2:
            raise ValueError(
                f"{clip_id!r} is not a RAVDESS name: neutral (emotion 1) has no strong intensity"
            )
        return cls(**numbers)

    @property
    def clip_id(self) -> str:
        """The file name without its extension, `01-01-06-01-02-01-12`."""
        return "-".join(f"{getattr(self, field):02d}" for field in _FIELDS)

    @property
    def label(self) -> int:
        """Class index 0..7 into `EMOTIONS`."""
        return self.emotion - 1

    @property
    def is_full_av_speech(self) -> bool:
        """Whether this is one of the 1,440 clips that the network is trained on."""
        return (self.modality, self.channel) == (FULL_AV, SPEECH)


def expected_clips(actor: int | None = None) -> list[Clip]:
    """The 1,440 full-AV speech clips of RAVDESS, sorted, or the 60 of one actor.

    Each actor speaks 2 statements twice in 8 emotions, all but neutral in 2 intensities.
    """
    actors = ACTORS if actor is None else (actor,)
    return sorted(
        Clip(FULL_AV, SPEECH, emotion, intensity, statement, repetition, who)
        for who in actors
        for emotion in range(1, 9)
        for intensity in ((1,) if emotion == 1 else (1, 2))
        for statement in (1, 2)
        for repetition in (1, 2)
    )
