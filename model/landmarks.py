"""The landmark encoder: 68 facial points over time into a map over moments and places of a face.

Ours, in place of the paper's 3D ResNeXt-50: it trains on a CPU, and works from published landmarks.
"""

import torch
from torch import Tensor, nn

# The places of the face that the map distinguishes, with their points (iBUG 300-W numbering). The
# last place of a map is the pose of the head.
PLACES = {
    "jaw": range(0, 17),
    "right brow": range(17, 22),
    "left brow": range(22, 27),
    "nose": range(27, 36),
    "right eye": range(36, 42),
    "left eye": range(42, 48),
    "outer lips": range(48, 60),
    "inner lips": range(60, 68),
}
# Points that expressions hardly move: the nose and the corners of the eyes.
STABLE = (*PLACES["nose"], 36, 39, 42, 45)
POSE = 4  # x, y, log size and angle of the head relative to its mean over the clip
SMALLEST = 3e-3  # of a face's size: movement below it is noise of the landmarks


def upright(points: Tensor) -> Tensor:
    """Remove the position, size and in-plane rotation of the face, one similarity per clip.

    The mean of all points becomes 0, their root mean square distance from it 1, and the line
    between the eyes horizontal, all on average over the clip.

    Args:
        points: x, y of each point in pixels, float (B, T, 68, 2). A clip of zeros, which stands
            for a missing face, stays zeros.
    """
    mean = points.mean(dim=1, keepdim=True)  # (B, 1, 68, 2)
    center = mean.mean(dim=2, keepdim=True)
    size = (mean - center).square().sum(dim=-1).mean(dim=-1).sqrt().clamp(min=1e-6)
    eyes = mean[..., PLACES["left eye"], :].mean(2) - mean[..., PLACES["right eye"], :].mean(2)
    cos, sin = (eyes / eyes.norm(dim=-1, keepdim=True).clamp(min=1e-6)).unbind(-1)  # (B, 1)
    x, y = ((points - center) / size[..., None, None]).unbind(-1)  # (B, T, 68)
    cos, sin = cos[..., None], sin[..., None]
    return torch.stack([x * cos + y * sin, y * cos - x * sin], dim=-1)


def align(points: Tensor) -> tuple[Tensor, Tensor]:
    """Move each frame onto the clip's mean face, so that what is left is expression.

    The similarity of each frame is the least-squares fit of its stable points.

    Args:
        points: as from `upright`, float (B, T, 68, 2).

    Returns:
        The aligned points in the same shape, and the pose that was removed, (B, T, 4): x, y, log
        size and angle in radians relative to the clip's mean.
    """
    frame = points[..., STABLE, :]
    mean = frame.mean(dim=1, keepdim=True)
    at, to = frame.mean(dim=2, keepdim=True), mean.mean(dim=2, keepdim=True)  # (B, T or 1, 1, 2)
    (x, y), (mean_x, mean_y) = (frame - at).unbind(-1), (mean - to).unbind(-1)
    norm = (x * x + y * y).sum(-1, keepdim=True).clamp(min=1e-12)
    a = (x * mean_x + y * mean_y).sum(-1, keepdim=True) / norm  # (B, T, 1): size * cos(angle)
    b = (x * mean_y - y * mean_x).sum(-1, keepdim=True) / norm
    x, y = (points - at).unbind(-1)
    aligned = torch.stack([a * x - b * y, b * x + a * y], dim=-1) + to
    offset = (at - to).squeeze(2)  # (B, T, 2)
    turned = [torch.hypot(a, b).clamp(min=1e-6).log(), torch.atan2(b, a)]
    return aligned, torch.cat([offset, *turned], dim=-1)


