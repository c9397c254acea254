"""A contact sheet: the cached faces and their landmarks on one picture, to look at."""

from collections import Counter
from pathlib import Path

import numpy as np

from cache.files import atomic_path
from cache.ravdess import EMOTIONS, Clip
from cache.reader import Cache
from cache.schema import FIELDS, FRAME_COUNT, FRAME_SIZE
from cache.shard import CacheError

_STEP = 3  # every third frame is shown
_SIDE = 112  # pixels of a frame on the sheet
_MFCC_WIDTH = FIELDS["mfcc"].shape[1]
_TEXT = 16  # pixels of the line of text above each clip


def choose(clips: list[Clip], count: int) -> list[Clip]:
    """Choose `count` clips, or all: actors in turn, with a different emotion each time."""
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
    """Write a PNG with one row per clip: name, figures and notes, every third frame, MFCCs.

    The figures are the side of the crop, its jitter (the mean absolute second difference of its
    center over time, in pixels of the source) and the detector's lowest score. CacheError if the
    cache has neither frames nor landmarks.
    """
    fields = cache.fields(clips[0].clip_id)
    if not {"frames", "landmarks"} & set(fields):
        raise CacheError(f"{cache.directory}: has audio only, so there are no faces to show")
    from PIL import Image, ImageDraw  # comes with torchvision; nothing else here needs pictures

    row_height, mfcc_left = _SIDE + _TEXT, len(range(0, FRAME_COUNT, _STEP)) * _SIDE
    sheet = Image.new("RGB", (mfcc_left + _MFCC_WIDTH, len(clips) * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    for row, clip in enumerate(clips):
        top = row * row_height
        box = cache.read(clip.clip_id, "face_box")
        jitter = np.abs(np.diff((box[:, :2] + box[:, 2:]) / 2, 2, axis=0)).mean()
        scores = cache.read(clip.clip_id, "face_score")
        found = scores[scores > 0]
        text = (
            f"{clip.clip_id}  {EMOTIONS[clip.label]}  crop {box[0, 2] - box[0, 0]:.0f} px, jitter "
            f"{jitter:.2f} px, lowest score {found.min(initial=1):.3f} of {len(found)}  "
            + "; ".join(cache.manifest["clips"][clip.clip_id]["notes"])[:200]
        )
        draw.text((2, top + 2), text, fill="black")
        faces = np.full((FRAME_COUNT, FRAME_SIZE, FRAME_SIZE, 3), 64, np.uint8)  # without pixels
        if "frames" in fields:
            faces = cache.read(clip.clip_id, "frames")
        for column, frame in enumerate(faces[::_STEP]):
            small = Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BOX)
            if "landmarks" in fields:
                corners = box[column * _STEP].reshape(2, 2)
                points = cache.read(clip.clip_id, "landmarks")[column * _STEP] - corners[0]
                points *= _SIDE / (corners[1] - corners[0])
                ImageDraw.Draw(small).point(points.ravel().tolist(), fill="yellow")
            sheet.paste(small, (column * _SIDE, top + _TEXT))
        # MFCCs in gray, the highest coefficient at the top, each scaled to its own range.
        mfcc = cache.read(clip.clip_id, "mfcc")  # (C, T)
        low, high = mfcc.min(axis=1, keepdims=True), mfcc.max(axis=1, keepdims=True)
        gray = (255 * (mfcc - low) / np.maximum(high - low, 1e-9)).astype(np.uint8)[::-1]
        small = Image.fromarray(gray).resize((_MFCC_WIDTH, _SIDE), Image.Resampling.NEAREST)
        sheet.paste(small, (mfcc_left, top + _TEXT))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
