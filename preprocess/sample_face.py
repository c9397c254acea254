"""Paints the faces of the synthetic sample: shaded cartoon heads, made of numbers only.

A `Look` is an actor's appearance, a `Portrait` is the look painted once, a `Pose` is one moment of
a clip; `preprocess.sample_acting` decides the poses. Faces are measured in half face widths from
the middle of the face, x to the right and y down, so that one drawing fits faces of every size.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import cv2
import numpy as np

WIDTH, HEIGHT = 1280, 720

_SKINS = ((244, 214, 192), (236, 199, 170), (225, 182, 148), (208, 162, 125), (184, 136, 101))
_HAIRS = ((38, 32, 32), (66, 46, 36), (98, 66, 44), (134, 92, 56), (176, 136, 84), (120, 62, 40))
_IRISES = ((84, 58, 38), (66, 92, 120), (82, 104, 70), (100, 76, 44))
_CLOTHES = ((52, 56, 66), (62, 78, 104), (92, 66, 74), (70, 92, 84), (112, 106, 100), (44, 44, 48))
_STYLES = {True: ("short", "crop", "swept"), False: ("long", "bob", "bun")}

_EYE_X, _EYE_Y, _BROW_Y, _MOUTH_Y, _CHIN_Y = 0.42, -0.22, -0.50, 0.68, 1.24
_SAMPLES = np.linspace(-1, 1, 25)
_DOME = 1 - _SAMPLES**2
_CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 40, endpoint=False))

Look = SimpleNamespace  # an actor's appearance, as drawn by `draw_look`
Color = tuple[float, ...]  # RGB, 0..255
Point = tuple[float, float]
Line = np.ndarray  # (N,), the x or the y of points in half face widths


class Expression(NamedTuple):
    """How the features are held; lengths are in half face widths."""

    brow_raise: float
    brow_slant: float  # inner ends up, outer ends down
    brow_arch: float
    brow_pinch: float  # inner ends towards each other
    eye_open: float  # factor
    eye_droop: float  # outer corners down
    mouth_width: float  # factor
    mouth_corner: float  # up
    mouth_open: float
    mouth_square: float  # 0 almond, 1 box
    teeth: float
    crease: float  # 0..1, folds beside the nose
    furrow: float  # 0..1, lines between the brows


@dataclass(frozen=True)
class Portrait:
    """A look, painted: what does not change while it speaks."""

    look: Look
    body: np.ndarray  # (720, 1280, 3) uint8 RGB: backdrop and shoulders
    head: np.ndarray  # (h, w, 4) uint8 RGB and coverage, without brows, eyes and mouth
    origin: Point  # the middle of the face in `head`, pixels


@dataclass(frozen=True)
class Pose:
    """One moment: how the head is moved, and what the face does."""

    x: float  # half face widths, as are `y` and `gaze`
    y: float
    roll_deg: float
    scale: float  # factor
    lids: float  # 1 open, 0 shut by a blink
    gaze: Point
    speech: float  # 0..1, how far speech opens the lips
    expression: Expression


def draw_look(rng: np.random.Generator, male: bool) -> Look:
    """A random appearance: colors are RGB 0..255, sizes without unit in half face widths."""
    skin = np.array(_SKINS[rng.integers(len(_SKINS))]) + rng.uniform(-6, 6)
    hair = np.array(_HAIRS[rng.integers(len(_HAIRS))]) + rng.uniform(-6, 6)
    backdrop = 226 + rng.uniform(-8, 8) + rng.uniform(-7, 7, size=3)
    return Look(
        half_width_px=rng.uniform(134, 150),
        center_px=(640 + rng.uniform(-25, 25), 318 + rng.uniform(-14, 14)),
        skin=tuple(skin),
        hair=tuple(hair),
        iris=_IRISES[rng.integers(len(_IRISES))],
        clothes=_CLOTHES[rng.integers(len(_CLOTHES))],
        backdrop=tuple(backdrop),
        style=_STYLES[male][rng.integers(3)],
        jaw=rng.uniform(0.62, 0.80) if male else rng.uniform(0.78, 0.98),
        face_height=rng.uniform(0.97, 1.05),
        eye_x=_EYE_X + rng.uniform(-0.02, 0.02),
        eye_size=rng.uniform(0.92, 1.04) if male else rng.uniform(1.0, 1.12),
        brow_thickness=rng.uniform(0.040, 0.054) if male else rng.uniform(0.026, 0.036),
        brow_length=rng.uniform(0.42, 0.48),
        nose_width=rng.uniform(0.9, 1.15) if male else rng.uniform(0.8, 1.0),
        nose_length=rng.uniform(0.94, 1.06),
        mouth_half_width=rng.uniform(0.33, 0.37),
        lip_thickness=rng.uniform(0.045, 0.060) if male else rng.uniform(0.060, 0.080),
        lash=0.016 if male else 0.028,
        stubble=rng.uniform(0, 0.16) if male else 0.0,
        strand_seed=int(rng.integers(2**31)),
    )


def _fill(image: np.ndarray, x: Line, y: Line, origin: Point, unit: float, color: Color) -> None:
    """Fill a polygon in place, at `unit` pixels; coverage, the fourth channel, becomes 255."""
    points = np.stack((origin[0] + unit * x, origin[1] + unit * y), axis=1)
    sixteenths = np.rint(points * 16).astype(np.int32)
    cv2.fillPoly(image, [sixteenths], (*color, 255), cv2.LINE_AA, 4)


def _shade(color: Color, factor: float) -> Color:
    return tuple(min(255.0, part * factor) for part in color)


def _mix(one: Color, other: Color, share: float) -> Color:
    return tuple(a + (b - a) * share for a, b in zip(one, other, strict=True))


def _rounded(x: Line, y: Line) -> tuple[Line, Line]:
    """Cut the corners of a closed polygon three times (Chaikin 1974)."""
    points = np.stack((x, y), axis=-1)
    for _ in range(3):
        following = np.roll(points, -1, axis=0)
        pair = 0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following
        points = np.stack(pair, axis=1).reshape(-1, 2)
    return points[:, 0], points[:, 1]


class _Easel:
    """A float32 RGB canvas with soft masks, to paint a portrait on."""

    def __init__(self, width: int, height: int, origin: Point, unit: float):
        self.image = np.zeros((height, width, 3), np.float32)
        self.origin, self.unit = origin, unit
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        self.x, self.y = (columns - origin[0]) / unit, (rows - origin[1]) / unit

    def mask(self, x: Line, y: Line, blur: float = 0.0) -> np.ndarray:
        """The coverage of a polygon, (H, W) float32 in 0..1, with its edge blurred."""
        height, width = self.x.shape
        coarse = 4 if blur else 1  # soft edges need no fine grid
        drawn = np.zeros((height // coarse, width // coarse), np.uint8)
        origin, unit = tuple(each / coarse for each in self.origin), self.unit / coarse
        _fill(drawn, np.asarray(x), np.asarray(y), origin, unit, (255,))
        drawn = drawn.astype(np.float32) / 255
        if not blur:
            return drawn
        return cv2.resize(cv2.GaussianBlur(drawn, (0, 0), blur * unit), (width, height))

    def oval(self, x: float, y: float, rx: float, ry: float, blur: float = 0.0) -> np.ndarray:
        """The coverage of an ellipse, as from `mask`."""
        turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        return self.mask(x + rx * np.cos(turn), y + ry * np.sin(turn), blur)

    def paint(self, mask: np.ndarray, color: np.ndarray | tuple, opacity: float = 1.0) -> None:
        """Paint with one color (3,), or with one per pixel (H, W, 3)."""
        weight = (mask * opacity)[..., None]
        self.image += (np.asarray(color, np.float32) - self.image) * weight


def _outline(look: Look) -> tuple[Line, Line]:
    """The contour of the skull and jaw."""
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    sine, cosine = np.sin(turn), np.cos(turn)
    width = np.sign(cosine) * np.abs(cosine) ** np.where(sine > 0, look.jaw, 0.95)
    y = np.where(sine > 0, _CHIN_Y, 1.30) * sine * look.face_height
    return width * (1 - 0.10 * np.clip(sine, 0, None) ** 2), y


def _paint_hair(easel: _Easel, mask: np.ndarray, look: Look) -> None:
    """Paint hair with a sheen and fine strands."""
    strands = np.random.default_rng(look.strand_seed).normal(size=(3, 90)).astype(np.float32)
    strands = cv2.resize(strands, mask.shape[::-1], interpolation=cv2.INTER_CUBIC)
    sheen = np.exp(-(((easel.y + 1.12 + 0.35 * easel.x**2) / 0.16) ** 2))
    light = 0.92 + 0.05 * strands + 0.30 * sheen - 0.10 * (easel.x - 0.2)
    easel.paint(mask, np.asarray(look.hair, np.float32) * light[..., None])


def _paint_behind(easel: _Easel, look: Look) -> list[np.ndarray]:
    """Paint what is behind the face, long hair or ears; returns the masks (H, W) of its parts."""
    painted = []
    if look.style in ("long", "bob"):
        low = 1.75 if look.style == "long" else 0.95
        x = np.array([0.0, 0.5, 1.02, 1.17, 1.22, 1.20, 1.0, 0.70, 0.72, 0.82, 0.6, 0.0])
        y = np.array([-1.38, -1.32, -0.9, -0.3, 0.4, low - 0.2, low, low - 0.1, 0.7, 0.2, -0.9, -1])
        for side in (-1, 1):
            painted.append(easel.mask(*_rounded(side * x, y)))
            _paint_hair(easel, painted[-1], look)
        return painted
    if look.style == "bun":
        painted.append(easel.oval(0, -1.5, 0.42, 0.34))
        _paint_hair(easel, painted[-1], look)
    for side in (-1, 1):
        painted.append(easel.oval(side, -0.02, 0.13, 0.25))
        easel.paint(painted[-1], _shade(look.skin, 0.86))
        easel.paint(easel.oval(1.02 * side, -0.02, 0.06, 0.15, 0.03), (120, 60, 50), 0.25)
    return painted


def _paint_face(easel: _Easel, face: np.ndarray, look: Look) -> None:
    """Paint skin under the mask `face` (H, W), with cheeks, eye sockets, nose and chin."""
    # Light from above left on a rounded head: brighter towards it, darker around the far edge.
    depth = np.sqrt(np.clip(1 - (easel.x / 1.15) ** 2 - (easel.y / 1.75) ** 2, 0, 1))
    light = 0.74 + 0.30 * depth - 0.07 * easel.x - 0.04 * easel.y
    tone = np.asarray(look.skin, np.float32) * light[..., None]
    tone[..., 1:] *= (0.97 + 0.03 * depth)[..., None]  # the shaded rim is a little redder
    easel.paint(face, tone)

    deep, bright = _shade(look.skin, 0.55), _mix(look.skin, (255, 250, 240), 0.6)
    width, tip = look.nose_width, 0.30 * look.nose_length
    easel.paint(face * easel.oval(0, 0.95, 0.80, 0.42, 0.16), (70, 64, 66), look.stubble)
    for side in (-1, 1):
        easel.paint(easel.oval(0.58 * side, 0.30, 0.24, 0.16, 0.13), (226, 112, 100), 0.20)
        easel.paint(easel.oval(look.eye_x * side, _EYE_Y - 0.03, 0.28, 0.17, 0.07), deep, 0.42)
        easel.paint(easel.oval(0.15 * side * width, tip, 0.075, 0.07, 0.03), deep, 0.45)
        bridge = side * np.array([0.09, 0.13, 0.11, 0.17]) * width
        easel.paint(easel.mask(bridge, [-0.35, -0.3, 0.0, tip - 0.04], 0.04), deep, 0.6)
    shadow = easel.mask([0.06, 0.14, 0.2 * width, 0.10], [-0.3, -0.28, tip, tip + 0.02], 0.05)
    easel.paint(shadow, deep, 0.45)
    easel.paint(easel.oval(0, tip + 0.10, 0.22 * width, 0.06, 0.04), deep, 0.55)
    easel.paint(easel.oval(0, -0.05, 0.035, 0.26, 0.04), bright, 0.45)
    easel.paint(easel.oval(-0.01, tip - 0.06, 0.09 * width, 0.07, 0.04), bright, 0.55)
    for side in (-1, 1):
        nostril = easel.oval(0.09 * side * width, tip + 0.035, 0.045, 0.022, 0.02)
        easel.paint(nostril, _shade(look.skin, 0.25), 0.85)
    easel.paint(easel.oval(-0.25, -0.72, 0.40, 0.16, 0.16), bright, 0.25)
    easel.paint(easel.oval(0, 1.06, 0.16, 0.08, 0.07), bright, 0.25)
    easel.paint(easel.oval(0, 0.90, 0.20, 0.04, 0.05), deep, 0.22)


def _hair_cap(easel: _Easel, look: Look) -> np.ndarray:
    """The mask (H, W) of the hair above the face: around the skull, back along the hairline."""
    volume = {"short": 0.10, "crop": 0.05, "swept": 0.15}.get(look.style, 0.09)
    x, y = _outline(look)
    lift = volume * np.clip((-0.10 - y) / 0.6, 0, 1)
    x, y = x * (1.01 + lift), y - lift
    crown = y < -0.12
    order = np.argsort(np.arctan2(x[crown], -y[crown]))
    x, y = x[crown][order], y[crown][order]
    across = np.linspace(0.93, -0.93, 41)
    if look.style == "bob":
        line = -0.76 + 0.30 * np.abs(across) ** 4
    elif look.style == "long":
        line = -1.02 + 0.70 * np.abs(across + 0.12) ** 1.7
    else:
        tilt = -0.10 if look.style == "swept" else 0.05
        line = -0.90 + tilt * across + 0.60 * np.abs(across) ** 4
    return easel.mask(np.concatenate((x, across)), np.concatenate((y, line)))


def _paint_head(look: Look) -> tuple[np.ndarray, Point]:
    """The head without its moving parts, (h, w, 4) uint8, and the middle of the face in it."""
    unit = look.half_width_px
    origin = (1.7 * unit, 2.1 * unit)
    easel = _Easel(int(3.4 * unit), int(4.1 * unit), origin, unit)
    easel.image += np.float32(0.8) * np.asarray(look.hair, np.float32)
    behind = _paint_behind(easel, look)
    face = easel.mask(*_outline(look))
    _paint_face(easel, face, look)
    cap = _hair_cap(easel, look)
    shadow = cv2.GaussianBlur(cap, (0, 0), 0.05 * unit) * face
    easel.paint(shadow, _shade(look.skin, 0.55), 0.45)
    cap = np.maximum(cap, cv2.GaussianBlur(cap, (0, 0), 1.2) * (cap > 0))
    _paint_hair(easel, cap, look)

    # Cut off what is empty, but keep a clear rim, because turning the picture repeats its border.
    solid = np.maximum.reduce([*behind, face, cap])
    rows, columns = np.flatnonzero(solid.max(axis=1)), np.flatnonzero(solid.max(axis=0))
    top, left = rows[0] - 2, columns[0] - 2
    box = np.s_[top : rows[-1] + 3, left : columns[-1] + 3]
    head = np.concatenate((easel.image[box], 255 * solid[box][..., None]), axis=2)
    return np.clip(head, 0, 255).astype(np.uint8), (origin[0] - left, origin[1] - top)


def _paint_body(look: Look) -> np.ndarray:
    """Backdrop, neck and shoulders, (720, 1280, 3) uint8 RGB."""
    easel = _Easel(WIDTH, HEIGHT, look.center_px, look.half_width_px)
    glow = 1.03 - 0.016 * (easel.x**2 + 0.7 * easel.y**2)
    easel.image += np.asarray(look.backdrop, np.float32) * glow[..., None]
    side_x = np.array([0.55, 0.80, 1.55, 2.08, 2.30, 2.45, 2.5])
    side_y = np.array([1.50, 1.58, 1.76, 1.92, 2.40, 3.00, 4.2])
    x, y = _rounded(np.concatenate((-side_x[::-1], side_x)), np.concatenate((side_y[::-1], side_y)))
    folds = 1.10 - 0.09 * easel.x**2 - 0.10 * (easel.y - 1.6) - 0.05 * easel.x
    cloth = np.asarray(look.clothes, np.float32) * np.clip(folds, 0.5, 1.2)[..., None]
    easel.paint(easel.mask(x, y), cloth)
    round_neck = np.linspace(-1, 1, 21)
    neck_x = np.concatenate(([-0.56, -0.58], 0.72 * round_neck, [0.58, 0.56]))
    neck_y = np.concatenate(([0.6, 1.4], 1.58 + 0.30 * (1 - round_neck**2), [1.4, 0.6]))
    hem = easel.mask(neck_x * 1.06, neck_y + 0.06) * easel.mask(x, y)
    easel.paint(hem, _shade(look.clothes, 0.72))
    neck = easel.mask(neck_x, neck_y)
    light = np.clip(0.94 - 0.12 * easel.x - 0.22 * easel.x**2, 0, 1)[..., None]
    easel.paint(neck, np.asarray(look.skin, np.float32) * light)
    easel.paint(neck * easel.oval(0.05, 1.12, 0.75, 0.36, 0.10), _shade(look.skin, 0.5), 0.6)
    return np.clip(easel.image, 0, 255).astype(np.uint8)


def paint_portrait(look: Look) -> Portrait:
    """Paint what does not change while `look` speaks."""
    head, origin = _paint_head(look)
    return Portrait(look, _paint_body(look), head, origin)


class _Pen:
    """Draws the moving parts of a face on a copy of the portrait's head, in half face widths."""

    def __init__(self, portrait: Portrait, pose: Pose):
        self.look, self.pose, self.face = portrait.look, pose, pose.expression
        self.image = portrait.head.copy()
        self._origin = portrait.origin

    def fill(self, x: Line, y: Line, color: Color) -> None:
        """Fill a polygon."""
        _fill(self.image, x, y, self._origin, self.look.half_width_px, color)

    def fill_between(self, x: Line, top: Line, bottom: Line, color: Color) -> None:
        """Fill the area between two edges over the same x."""
        self.fill(_there_and_back(x, x), _there_and_back(top, bottom), color)

    def draw_lines(self) -> None:
        """Folds from nose to mouth and furrows between the brows, as strong as the expression."""
        along = np.linspace(0, 1, 12)

        def curve(start: float, bend: float, end: float) -> Line:
            return (1 - along) ** 2 * start + 2 * along * (1 - along) * bend + along**2 * end

        def stroke(x: Line, y: Line, width: float, share: float) -> None:
            thick = width * np.sin(np.pi * along) + 0.002
            color = _shade(self.look.skin, 0.92 - 0.22 * share)
            self.fill(_there_and_back(x - thick, x + thick), _there_and_back(y, y), color)

        crease, furrow = self.face.crease, self.face.furrow
        for side in (-1, 1):
            if crease > 0.05:
                x = side * curve(0.24, 0.42, 0.46 + 0.06 * crease)
                stroke(x, curve(0.24, 0.32, 0.58), 0.014, crease)
            if furrow > 0.05:
                x = side * curve(0.06, 0.04, 0.055)
                stroke(x, curve(-0.58, -0.5, -0.38), 0.012, furrow)

    def draw_eye(self, side: int) -> None:
        """Lids, eyeball, iris, glint and lashes; `side` is -1 for the left of the picture, or 1."""
        look, (gaze_x, gaze_y) = self.look, self.pose.gaze
        size, middle = 0.19 * look.eye_size, side * look.eye_x
        opening = 0.115 * look.eye_size * self.face.eye_open * self.pose.lids + 0.004
        slope = self.face.eye_droop * side * _SAMPLES
        upper = slope - opening * _DOME**0.6
        lower = slope + 0.55 * opening * _DOME**0.8
        x, y = middle + size * _SAMPLES, _EYE_Y

        lid = y + (upper - 0.045 * _DOME**0.5)
        self.fill_between(x, lid, y + lower, _shade(look.skin, 0.80))
        self.fill_between(x, y + upper, y + lower, (240, 238, 236))
        rings = (0.100, _shade(look.iris, 0.6)), (0.086, look.iris), (0.044, (16, 16, 16))
        for radius, color in rings:
            dx = np.clip(gaze_x + radius * _CIRCLE.real, -0.95 * size, 0.95 * size)
            dy = gaze_y - 0.012 + radius * _CIRCLE.imag
            top, bottom = (np.interp(dx, size * _SAMPLES, edge) for edge in (upper, lower))
            self.fill(middle + dx, y + np.clip(dy, top, bottom), color)
        if opening > 0.06:
            dx = gaze_x - 0.035 + 0.022 * _CIRCLE.real
            self.fill(middle + dx, y - 0.045 + 0.022 * _CIRCLE.imag, (255, 255, 255))
        lash = y + (upper - look.lash * (0.4 + 0.6 * _DOME))
        self.fill_between(x, lash, y + (upper + 0.010), _shade(look.hair, 0.5))
        self.fill_between(x, y + (lower - 0.004), y + (lower + 0.010), _shade(look.skin, 0.62))

    def draw_brow(self, side: int) -> None:
        """A brow; `side` as for `draw_eye`."""
        look, face = self.look, self.face
        along = np.linspace(0, 1, 16)
        x = side * (0.17 - face.brow_pinch + look.brow_length * along + 0.02)
        y = _BROW_Y - face.brow_raise - face.brow_slant * (1 - 1.45 * along)
        y = y - face.brow_arch * 4 * along * (1 - along)
        half = look.brow_thickness * np.sqrt(np.clip(1.02 - along**2.2, 0.05, 1))
        half = half * (0.8 + 0.2 * along)
        self.fill_between(x, y - half, y + half, _shade(look.hair, 0.75))

    def draw_mouth(self) -> None:
        """Lips, and behind them tongue and teeth."""
        look, face, speech = self.look, self.face, self.pose.speech
        x = look.mouth_half_width * face.mouth_width * (1 - 0.06 * speech) * _SAMPLES
        gape = face.mouth_open + 0.10 * speech
        plump = look.lip_thickness * (1 - 0.25 * face.mouth_square)
        dome = _DOME ** (0.75 - 0.45 * face.mouth_square)
        middle = -face.mouth_corner * (_SAMPLES**2 - 0.4)
        upper = middle - (0.35 * gape + 0.006) * dome
        lower = middle + (0.65 * gape + 0.008) * dome
        bow = 1 - 0.35 * np.exp(-((_SAMPLES / 0.16) ** 2))

        def fill_between(top: Line, bottom: Line, color: Color) -> None:
            self.fill_between(x, _MOUTH_Y + top, _MOUTH_Y + bottom, color)

        lips = _mix(look.skin, (160, 52, 58), 0.62)
        fill_between(upper - plump * bow * _DOME**0.55, middle, _shade(lips, 0.88))
        fill_between(middle, lower + 1.2 * plump * _DOME**0.6, lips)
        shine = lower + 0.55 * plump * _DOME
        fill_between(shine, shine + 0.25 * plump * _DOME**3, _mix(lips, (255, 235, 230), 0.3))
        fill_between(upper, lower, (72, 24, 28))
        tongue = np.maximum(upper, lower - 0.5 * gape * np.clip(_DOME - 0.4, 0, 1))
        fill_between(tongue, lower, (176, 78, 80))
        if face.teeth > 0.01:
            bite = np.minimum(upper + face.teeth * _DOME**0.4, lower - 0.004)
            fill_between(upper, np.maximum(upper, bite), (238, 234, 224))
            clench = np.clip(2 * face.mouth_square - 0.6, 0, 1) * 0.012 * _DOME**0.5
            seam = 0.55 * upper + 0.45 * lower
            fill_between(seam - clench, seam + clench, (120, 84, 80))


def _there_and_back(one: Line, other: Line) -> Line:
    """Two edges that run side by side, as one closed line (2N,)."""
    return np.concatenate((one, other[::-1]))


def render(portrait: Portrait, pose: Pose) -> np.ndarray:
    """A portrait's `head` (h, w, 4) uint8, with brows, eyes and mouth in this pose."""
    pen = _Pen(portrait, pose)
    pen.draw_lines()
    for side in (-1, 1):
        pen.draw_eye(side)
        pen.draw_brow(side)
    pen.draw_mouth()
    return pen.image
