"""A contact sheet: the cached faces, to be looked at."""

from collections import Counter
from pathlib import Path

import numpy as np

from cache.clips import EMOTIONS, Clip
from cache.files import atomic_path
from cache.reader import Cache

_STEP = 3  # every third of the 30 frames
_SIZE = 112  # pixels a side of a frame on the sheet
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
    """Write a PNG with a row a clip: its name and notes, and every third frame in time.

    Args:
        cache: where the clips lie.
        clips: which to show, in this order.
        path: the PNG; appears whole or not at all.
    """
    from PIL import Image, ImageDraw  # torchvision brings it; nothing else here needs pictures

    columns = len(range(0, 30, _STEP))
    sheet = Image.new("RGB", (columns * _SIZE, len(clips) * (_SIZE + _LABEL)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, clip in enumerate(clips):
        top = row * (_SIZE + _LABEL)
        side = np.diff(cache.read(clip.clip_id, "face_box")[0, [0, 2]])[0]
        notes = "; ".join(cache.manifest["clips"][clip.clip_id]["notes"])
        text = f"{clip.clip_id}  {EMOTIONS[clip.label]}, crop of {side:.0f} pixels  {notes}"
        draw.text((2, top + 2), text, fill="black")
        for column, frame in enumerate(cache.read(clip.clip_id, "frames")[::_STEP]):
            small = Image.fromarray(frame).resize((_SIZE, _SIZE), Image.Resampling.BOX)
            sheet.paste(small, (column * _SIZE, top + _LABEL))
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
