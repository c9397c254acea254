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
PARTS = 5  # of time that the map distinguishes
POSE = 4  # x, y, log size and angle of the head relative to its mean over the clip
SMALLEST = 3e-3  # of a face's size: movement below it is noise of the landmarks


def upright(points: Tensor) -> Tensor:
    """Remove the position, size and in-plane rotation of the face, one similarity per clip.

    The mean of all points becomes 0, their root mean square distance from it 1, and the line
    between the eyes horizontal, all on average over the clip. Points are x, y in pixels, float
    (B, T, 68, 2). A clip of zeros, which stands for a missing face, stays zeros.
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

    The similarity of each frame is the least-squares fit of its stable points. Returns the aligned
    points, as from `upright`, (B, T, 68, 2), and the pose that was removed, (B, T, 4): x, y, log
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
    turned = [(a * a + b * b).clamp(min=1e-12).log() / 2, torch.atan2(b, a)]
    return aligned, torch.cat([offset, *turned], dim=-1)


def statistics(series: Tensor, parts: int) -> Tensor:
    """Mean, log spread and log speed in S equal parts of time: (B, T, n) -> (B, 3, S, n)."""
    speed = series.diff(dim=1).abs()
    speed = torch.cat([speed, speed[:, -1:]], dim=1)
    rows = []
    for part, moved in zip(
        series.tensor_split(parts, 1), speed.tensor_split(parts, 1), strict=True
    ):
        mean = part.mean(dim=1, keepdim=True)
        spread = (part - mean).square().mean(dim=1).clamp(min=1e-12).sqrt()
        logs = [(x + SMALLEST).log() for x in (spread, moved.mean(dim=1))]
        rows.append(torch.stack([mean[:, 0], *logs], dim=1))  # (B, 3, n)
    return torch.stack(rows, dim=2)


class LandmarkEncoder(nn.Module):
    """Landmarks to a map over S parts of time and P = 9 places: (B, 30, 68, 2) -> (B, C, S, P).

    Each clip is normalized by itself. Of each point: mean, spread and speed in S parts of the clip.
    Two hidden layers see the whole face, the second also neighboring parts; then each place of the
    map is computed from its own points and from what the whole face does. The map has C = 32
    channels, the hidden layers have 64 and dropout 0.3.
    """

    def __init__(self):
        super().__init__()
        self.channels, self.hidden = channels, hidden = 32, 64
        # What networks that fuse inside the encoder see after each layer.
        self.stage_channels = (*[channels + hidden] * 3, channels)
        self._sizes = [2 * len(points) for points in PLACES.values()] + [POSE]
        series, everything = sum(self._sizes), channels * len(self._sizes)
        self.norm = nn.BatchNorm1d(3 * series)
        self.own = nn.ModuleList([nn.Linear(3 * size, channels) for size in self._sizes])
        self.face1 = nn.Sequential(
            *(nn.Conv1d(3 * series, hidden, 1), nn.BatchNorm1d(hidden)),
            *(nn.ReLU(), nn.Dropout(0.3)),
        )
        self.face2 = nn.Sequential(
            *(nn.Conv1d(hidden, hidden, 3, padding=1), nn.BatchNorm1d(hidden)),
            *(nn.ReLU(), nn.Dropout(0.3)),
        )
        self.to_places = nn.Conv1d(hidden, everything, 1)
        self.map_norm = nn.BatchNorm1d(everything)
        self.layer1, self.layer2 = nn.Identity(), nn.Identity()

    def stem(self, points: Tensor) -> Tensor:
        """Landmarks (B, 30, 68, 2) in pixels to (B, C + hidden, S, P): each place, whole face."""
        aligned, pose = align(upright(points.float()))
        series = torch.cat([aligned.flatten(2), pose], dim=2)  # (B, T, 140)
        x = statistics(series, PARTS).transpose(2, 3)  # (B, 3, 140, S)
        x = self.norm(x.flatten(1, 2)).view_as(x)
        own = [
            place(part.flatten(1, 2).transpose(1, 2))  # (B, 3 * size, S) -> (B, S, C)
            for place, part in zip(self.own, x.split(self._sizes, dim=2), strict=True)
        ]
        own = torch.stack(own, dim=3).transpose(1, 2)  # (B, S, C, P) -> (B, C, S, P)
        return self._joined(own, self.face1(x.flatten(1, 2)))

    def layer3(self, x: Tensor) -> Tensor:
        """The second hidden layer: (B, C + hidden, S, P), as from `stem`, in the same shape."""
        own, face = self._split(x)
        return self._joined(own, self.face2(face))

    def layer4(self, x: Tensor) -> Tensor:
        """The map: (B, C + hidden, S, P) -> (B, C, S, P)."""
        own, face = self._split(x)
        own = own.transpose(2, 3).flatten(1, 2)  # (B, C * P, S)
        x = torch.relu(self.map_norm(own + self.to_places(face)))
        return x.unflatten(1, (self.channels, -1)).transpose(2, 3)

    def forward(self, points: Tensor) -> Tensor:
        """Encode landmarks, float (B, 30, 68, 2) in pixels, into (B, C, S, P)."""
        return self.layer4(self.layer3(self.stem(points)))

    def _joined(self, own: Tensor, face: Tensor) -> Tensor:
        """Own channels (B, C, S, P), and those of the whole face (B, hidden, S) at each place."""
        return torch.cat([own, face[..., None].expand(-1, -1, -1, own.shape[3])], dim=1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        own, face = x.split([self.channels, self.hidden], dim=1)
        return own, face.mean(dim=3)  # the same at each place
