"""The mistakes that a model was surest of, with the face of each clip where a cache has it."""

import base64
import io
from typing import Any

import numpy as np

from cache.ravdess import EMOTIONS
from cache.reader import Cache
from cache.schema import FRAME_COUNT
from cache.shard import CacheError
from evaluate.measures.breakdowns import rounded
from evaluate.measures.pooled import Pooled
from evaluate.runs.run import Run

SHOWN = 12
_SIZE = 112  # pixels a side
_QUALITY = 85


def surest_mistakes(pooled: Pooled, count: int = SHOWN) -> list[dict[str, Any]]:
    """The wrong predictions with the highest probability, highest first, then by clip id.

    Args:
        pooled: of one model.
        count: how many at most.
    """
    each = np.arange(len(pooled.clips))
    sure = pooled.probabilities[each, pooled.predicted]
    # The clips are sorted by id, and a stable sort keeps that order among equals.
    order = np.argsort(-sure, kind="stable")
    wrong = order[~pooled.right[order]]
    return [
        {
            "clip_id": pooled.clips[index].clip_id,
            "actor": pooled.clips[index].actor,
            "fold": int(pooled.folds[index]),
            "intensity": "strong" if pooled.clips[index].intensity == 2 else "normal",
            "true": EMOTIONS[pooled.labels[index]],
            "predicted": EMOTIONS[pooled.predicted[index]],
            "probability": rounded(sure[index]),
            "probability_of_true": rounded(pooled.probabilities[index, pooled.labels[index]]),
        }
        for index in wrong[:count].tolist()
    ]


def check_cache(cache: Cache, runs: list[Run]) -> None:
    """Raise CacheError unless a cache is the one that runs were trained from."""
    # The fingerprint is of the settings, which the drawn sample and the recordings may share.
    for name in ("dataset", "fingerprint"):
        found, expected = cache.manifest[name], runs[0].config["cache"][name]
        if found != expected:
            raise CacheError(
                f"{cache.directory}: its {name} is {found!r}, the runs of {runs[0].model} were "
                f"made from {expected!r}. Give the cache that they were trained from, or none"
            )


def faces(cache: Cache, clip_ids: list[str]) -> tuple[dict[str, str], list[str]]:
    """The middle frame of clips as JPEG data URLs, 112 pixels a side.

    Args:
        cache: where they lie.
        clip_ids: of the clips; those that the cache lacks, or has no frames of, get no picture.

    Returns:
        The data URLs by clip id, and a line for each shard that cannot be read.
    """
    known = {clip.clip_id for clip in cache.clips}
    pictures, problems = {}, []
    for clip_id in clip_ids:
        if clip_id not in known:
            continue
        try:
            if "frames" in cache.fields(clip_id):
                frames = cache.read(clip_id, "frames")  # uint8 (30, 224, 224, 3)
                pictures[clip_id] = _data_url(frames[FRAME_COUNT // 2])
        except (CacheError, OSError) as exc:
            problems.append(f"no face of clip {clip_id}: {exc}")
    return pictures, problems


def _data_url(frame: np.ndarray) -> str:
    """A frame, uint8 RGB (224, 224, 3), as a small JPEG."""
    from PIL import Image  # torchvision and matplotlib bring it; only pictures need it

    small = Image.fromarray(frame).resize((_SIZE, _SIZE), Image.Resampling.BOX)
    written = io.BytesIO()
    small.save(written, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"
