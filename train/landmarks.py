"""The random changes of facial landmarks in training."""

import torch
from torch import Tensor

from model.landmarks import align, upright
from train.recipe import Recipe
from train.stream import Clips

# Each point's counterpart in a mirrored face (iBUG 300-W numbering).
MIRRORED = (
    *(*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)),
)


def mean_faces(clips: Clips) -> Tensor:
    """For each clip, the mean face of its actor over all of these clips, float32 (N, 68, 2).

    Faces are aligned as the network aligns them.
    """
    buffer = clips.buffers(1)
    faces = []
    for position in range(len(clips)):
        clips.read(position, {"landmarks": buffer["landmarks"]}, 0)
        faces.append(align(upright(buffer["landmarks"]))[0][0].mean(dim=0))
    each = torch.stack(faces)
    actors = torch.tensor([clip.actor for clip in clips.clips])
    means = {actor: each[actors == actor].mean(dim=0) for actor in set(actors.tolist())}
    return torch.stack([means[actor] for actor in actors.tolist()])


def draw_faces(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw how the face of each clip of an epoch is changed, for `change_landmarks`.

    Returns float32 (count, 6), uniform in 0..1: shift, stretch, mirror, exchange, gain, and the
    share of the first other face; and the positions of two clips whose actors' faces are mixed,
    int64 (count, 2).
    """
    draws = torch.rand(count, 6, generator=generator)
    return draws, torch.randint(count, (count, 2), generator=generator)


def change_landmarks(
    points: Tensor, draws: Tensor, own: Tensor, others: Tensor, recipe: Recipe
) -> Tensor:
    """Shift, stretch and mirror the movement of faces, and give them the faces of other actors.

    With few actors, a network would otherwise recognize them by the shapes of their faces.

    Args:
        points: landmarks in pixels, float (B, 30, 68, 2).
        draws: float (B, 6), as from `draw_faces`.
        own: the mean faces of the clips' actors, float (B, 68, 2), as from `mean_faces`.
        others: those of two other clips each, float (B, 2, 68, 2).

    Returns landmarks in the same shape, in units of the face's size.
    """
    own, others, draws = (each.to(points.device) for each in (own, others, draws))
    shift, stretch, mirror, exchange, gain, share = draws.unbind(1)  # (B,) each
    points = upright(points)
    shift = (2 * shift - 1) * recipe.landmark_shift
    points = _resample(points, shift, (2 * stretch - 1) * recipe.landmark_stretch)

    # Another identity: the expression, which is what differs from the actor's mean face, with a
    # random strength, on the mixed mean face of two actors.
    aligned, _ = align(points)
    strength = ((2 * gain - 1) * recipe.landmark_gain).exp()[:, None, None, None]
    face = torch.lerp(others[:, 1], others[:, 0], share[:, None, None])[:, None]  # (B, 1, 68, 2)
    changed = (aligned - own[:, None]) * strength + face
    chosen = (exchange < recipe.landmark_exchange)[:, None, None, None]
    points = torch.where(chosen, points + changed - aligned, points)

    if recipe.landmark_mirror:
        flipped = points[:, :, MIRRORED] * points.new_tensor([-1, 1])
        points = torch.where((mirror < 0.5)[:, None, None, None], flipped, points)
    return points


def _resample(points: Tensor, shift: Tensor, stretch: Tensor) -> Tensor:
    """Read clips at other times: `shift` in frames, exp(`stretch`) times as fast; edges repeat."""
    last = points.shape[1] - 1
    frame = torch.arange(last + 1, device=points.device)
    at = (frame - last / 2) * stretch.exp()[:, None] + last / 2 + shift[:, None]  # (B, T)
    at = at.clamp(0, last)
    low = at.floor().clamp(max=last - 1)
    clip = torch.arange(len(points), device=points.device)[:, None]
    before, after = points[clip, low.long()], points[clip, low.long() + 1]  # (B, T, 68, 2)
    return torch.lerp(before, after, (at - low)[:, :, None, None])
