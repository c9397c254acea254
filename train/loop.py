"""Train for an epoch, test after it: the arithmetic of a run, without its files."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cache.ravdess import EMOTIONS
from model.checkpoint import classify
from model.prepare import Prepare
from train.inputs import Changes, to_targets
from train.parallel import ALONE, Team
from train.stream import Batch

Loss = Callable[[Tensor, Tensor], Tensor]


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


@dataclass
class Totals:
    """Sums over the clips of a pass so far; on the device, so that no step waits for them."""

    loss: Tensor
    correct: Tensor
    clips: int = 0

    @classmethod
    def zero(cls, device: torch.device) -> "Totals":
        return cls(torch.zeros((), device=device), torch.zeros((), device=device))

    def add(self, losses: Tensor, logits: Tensor, labels: Tensor, clips: int | None = None) -> None:
        """Count a batch, losses (B,), logits (B, 8), labels (B,), as part of one of `clips`."""
        self.loss += losses.detach().sum()
        self.correct += (logits.argmax(1) == labels).sum()
        self.clips += len(labels) if clips is None else clips

    @property
    def mean_loss(self) -> float:
        return self.loss.item() / self.clips

    @property
    def accuracy(self) -> float:
        return self.correct.item() / self.clips


def train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    totals: Totals,
    *,
    prepare: Prepare,
    changes: Changes,
    loss_of: Loss,
    rate_at: Callable[[int], float],
    precision: torch.dtype,
    team: Team = ALONE,
    after_step: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Pass over the training clips, or the rest of them: an optimiser step for each batch.

    Args:
        net: called with frames and sound as from `prepare`.
        optimizer: over its parameters.
        batches: positions, inputs and labels: this process's share of each batch, of the sizes of
            `changes`.
        totals: of the clips of this epoch before; the batches' are added, in the end of all
            processes.
        prepare, changes: from fields to inputs and targets.
        loss_of: the loss of each clip, from logits and targets (B, 8).
        rate_at: the learning rate of a step, numbered from 0 in this epoch.
        precision: bfloat16 for autocast, or float32.
        team: the processes that share the batches.
        after_step: called after each.
        stop: asked after each step; true ends the pass early.

    Raises:
        TrainingError: if the loss is not finite.
    """
    net.train()
    for positions, fields, labels in batches:
        step = totals.clips // changes.recipe.batch_size
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        torch.manual_seed(changes.dropout_seed(step, team.rank))
        fields = changes.of_fields(positions, fields)
        frames, sound = prepare(fields, changes.crops[positions])
        frames, sound, targets = changes(step, positions, frames, sound, labels)
        whole = changes.batch_sizes[step]
        own = team.own(whole)

        optimizer.zero_grad(set_to_none=True)
        logits = classify(net, frames, sound, precision)
        losses = loss_of(logits, targets)
        # The mean over the whole batch: gradients are averaged over the team.
        counted = losses[:own].sum() if own else 0 * losses.sum()
        (counted * (team.size / whole)).backward()
        optimizer.step()
        after_step()
        totals.add(losses[:own], logits[:own], labels[:own], whole)
        if team.any(stop(), totals.loss.device):
            break
    team.add(totals.loss)
    team.add(totals.correct)
    if not math.isfinite(totals.mean_loss):
        raise TrainingError(
            f"the loss became {totals.mean_loss} in this epoch. The last checkpoint is kept; try a "
            "smaller --lr"
        )


@torch.no_grad()  # not inference mode, in which the buffers of a stream would be made too
def test(
    net: nn.Module,
    batches: Iterable[Batch],
    clips: int,
    device: torch.device,
    *,
    prepare: Prepare,
    loss_of: Loss,
    precision: torch.dtype,
    team: Team,
) -> tuple[Totals, Tensor]:
    """One pass over the held-out clips, without changes.

    Args:
        net: as for `train_epoch`.
        batches: positions, inputs and labels of this process's share of the clips.
        clips: how many all processes test.
        device: that the batches lie on.
        prepare, loss_of, precision, team: as for `train_epoch`.

    Returns:
        The totals of all processes, and probabilities float32 (clips, 8) on the CPU by position.

    Raises:
        TrainingError: if the loss is not finite.
    """
    net.eval()
    totals = Totals.zero(device)
    probabilities = torch.zeros(clips, len(EMOTIONS), device=device)
    for positions, fields, labels in batches:
        logits = classify(net, *prepare(fields), precision)
        totals.add(loss_of(logits, to_targets(labels)), logits, labels)
        probabilities[positions.to(device)] = logits.softmax(dim=1)
    for tensor in (totals.loss, totals.correct, probabilities):
        team.add(tensor)
    totals.clips = clips
    if not math.isfinite(totals.mean_loss):
        raise TrainingError(
            f"the loss on the test clips became {totals.mean_loss}: the training has diverged. "
            "The last checkpoint is kept; try a smaller --lr"
        )
    return totals, probabilities.cpu()
