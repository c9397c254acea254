"""An annotated copy of a video, with the predictions beside the picture."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cache.command import printable
from cache.files import atomic_path
from cache.ravdess import EMOTIONS
from cache.schema import FRAME_COUNT, SAMPLE_RATE_HZ
from evaluate.predict.picture import BOX, COLORS, dot, glowing
from evaluate.predict.predictor import Prediction
from preprocess.decode import Video

_HEIGHT = 720  # the largest height of the picture in pixels
PANEL = 320  # the width of the panel beside it in pixels
_BANNER_SIZE = 14  # of the warnings below it, in pixels
_TICKS = 90_000  # the unit of the written time stamps, per second


def annotate(
    video: Video, prediction: Prediction, path: Path, *, warnings: Sequence[str] = ()
) -> None:
    """Write an mp4: the picture with the face's box, beside it the prediction at that moment.

    The warnings are below each frame. The sound is written too if the video was opened with sound.
    The file appears whole or not at all.
    """
    with atomic_path(path) as temporary, av.open(temporary, "w", format="mp4") as mp4:
        picture, last = None, -1
        pieces = _audio_frames(video.sound() if video.has_sound else ())
        if piece := next(pieces, None):
            voice = mp4.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", bit_rate=128_000)
        for time_s, raw in video.frames():
            frame, _ = video.shown(raw)
            if picture is None:
                scale = min(1, _HEIGHT / frame.height)
                # H.264 takes only even sizes.
                width, height = (2 * round(n * scale / 2) for n in (frame.width, frame.height))
                below = _banner(warnings, width + PANEL)
                height_in_all = height + len(below)
                size = {"width": width + PANEL, "height": height_in_all, "pix_fmt": "yuv420p"}
                picture = mp4.add_stream("libx264", 30, options={"preset": "veryfast"}, **size)
                picture.codec_context.time_base = Fraction(1, _TICKS)
            # The sound up to this frame, so that both stay together in the file.
            while piece and piece.time < time_s:
                mp4.mux(voice.encode(piece))
                piece = next(pieces, None)
            shown = frame.reformat(width, height, "rgb24").to_ndarray()
            annotated = _beside(shown, time_s, prediction, frame.width)
            out = av.VideoFrame.from_ndarray(np.concatenate([annotated, below]), format="rgb24")
            last = max(last + 1, round(time_s * _TICKS))
            out.pts, out.time_base = last, Fraction(1, _TICKS)
            mp4.mux(picture.encode(out))
        mp4.mux(picture.encode())
        while piece:
            mp4.mux(voice.encode(piece))
            piece = next(pieces, None)
        if video.has_sound:
            mp4.mux(voice.encode())


def _banner(warnings: Sequence[str], width: int) -> np.ndarray:
    """Warnings in black on yellow, uint8 (H, width, 3) with an even height; 0 without any."""
    font = ImageFont.load_default(_BANNER_SIZE)
    columns = int(width / (0.55 * _BANNER_SIZE))  # of characters of medium width
    lines = [line for each in warnings for line in textwrap.wrap(printable(each), columns)]
    height = 2 * _BANNER_SIZE * len(lines)
    image = Image.new("RGB", (width, height), BOX)
    ImageDraw.Draw(image).text((_BANNER_SIZE, 4), "\n".join(lines), fill="black", font=font)
    return np.asarray(image).reshape(height, width, 3)


def _audio_frames(sound: Iterable[np.ndarray]) -> Iterator[av.AudioFrame]:
    """Yield pieces of sound, float32 (samples,), ready to be encoded one after the other."""
    count = 0
    for piece in sound:
        if len(piece):
            frame = av.AudioFrame.from_ndarray(piece[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, count
            frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
            count += len(piece)
            yield frame


def _beside(
    picture: np.ndarray, time_s: float, prediction: Prediction, source_width: int
) -> np.ndarray:
    """The picture with its box, uint8 (H, W, 3), and a panel on its right."""
    height, width = picture.shape[:2]
    canvas = Image.new("RGB", (width + PANEL, height), "#181818")
    canvas.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(canvas)
    unit = height / 40  # everything in the panel grows with the picture
    left = width + unit
    small = ImageFont.load_default(max(8, unit * 0.7))
    found = prediction.at(time_s)
    if found is None:
        draw.text((left, unit), f"{time_s:.2f} s: no prediction", fill="white", font=small)
        return np.asarray(canvas)
    window, number = found
    # A bar per emotion.
    font = ImageFont.load_default(max(8, unit))
    for index, (emotion, share) in enumerate(zip(EMOTIONS, window.probabilities, strict=True)):
        top = unit * (1 + 2 * index)
        draw.text((left, top), emotion, fill="white", font=font)
        start, full = left + 6 * unit, PANEL - 8 * unit
        draw.rectangle((start, top, start + full, top + unit), outline="#555555")
        draw.rectangle((start, top, start + full * float(share), top + unit), fill=COLORS[emotion])
    text = f"{time_s:.2f} s; input from {window.start_s:.2f} to {window.end_s:.2f} s"
    draw.text((left, unit * 18), text, fill="white", font=small)
    # The box around the face, and the face with the attention over it.
    if window.boxes is not None:
        box = np.array([np.interp(number, range(FRAME_COUNT), side) for side in window.boxes.T])
        x1, y1, x2, y2 = box * (width / source_width)
        if window.attention is not None:
            size = int(min(PANEL - 2 * unit, height - 20 * unit))
            face = Image.fromarray(picture).crop(tuple(map(round, (x1, y1, x2, y2))))
            face = np.array(face.resize((size, size)))
            glow = glowing(face, window, round(number))
            canvas.paste(Image.fromarray(glow), (round(left), round(20 * unit)))
        draw.rectangle((x1, y1, x2, y2), outline=BOX, width=3)
        if window.points is not None:
            points = window.points[round(number)] * (width / source_width)
            dot(canvas, points, max(1, height / 500), BOX)
    return np.asarray(canvas)
