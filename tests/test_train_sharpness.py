"""Sharpness-aware steps: the gradient uphill, and the weights where they were."""

import pytest
import torch
from torch import nn
from training import one_epoch

from train.recipe import Recipe
from train.sharpness import uphill


def test_weights_move_by_the_radius_along_the_gradient_and_come_back_exactly():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(4))]
    idle = nn.Parameter(torch.ones(2))
    before = [weight.detach().clone() for weight in weights]
    gradients = [torch.randn_like(weight) for weight in weights]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient.clone()
    with uphill([*weights, idle], 0.5):
        moves = torch.cat(
            [(now - then).flatten() for now, then in zip(weights, before, strict=True)]
        )
        along = torch.cat([gradient.flatten() for gradient in gradients])
        assert torch.allclose(moves, 0.5 * along / along.norm(), atol=1e-6)
        assert torch.equal(idle, torch.ones(2))
    assert all(map(torch.equal, weights, before))


def test_weights_come_back_when_the_block_fails():
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    with pytest.raises(MemoryError), uphill([weight], 1.0):
        raise MemoryError
    assert torch.equal(weight, torch.ones(2))


class Slope(nn.Module):
    """Logits whose loss is steep: one weight, times a number of each clip."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, frames, mfcc):
        return torch.cat([self.weight * mfcc[:, :1, 0], torch.zeros(len(mfcc), 7)], dim=1)


@pytest.mark.parametrize("radius", [0.0, 0.7])
def test_a_step_follows_the_gradient_at_the_radius(radius):
    """Two clips of one emotion: by hand, the gradient falls with the weight."""
    net = Slope()
    mfcc = torch.ones(2, 13, 212)
    labels = torch.tensor([1, 1])
    batches = [(torch.arange(2), {"mfcc": mfcc}, labels)]
    totals = one_epoch(
        net,
        torch.optim.SGD(net.parameters(), lr=0.1),
        batches,
        recipe=Recipe(batch_size=2, sam=radius),
    )
    at = torch.tensor(1.0 + radius)  # the loss rises with the weight
    gradient = at.exp() / (at.exp() + 7)
    assert net.weight.item() == pytest.approx((1.0 - 0.1 * gradient).item(), abs=1e-6)
    here = torch.tensor(1.0)
    assert totals.mean_loss == pytest.approx((here.exp() + 7).log().item(), abs=1e-6)
