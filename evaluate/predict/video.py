"""A video again, with what the network said of it written beside the picture."""

import bisect
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cache.files import atomic_path
from cache.ravdess import EMOTIONS
from cache.schema import DURATION_S, FRAME_COUNT, SAMPLE_RATE_HZ
from evaluate.predict.overlay import BOX, COLOURS, overlaid
from evaluate.predict.prediction import Prediction, Window

_HEIGHT = 720  # of the written picture, at most
PANEL = 320  # pixels beside it
_TICKS = 90_000  # a second, of the time stamps written


def annotate(
    frames: Iterator[tuple[float, av.VideoFrame]],
    sound: Iterator[np.ndarray] | None,
    prediction: Prediction,
    path: Path,
) -> None:
    """Write an mp4: the picture with the face's box, and beside it what was found at that moment.

    Args:
        frames: seconds and picture, upright, all of one size, rising in time.
        sound: float32 (samples,) at 44.1 kHz, piece by piece from time zero on; None for silence.
        prediction: of that video.
        path: the mp4; appears whole or not at all.

    Raises:
        ValueError: if there is no frame.
    """
    track = Track(prediction)
    with atomic_path(path) as temporary, av.open(temporary, "w", format="mp4") as mp4:
        video = voice = None
        heard = 0
        last = -1
        for time_s, frame in frames:
            if video is None:
                scale = min(1, _HEIGHT / frame.height)
                width, height = (  # H.264 takes even sizes alone
                    2 * round(side * scale / 2) for side in (frame.width, frame.height)
                )
                video = mp4.add_stream("libx264", rate=30, options={"preset": "veryfast"})
                video.width, video.height, video.pix_fmt = width + PANEL, height, "yuv420p"
                video.codec_context.time_base = Fraction(1, _TICKS)
                if sound is not None:
                    voice = mp4.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
                    voice.bit_rate = 128_000
            while voice is not None and heard < time_s * SAMPLE_RATE_HZ:
                piece = next(sound, None)
                if piece is None:
                    break
                heard = _add_sound(mp4, voice, piece, heard)
            picture = frame.reformat(width, height, "rgb24").to_ndarray()
            drawn = _beside(picture, time_s, track, frame.width)
            out = av.VideoFrame.from_ndarray(drawn, format="rgb24")
            last = max(last + 1, round(time_s * _TICKS))
            out.pts, out.time_base = last, Fraction(1, _TICKS)
            mp4.mux(video.encode(out))
        if video is None:
            raise ValueError("no picture in the file that could be annotated")
        mp4.mux(video.encode())
        for piece in sound if voice is not None else ():
            heard = _add_sound(mp4, voice, piece, heard)
        if voice is not None:
            mp4.mux(voice.encode())


def _add_sound(
    mp4: av.container.OutputContainer, voice: av.AudioStream, piece: np.ndarray, heard: int
) -> int:
    """Encode a piece of sound that follows `heard` samples; how many there are then."""
    if len(piece):
        frame = av.AudioFrame.from_ndarray(piece[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, heard
        frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
        mp4.mux(voice.encode(frame))
    return heard + len(piece)


class Track:
    """Which window belongs to a moment of a video: the one whose middle is nearest."""

    def __init__(self, prediction: Prediction):
        self.windows = prediction.usable
        self._middles = [window.middle_s for window in self.windows]

    def at(self, time_s: float) -> tuple[Window, float] | None:
        """The window, and the number of its frame (0..29, between two frames a fraction).

        None where no window with probabilities has heard and seen that moment.
        """
        after = bisect.bisect(self._middles, time_s)
        near = self.windows[max(0, after - 1) : after + 1]
        window = min(near, key=lambda each: abs(each.middle_s - time_s))
        if not window.start_s <= time_s <= window.end_s:
            return None
        number = (time_s - window.start_s) / DURATION_S * FRAME_COUNT - 0.5
        return window, min(max(number, 0.0), FRAME_COUNT - 1.0)


def _beside(picture: np.ndarray, time_s: float, track: Track, source_width: int) -> np.ndarray:
    """The picture with its box, uint8 (H, W, 3), and a panel on its right."""
    height, width = picture.shape[:2]
    canvas = Image.new("RGB", (width + PANEL, height), "#181818")
    canvas.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(canvas)
    unit = height / 40  # everything in the panel grows with the picture
    left = width + unit
    small = ImageFont.load_default(max(8, unit * 0.7))
    found = track.at(time_s)
    if found is None:
        draw.text((left, unit), f"{time_s:.2f} s: no prediction", fill="white", font=small)
        return np.asarray(canvas)
    window, number = found
    font = ImageFont.load_default(max(8, unit))
    for index, (emotion, share) in enumerate(zip(EMOTIONS, window.probabilities, strict=True)):
        top = unit * (1 + 2 * index)
        draw.text((left, top), emotion, fill="white", font=font)
        start, full = left + 6 * unit, PANEL - 8 * unit
        draw.rectangle((start, top, start + full, top + unit), outline="#555555")
        draw.rectangle((start, top, start + full * float(share), top + unit), fill=COLOURS[emotion])
    text = f"{time_s:.2f} s; heard and seen {window.start_s:.2f} to {window.end_s:.2f} s"
    draw.text((left, unit * 18), text, fill="white", font=small)
    if window.boxes is not None:
        box = np.array([np.interp(number, range(FRAME_COUNT), side) for side in window.boxes.T])
        x1, y1, x2, y2 = box * (width / source_width)
        if window.attention is not None:
            size = int(min(PANEL - 2 * unit, height - 20 * unit))
            face = Image.fromarray(picture).crop(tuple(map(round, (x1, y1, x2, y2))))
            face = np.array(face.resize((size, size)))
            glow = overlaid(face, window.attention[round(number)])
            canvas.paste(Image.fromarray(glow), (round(left), round(20 * unit)))
        draw.rectangle((x1, y1, x2, y2), outline=BOX, width=3)
    return np.asarray(canvas)
