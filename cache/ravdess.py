"""RAVDESS: what its file names say, its actors and emotions, its splits, its license.

The only place that knows the dataset. To add another one, write a module like this.
"""

import re
from dataclasses import dataclass
from typing import Any

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
ACTORS = range(1, 25)

# Every video: frames per second, and the size of a frame in pixels.
FRAME_RATE_HZ = 30_000 / 1_001
FRAME_HEIGHT, FRAME_WIDTH = 720, 1280

FULL_AV, VIDEO_ONLY, AUDIO_ONLY = 1, 2, 3
SPEECH, SONG = 1, 2

# Each number of a file name in order, with its highest value; the lowest is always 1.
_HIGHEST = {
    "modality": 3,
    "channel": 2,
    "emotion": len(EMOTIONS),
    "intensity": 2,
    "statement": 2,
    "repetition": 2,
    "actor": len(ACTORS),
}
_PATTERN = re.compile(r"[0-9]{2}(?:-[0-9]{2}){6}", re.ASCII)


@dataclass(frozen=True, order=True)
class Clip:
    """One RAVDESS recording, identified by the seven numbers of its file name.

    Clips sort by these numbers, which is also the order of their `clip_id`.

    Source: Livingstone & Russo 2018.
    """

    modality: int  # 1 full audio-video, 2 video-only, 3 audio-only
    channel: int  # 1 speech, 2 song
    emotion: int  # 1..8, in the order of `EMOTIONS`
    intensity: int  # 1 normal, 2 strong
    statement: int  # 1..2
    repetition: int  # 1..2
    actor: int  # 1..24

    @classmethod
    def parse(cls, clip_id: str) -> "Clip":
        """Read a file name without its extension, such as `01-01-06-01-02-01-12`.

        ValueError if the name is not seven two-digit numbers in RAVDESS's ranges.
        """
        refused = f"{clip_id!r} is not a RAVDESS name:"
        if not _PATTERN.fullmatch(clip_id):
            example = "01-01-06-01-02-01-12"
            raise ValueError(f"{refused} expected seven two-digit numbers, such as {example}")
        numbers = dict(zip(_HIGHEST, map(int, clip_id.split("-")), strict=True))
        for field, number in numbers.items():
            if not 1 <= number <= _HIGHEST[field]:
                raise ValueError(f"{refused} {field} is {number}, expected 1..{_HIGHEST[field]}")
        if numbers["emotion"] == 1 and numbers["intensity"] == 2:
            raise ValueError(f"{refused} neutral (emotion 1) has no strong intensity")
        return cls(**numbers)

    @property
    def clip_id(self) -> str:
        """The file name without its extension, `01-01-06-01-02-01-12`."""
        return "-".join(f"{getattr(self, field):02d}" for field in _HIGHEST)

    @property
    def label(self) -> int:
        """The class index 0..7 into `EMOTIONS`."""
        return self.emotion - 1


def expected_clips(actor: int | None = None) -> list[Clip]:
    """The 1,440 full-AV speech clips of RAVDESS, sorted, or the 60 of one actor.

    Each actor speaks 2 statements twice in 8 emotions, all but neutral in 2 intensities.
    """
    return sorted(
        Clip(FULL_AV, SPEECH, emotion, intensity, statement, repetition, who)
        for who in (ACTORS if actor is None else (actor,))
        for emotion in range(1, len(EMOTIONS) + 1)
        for intensity in ((1,) if emotion == 1 else (1, 2))
        for statement in (1, 2)
        for repetition in (1, 2)
    )


def sex(actor: int) -> str:
    """Return "male" or "female": RAVDESS gives men odd numbers and women even ones."""
    return "male" if actor % 2 else "female"


# Splits. ---------------------------------------------------------------------------------------
# The actors that each fold tests; it trains on all others.
# "paper": fold k tests actors 4k+1..4k+4, two men and two women (Sec. 3.2 of the paper). The
# paper's five folds are 0..4 and never test actors 21-24; fold 5 is the rotation that does.
# "luna5": the folds of Luna-Jimenez et al. 2021, used by much of the later work.
# "emobox": the folds of Ma et al. 2024 (EmoBox). "loso": leave one speaker out.
SPLITS = {
    "paper": "1,2,3,4/5,6,7,8/9,10,11,12/13,14,15,16/17,18,19,20/21,22,23,24",
    "luna5": "2,5,14,15,16/3,6,7,13,18/10,11,12,19,20/8,17,21,23,24/1,4,9,22",
    "emobox": "1,11,20,21/4,10,12,14/8,9,19,23/3,5,7,24/2,15,16,18/6,13,17,22",
    "loso": "/".join(map(str, ACTORS)),
}
_LISTS = re.compile(r"[0-9]{1,2}(?:[,/][0-9]{1,2})*", re.ASCII)


