"""What tests of the trainer share: an epoch on given batches, of whole pictures."""

import torch
from torch import Tensor, nn

from model.prepare import Prepare
from model.registry import cross_entropy
from train.inputs import Changes
from train.loop import Totals, train_epoch
from train.parallel import ALONE
from train.recipe import Recipe
from train.stream import Batch

CPU = torch.device("cpu")
JUDGING = {
    "prepare": Prepare(56),
    "loss_of": cross_entropy,
    "precision": torch.float32,
    "team": ALONE,
}


def one_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[Batch],
    *,
    crops: Tensor | None = None,
    recipe: Recipe | None = None,
    **more,
) -> Totals:
    """An epoch at the optimiser's own rate; without `crops`, of whole pictures."""
    recipe = recipe or Recipe(batch_size=len(batches[0][0]))
    clips = sum(len(positions) for positions, *_ in batches)
    changes = Changes(recipe, seed=0, epoch=1, clips=clips)
    if crops is None:
        crops = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0]] * clips)
    changes.crops = crops
    totals = Totals.zero(CPU)
    rate = optimizer.param_groups[0]["lr"]
    judging = {**JUDGING, **more}
    train_epoch(
        net, optimizer, batches, totals, changes=changes, rate_at=lambda step: rate, **judging
    )
    return totals
