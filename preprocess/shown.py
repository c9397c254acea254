"""What a file says about how its picture is shown: crop rectangle, pixel shape, turn, colors."""

import re
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.stream import Stream
from av.video.reformatter import ColorTrc

from preprocess.limits import ClipError, check_size

# How swscale converts and resizes: the mean of the area under each pixel (bilinear where it
# enlarges), color at full resolution, and the same bytes on every processor.
SCALING = "area+full_chroma_inp+full_chroma_int+accurate_rnd+bitexact"

# Formats of which any part can be cut out: others have colors at every fourth pixel, or two
# values or two bytes side by side, that a cut at an odd pixel would tear apart.
_SIMPLE = {f"{yuv}{part}p" for yuv in ("yuv", "yuvj") for part in (420, 422, 444)} | {"rgb24"}

# Color matrices that swscale knows (RGB, BT.709, unspecified, FCC, BT.601, 240M, BT.2020), and
# the brightness curves that it must convert, because only HDR displays show them.
_MATRICES = (0, 1, 2, 4, 5, 6, 7, 9)
_HDR = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}

Filter = tuple[str, str | None]  # FFmpeg's name, and its argument


class Display:
    """Shows the frames of a picture track as its file says."""

    def __init__(self, container: InputContainer, track: Stream):
        self._track, self._rectangle = track, _crop_rectangle(container, track)
        self._looks: tuple | None = None  # of the frame for which `_graph` and `_notes` are

    def shown(self, frame: av.VideoFrame) -> tuple[av.VideoFrame, tuple[str, ...]]:
        """A frame as it is to be shown, and notes on what that took. See `Video.shown`."""
        if frame.color_trc not in _HDR:  # others need no conversion, whatever they are
            frame.color_trc = frame.color_primaries = ColorTrc.UNSPECIFIED
        looks = frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_trc
        if self._looks != (looks := (*looks, frame.rotation)):
            # Only here: `side_data` makes a reference cycle, which keeps each frame in memory until
            # Python looks for cycles.
            matrix = bytes(frame.side_data.get("DISPLAYMATRIX") or b"")
            filters, notes = [], []
            for more, note in (_simple(frame), *self._cut(frame), _upright(frame, matrix)):
                filters += more
                notes += [note] * bool(note)
            self._graph = filter_graph(frame, *filters)[0] if filters else None
            self._looks, self._notes = looks, tuple(notes)
        if self._graph is not None:
            self._graph.push(frame)
            frame = self._graph.pull()
        return frame, self._notes

    def _cut(self, frame: av.VideoFrame) -> list[tuple[list[Filter], str]]:
        """The filters and notes that cut a frame to the crop rectangle, and make pixels square."""
        steps = []
        left, right, top, bottom = self._rectangle
        width, height = frame.width - left - right, frame.height - top - bottom
        if any(self._rectangle):
            crop = ("crop", f"{width}:{height}:{left}:{top}:exact=1")
            steps.append(([crop], f"cut to the {width}x{height} pixels that the file shows"))
        aspect = self._track.sample_aspect_ratio or Fraction(1)  # of a pixel, width by height
        if abs(aspect - 1) > 0.01:  # enlarge the shorter side
            width, height = round(width * max(aspect, 1)), round(height / min(aspect, 1))
            scale = ("scale", f"{width}:{height}:flags={SCALING}")
            note = f"pixels of {aspect.numerator}:{aspect.denominator} made square"
            steps.append(([scale], note))
        check_size(width, height)
        return steps


def _simple(frame: av.VideoFrame) -> tuple[list[Filter], str]:
    """The filters, and a note, that make a frame one of which any part can be cut out."""
    if frame.colorspace not in _MATRICES:
        raise ClipError(f"the colors have matrix {frame.colorspace}, expected one of {_MATRICES}")
    if curve := _HDR.get(frame.color_trc):  # with `full_chroma_int`, swscale gets its colors wrong
        smooth = SCALING.replace("+full_chroma_int", "")
        scale = ("scale", f"flags={smooth}:out_transfer=bt709:out_primaries=bt709")
        return [scale, ("format", "rgb24")], f"converted from HDR ({curve}) to BT.709"
    if frame.format.name not in _SIMPLE:
        return [("scale", f"flags={SCALING}"), ("format", "rgb24")], ""
    return [], ""


def _upright(frame: av.VideoFrame, matrix: bytes) -> tuple[list[Filter], str]:
    """The filters, and a note, that turn and mirror by a display matrix: nine int32, or nothing."""
    if not matrix:
        return [], ""
    # A point (x, y) of the picture is shown at (ax + cy, bx + dy).
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    is_turned = abs(b) > abs(a)
    across, down = (c, b) if is_turned else (a, d)
    if max(map(abs, (a, d) if is_turned else (b, c))) > 0.01 * abs(across):
        turned = f"the picture is turned by {frame.rotation} degrees"
        raise ClipError(f"{turned}, expected a multiple of 90")
    filters: list[Filter] = [("transpose", "cclock_flip")] * is_turned
    filters += [("hflip", None)] * (across < 0) + [("vflip", None)] * (down < 0)
    if a * d < b * c:
        return filters, "mirrored"
    angle = frame.rotation % 360
    return filters, f"turned by {angle} degrees" if angle else ""


def _crop_rectangle(container: InputContainer, track: Stream) -> tuple[int, ...]:
    """What the container cuts off a picture on the left, right, top and bottom, in pixels."""
    # FFmpeg leaves this to its caller, and PyAV only shows it in the description of a file.
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        described = container.dumps_format()
    finally:
        av.logging.set_level(level)
    own = described.partition(f"Stream #0:{track.index}")[2].partition("Stream #")[0]
    found = re.search(r"\n +Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)", own)
    return tuple(map(int, found.groups())) if found else (0, 0, 0, 0)


def filter_graph(
    frame: av.VideoFrame, *filters: Filter
) -> tuple[av.filter.Graph, list[av.filter.context.FilterContext]]:
    """A chain of filters for frames like this one, and its nodes."""
    graph = av.filter.Graph()
    graph.threads = 1
    looks = {"width": frame.width, "height": frame.height, "format": frame.format.name}
    source = graph.add_buffer(**looks, time_base=frame.time_base or Fraction(1, 1000))
    nodes = [graph.add(name, argument) for name, argument in (*filters, ("buffersink", None))]
    graph.link_nodes(source, *nodes).configure()
    return graph, nodes
