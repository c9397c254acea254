"""A video again, with what the network said of it written beside the picture."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cache.clips import EMOTIONS
from cache.files import atomic_path
from cache.schema import DURATION_S, FRAME_COUNT, SAMPLE_RATE_HZ
from evaluate.overlay import COLOURS, Prediction, Window, overlaid

_HEIGHT = 720  # of the written picture, at most
_PANEL = 320  # pixels beside it
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
    """
    track = _Track(prediction)
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
                video.width, video.height, video.pix_fmt = width + _PANEL, height, "yuv420p"
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


class _Track:
    """Which window and which box belong to a moment."""

    def __init__(self, prediction: Prediction):
        self.windows = prediction.usable
        self._middles = np.array([window.start_s + DURATION_S / 2 for window in self.windows])
        seen = [window for window in self.windows if window.boxes is not None]
        grid = (np.arange(FRAME_COUNT) + 0.5) * DURATION_S / FRAME_COUNT
        times = np.array([window.start_s + grid for window in seen]).reshape(-1)
        order = np.argsort(times, kind="stable")
        self._times = times[order]
        self._boxes = np.array([window.boxes for window in seen]).reshape(-1, 4)[order]

    def window(self, time_s: float) -> tuple[Window, int]:
        """The window whose middle is nearest, and which of its 30 frames is."""
        window = self.windows[int(np.abs(self._middles - time_s).argmin())]
        number = int((time_s - window.start_s) / DURATION_S * FRAME_COUNT)
        return window, min(max(number, 0), FRAME_COUNT - 1)

    def box(self, time_s: float) -> np.ndarray | None:
        """x1, y1, x2, y2 in pixels of the file; None where no window has seen a face near by."""
        if not len(self._times) or np.abs(self._times - time_s).min() > DURATION_S / 2:
            return None
        return np.array([np.interp(time_s, self._times, side) for side in self._boxes.T])


def _beside(picture: np.ndarray, time_s: float, track: _Track, source_width: int) -> np.ndarray:
    """The picture with its box, uint8 (H, W, 3), and a panel on its right."""
    height, width = picture.shape[:2]
    canvas = Image.new("RGB", (width + _PANEL, height), "#181818")
    canvas.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(canvas)
    window, number = track.window(time_s)
    box = track.box(time_s)
    unit = height / 40  # everything in the panel grows with the picture
    font = ImageFont.load_default(max(8, unit))
    left = width + unit
    for index, (emotion, share) in enumerate(zip(EMOTIONS, window.probabilities, strict=True)):
        top = unit * (1 + 2 * index)
        draw.text((left, top), emotion, fill="white", font=font)
        start, full = left + 6 * unit, _PANEL - 8 * unit
        draw.rectangle((start, top, start + full, top + unit), outline="#555555")
        draw.rectangle((start, top, start + full * float(share), top + unit), fill=COLOURS[emotion])
    text = f"{time_s:.2f} s; heard and seen {window.start_s:.2f} to {window.end_s:.2f} s"
    draw.text(
        (left, unit * 18), text, fill="white", font=ImageFont.load_default(max(8, unit * 0.7))
    )
    if box is not None:
        x1, y1, x2, y2 = box * (width / source_width)
        if window.attention is not None:
            size = int(min(_PANEL - 2 * unit, height - 20 * unit))
            face = Image.fromarray(picture).crop(tuple(map(round, (x1, y1, x2, y2))))
            face = np.array(face.resize((size, size)))
            glow = overlaid(face, window.attention[number])
            canvas.paste(Image.fromarray(glow), (round(left), round(20 * unit)))
        draw.rectangle((x1, y1, x2, y2), outline="#ffee55", width=3)
    return np.asarray(canvas)
