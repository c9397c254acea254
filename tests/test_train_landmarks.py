"""The random changes of facial landmarks in training."""

from dataclasses import replace

import pytest
import torch

from model.landmarks import PLACES, align, upright
from train.landmarks import MIRRORED, change_landmarks, draw_faces
from train.recipe import RECIPES, Recipe

NONE = Recipe()


def some(count: int = 4, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    shape = torch.randn(1, 1, 68, 2, generator=torch.Generator().manual_seed(9))
    shape[..., PLACES["left eye"], 0] += 3
    return upright(shape + 0.05 * torch.randn(count, 30, 68, 2, generator=draw))


def change(points, recipe, draws=None, own=None, others=None):
    count = len(points)
    draws = torch.full((count, 6), 0.5) if draws is None else draws
    own = torch.zeros(count, 68, 2) if own is None else own
    others = torch.zeros(count, 2, 68, 2) if others is None else others
    return change_landmarks(points, draws, own, others, recipe)


def test_without_settings_nothing_changes_but_the_frame_of_reference():
    points = some()
    torch.testing.assert_close(change(100 * points + 7, NONE), points, atol=1e-5, rtol=0)


def test_mirroring_exchanges_left_and_right_and_twice_is_the_identity():
    assert sorted(MIRRORED) == list(range(68))
    assert [MIRRORED[MIRRORED[point]] for point in range(68)] == list(range(68))
    for left, right in (("left brow", "right brow"), ("left eye", "right eye")):
        assert {MIRRORED[point] for point in PLACES[left]} == set(PLACES[right])
    points, draws = some(), torch.full((4, 6), 0.5)
    draws[:2, 2] = 0.1  # the first two are mirrored
    found = change(points, replace(NONE, landmark_mirror=True), draws)
    torch.testing.assert_close(found[2:], points[2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:2, :, 36], points[:2, :, 45] * torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize(("draw", "shift"), [(0.0, -3), (1.0, 3)])
def test_a_shift_reads_other_frames_and_repeats_the_edge(draw, shift):
    points, draws = some(), torch.full((4, 6), 0.5)
    draws[:, 0] = draw
    found = change(points, replace(NONE, landmark_shift=3), draws)
    frames = (torch.arange(30) + shift).clamp(0, 29)
    torch.testing.assert_close(found, points[:, frames], atol=1e-4, rtol=0)


def test_an_exchanged_face_has_the_expression_of_one_and_the_shape_of_others():
    points = some()
    own = align(points)[0].mean(dim=1)
    others = torch.randn(4, 2, 68, 2, generator=torch.Generator().manual_seed(3))
    draws = torch.full((4, 6), 0.5)
    draws[:, 5] = 1.0  # only the first other face
    found = change(points, replace(NONE, landmark_exchange=1.0), draws, own, others)
    expected = points - own[:, None] + others[:, :1]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    stronger = replace(NONE, landmark_exchange=1.0, landmark_gain=0.5)
    draws[:, 4] = 1.0  # the largest gain
    double = change(points, stronger, draws, own, others)
    aligned = align(points)[0] - own[:, None]
    gain = torch.tensor(0.5).exp()
    torch.testing.assert_close(double - found, (gain - 1) * aligned, atol=1e-4, rtol=0)


def test_draws_are_uniform_and_others_are_clips():
    draws, others = draw_faces(2_000, torch.Generator().manual_seed(0))
    assert draws.shape == (2_000, 6)
    assert draws.mean(dim=0).tolist() == pytest.approx([0.5] * 6, abs=0.03)
    assert (others.shape, others.unique().numel() > 1_500) == ((2_000, 2), True)
    assert 0 <= others.min() <= others.max() < 2_000


def test_the_recipe_for_landmarks_uses_every_change():
    settings = [name for name in vars(NONE) if name.startswith("landmark_")]
    assert len(settings) == 5
    assert all(getattr(RECIPES["landmarks"], name) for name in settings)
