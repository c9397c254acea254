"""Faces of clips, as small pictures inside the page."""

import base64
import io
from typing import Any

from PIL import Image

from cache.reader import Cache
from cache.schema import FRAME_COUNT
from cache.shard import CacheError
from train.record import Run

_SIZE = 112  # pixels per side
_QUALITY = 85


def check_cache(cache: Cache, run: Run) -> None:
    """Raise CacheError unless a run was trained on this cache."""
    # The fingerprint covers only the settings, which sample and recordings may share.
    for name in ("dataset", "fingerprint"):
        found, expected = cache.manifest[name], run.config.cache[name]
        if found != expected:
            raise CacheError(
                f"{cache.directory}: its {name} is {found!r}, {run.name} was trained on "
                f"{expected!r}. Give the cache that the runs were trained on, or none"
            )


def read_faces(cache: Cache, clip_ids: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The middle frames of the clips that the cache has, and a line for each unreadable one.

    `pictures` are JPEG data URLs by clip id; `dataset`, `license` and `citation` are the cache's.
    """
    known = {clip.clip_id for clip in cache.clips}
    pictures, problems = {}, []
    for clip_id in clip_ids:
        try:
            if clip_id in known and "frames" in cache.fields(clip_id):
                frame = cache.read(clip_id, "frames")[FRAME_COUNT // 2]  # uint8 (224, 224, 3)
                small = Image.fromarray(frame).resize((_SIZE, _SIZE), Image.Resampling.BOX)
                buffer = io.BytesIO()
                small.save(buffer, "JPEG", quality=_QUALITY)
                coded = base64.b64encode(buffer.getvalue()).decode("ascii")
                pictures[clip_id] = f"data:image/jpeg;base64,{coded}"
        except (CacheError, OSError) as exc:
            problems.append(f"no face of clip {clip_id}: {exc}")
    origin = {name: cache.manifest[name] for name in ("dataset", "license", "citation")}
    return {"pictures": pictures, **origin}, problems