def statistics(series: Tensor, parts: int) -> Tensor:
    """Mean, log spread and log speed of series in equal parts of time.

    Args:
        series: float (B, T, n); T is a multiple of `parts`.
        parts: the number S of parts.

    Returns:
        float (B, 3, S, n).
    """
    speed = series.diff(dim=1).abs()
    speed = torch.cat([speed, speed[:, -1:]], dim=1).unflatten(1, (parts, -1)).mean(dim=2)
    spread, mean = torch.std_mean(series.unflatten(1, (parts, -1)), dim=2, correction=0)
    return torch.stack([mean, (spread + SMALLEST).log(), (speed + SMALLEST).log()], dim=1)


class Mix(nn.Module):
    """Lets all places of the face, in neighboring parts of time, change each place: residual.

    Args:
        channels: the number of channels C of each place.
        places: the number of places P.
        hidden: the number of channels between them.
        kernel: the number of parts of time that are mixed, odd.
        dropout: the dropout probability of the hidden channels.
    """

    def __init__(self, channels: int, places: int, hidden: int, kernel: int, dropout: float):
        super().__init__()
        everything = channels * places
        self.change = nn.Sequential(
            nn.Conv1d(everything, hidden, kernel, padding=kernel // 2),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv1d(hidden, everything, 1),
        )
        self.norm = nn.BatchNorm1d(everything)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, P) -> (B, C, S, P)."""
        flat = x.transpose(2, 3).flatten(1, 2)  # (B, C * P, S)
        flat = torch.relu(self.norm(flat + self.change(flat)))
        return flat.unflatten(1, (x.shape[1], -1)).transpose(2, 3)


class LandmarkEncoder(nn.Module):
    """Landmarks to a map over S parts of time and P = 9 places: (B, 30, 68, 2) -> (B, C, S, P).

    Each clip is normalized by itself. For each point: mean, spread and speed in S parts of the
    clip; from the points of each place, C channels; then two residual blocks that mix all places,
    the second one also neighboring parts.

    Args:
        channels: the number of channels C.
        hidden: the number of hidden channels of the mixing blocks.
        parts: the number of parts of time S, a divisor of 30.
        dropout: the dropout probability in the mixing blocks.
    """

    def __init__(
        self, *, channels: int = 32, hidden: int = 64, parts: int = 5, dropout: float = 0.3
    ):
        super().__init__()
        self.parts = parts
        self.channels = channels
        self.stage_channels = (channels,) * 4
        sizes = [2 * len(points) for points in PLACES.values()] + [POSE]
        self.norm = nn.BatchNorm1d(3 * sum(sizes))
        self.places = nn.ModuleList([nn.Linear(3 * size, channels) for size in sizes])
        self.places_norm = nn.BatchNorm1d(channels * len(sizes))
        mixes = [Mix(channels, len(sizes), hidden, kernel, dropout) for kernel in (1, 3)]
        self.layer1, self.layer2 = nn.Identity(), nn.Identity()
        self.layer3, self.layer4 = mixes
        self._sizes = sizes

    def stem(self, points: Tensor) -> Tensor:
        """Landmarks (B, 30, 68, 2) in pixels to what each place does: (B, C, S, P)."""
        aligned, pose = align(upright(points.float()))
        series = torch.cat([aligned.flatten(2), pose], dim=2)  # (B, T, 140)
        x = statistics(series, self.parts)  # (B, 3, S, 140)
        x = self.norm(x.transpose(2, 3).flatten(1, 2)).unflatten(1, (3, -1))  # (B, 3, 140, S)
        own = [
            place(part.flatten(1, 2).transpose(1, 2))  # (B, 3 * size, S) -> (B, S, C)
            for place, part in zip(self.places, x.split(self._sizes, dim=2), strict=True)
        ]
        x = torch.stack(own, dim=3).transpose(1, 2)  # (B, S, C, P) -> (B, C, S, P)
        flat = self.places_norm(x.transpose(2, 3).flatten(1, 2))  # (B, C * P, S)
        return torch.relu(flat).unflatten(1, (self.channels, -1)).transpose(2, 3)

    def forward(self, points: Tensor) -> Tensor:
        """Encode landmarks, float (B, 30, 68, 2) in pixels, into (B, C, S, P)."""
        return self.layer4(self.layer3(self.stem(points)))
