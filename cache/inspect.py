"""A contact sheet: the cached faces, to be looked at."""

from collections import Counter
from pathlib import Path

import numpy as np

from cache.files import atomic_path
from cache.ravdess import EMOTIONS, Clip
from cache.reader import Cache
from cache.schema import FRAME_COUNT
from cache.shard import CacheError

_STEP = 3  # every third of the 30 frames
_SIZE = 112  # pixels a side of a frame on the sheet
_MFCC_WIDTH = 212
_LABEL = 16  # pixels of the line of text above each clip


def choose(clips: list[Clip], count: int) -> list[Clip]:
    """`count` of the clips, or all: actor after actor in turn, and another emotion each time."""
    left = sorted(clips, key=lambda clip: (clip.actor, clip))
    chosen: list[Clip] = []
    while left and len(chosen) < count:
        shown = Counter(clip.actor for clip in chosen)
        emotions = Counter(clip.label for clip in chosen)
        new = min(left, key=lambda c: (shown[c.actor], emotions[c.label], c.actor, c))
        chosen.append(new)
        left.remove(new)
    return sorted(chosen, key=lambda clip: (clip.actor, clip))


def contact_sheet(cache: Cache, clips: list[Clip], path: Path) -> None:
    """Write a PNG with a row a clip: its name, figures and notes, every third frame, its MFCCs.

    The figures are the side of the crop, its jitter (the mean absolute second difference of its
    centre over time, in pixels of the source) and the detector's least score.

    Args:
        cache: where the clips lie.
        clips: which to show, in this order.
        path: the PNG; appears whole or not at all.
    """
    if "frames" not in cache.fields(clips[0].clip_id):
        raise CacheError(f"{cache.directory}: holds sound alone, so there are no faces to look at")
    from PIL import Image, ImageDraw  # torchvision brings it; nothing else here needs pictures

    columns = len(range(0, FRAME_COUNT, _STEP))
    sheet = Image.new(
        "RGB", (columns * _SIZE + _MFCC_WIDTH, len(clips) * (_SIZE + _LABEL)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for row, clip in enumerate(clips):
        top = row * (_SIZE + _LABEL)
        box = cache.read(clip.clip_id, "face_box")
        side = box[0, 2] - box[0, 0]
        jitter = np.abs(np.diff((box[:, :2] + box[:, 2:]) / 2, 2, axis=0)).mean()
        scores = cache.read(clip.clip_id, "face_score")
        found = scores[scores > 0]
        text = (
            f"{clip.clip_id}  {EMOTIONS[clip.label]}  crop {side:.0f} px, jitter {jitter:.2f} px, "
            f"least score {found.min(initial=1):.3f} of {len(found)}  "
            + "; ".join(cache.manifest["clips"][clip.clip_id]["notes"])[:200]
        )
        draw.text((2, top + 2), text, fill="black")
        for column, frame in enumerate(cache.read(clip.clip_id, "frames")[::_STEP]):
            small = Image.fromarray(frame).resize((_SIZE, _SIZE), Image.Resampling.BOX)
            sheet.paste(small, (column * _SIZE, top + _LABEL))
        mfcc = Image.fromarray(_grey(cache.read(clip.clip_id, "mfcc")))
        place = (columns * _SIZE, top + _LABEL)
        sheet.paste(mfcc.resize((_MFCC_WIDTH, _SIZE), Image.Resampling.NEAREST), place)
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")


def _grey(mfcc: np.ndarray) -> np.ndarray:
    """Coefficients (13, T) as uint8, the highest at the top, each over its own range."""
    low, high = mfcc.min(axis=1, keepdims=True), mfcc.max(axis=1, keepdims=True)
    return (255 * (mfcc - low) / np.maximum(high - low, 1e-9)).astype(np.uint8)[::-1]