def own_split(lists: Any) -> str:
    """The name of your own split: [[1, 2], [3, 4]], the actors of each fold, is `1,2/3,4`.

    ValueError if these are not lists of actors, one is empty, or an actor is in two of them.
    """
    folds = lists if isinstance(lists, list) else []
    if not folds or not all(isinstance(fold, list) and fold for fold in folds):
        raise ValueError("expected a list of test actors for each fold, such as [[1, 2], [3, 4]]")
    actors = [actor for fold in folds for actor in fold]
    for actor in actors:
        if type(actor) is not int or actor not in ACTORS:
            raise ValueError(f"actor is {actor!a:.40}, expected 1..{len(ACTORS)}")
        if actors.count(actor) > 1:
            raise ValueError(f"actor {actor} is tested twice, expected in one fold only")
    return "/".join(",".join(map(str, sorted(fold))) for fold in folds)


def folds_of(split: str) -> tuple[tuple[int, ...], ...]:
    """The actors that each fold tests, in a named split or your own; ValueError for others."""
    text = SPLITS.get(split, split)
    if not _LISTS.fullmatch(text):
        expected = f"one of {', '.join(SPLITS)}, or a file that ends in .json"
        raise ValueError(f"split is {split!r}, expected {expected}")
    lists = [list(map(int, fold.split(","))) for fold in text.split("/")]
    own_split(lists)  # the name may come from somebody else's run
    return tuple(map(tuple, lists))


def headline_folds(split: str) -> range:
    """The folds over which a split's headline accuracy is the mean."""
    return range(5 if split == "paper" else len(folds_of(split)))


def actors_of(
    split: str, fold: int, *, validate: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The actors that a fold trains on and the actors that it tests; no actor is in both.

    With `validate`, validation actors are held out, those that the next fold tests, instead of the
    test actors, which are then left out altogether. Folds are numbered from 0. ValueError for a
    split or a fold that does not exist, or that leaves nobody to train on or to validate with.
    """
    folds = folds_of(split)
    if not 0 <= fold < len(folds):
        raise ValueError(f"fold is {fold}, expected 0..{len(folds) - 1} for split {split!r}")
    held_out = tested = folds[fold]
    if validate:
        held_out = folds[(fold + 1) % len(headline_folds(split))]
    trained = tuple(actor for actor in ACTORS if actor not in {*tested, *held_out})
    if not trained or (validate and held_out == tested):
        what = "validate with" if trained else "train on"
        raise ValueError(f"fold {fold} of split {split!r} leaves no actor to {what}")
    return trained, held_out


# Datasets. -------------------------------------------------------------------------------------
# What a manifest says of the clips it holds: `dataset`, `license`, `citation`.
FULL_AV_ORIGIN = {
    "dataset": "RAVDESS speech, full audio-video",
    "license": "CC BY-NC-SA 4.0",
    "citation": (
        "Livingstone SR, Russo FA (2018). The Ryerson Audio-Visual Database of Emotional Speech "
        "and Song (RAVDESS): A dynamic, multimodal set of facial and vocal expressions in North "
        "American English. PLoS ONE 13(5): e0196391. https://doi.org/10.1371/journal.pone.0196391"
    ),
}
HOME_PAGE = "https://doi.org/10.5281/zenodo.1188976"
# A manifest's license: its name on the Hugging Face hub, and its address.
LICENSES = {
    "CC BY-NC-SA 4.0": ("cc-by-nc-sa-4.0", "https://creativecommons.org/licenses/by-nc-sa/4.0/"),
    "CC0 1.0": ("cc0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
}
AUDIO_ONLY_ORIGIN = FULL_AV_ORIGIN | {"dataset": "RAVDESS speech, audio only"}
LANDMARKS_ORIGIN = FULL_AV_ORIGIN | {"dataset": "RAVDESS speech, facial landmarks and audio"}
# The origin of a cache by its modality.
ORIGINS = {"av": FULL_AV_ORIGIN, "audio": AUDIO_ONLY_ORIGIN, "landmarks": LANDMARKS_ORIGIN}


def sample_origin(seed: int) -> dict[str, str]:
    """The origin of the synthetic sample, which is named and coded as RAVDESS."""
    return {
        "dataset": f"synthetic sample, seed {seed}",
        "license": "CC0 1.0",
        "citation": "Drawn by CFN-SR's preprocess.sample; it shows and says nothing of a person.",
    }


def is_recordings(dataset: str) -> bool:
    """Whether a manifest's `dataset` names recordings of people, not the synthetic sample."""
    return dataset in {origin["dataset"] for origin in ORIGINS.values()}


def is_sample(dataset: str) -> bool:
    """Whether a manifest's `dataset` names the synthetic sample."""
    return dataset.startswith("synthetic sample")
