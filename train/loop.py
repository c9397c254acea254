"""Train for an epoch, test after it: the arithmetic of a run, without its files."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.augment import to_input, to_waveform

Batch = tuple[Tensor, dict[str, Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Scores:
    """Mean loss and accuracy (0..1) over the clips of one pass."""

    loss: float
    accuracy: float


def train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    loss_of: Loss,
    size: int,
    crops: Tensor,
) -> Scores:
    """One pass over the training clips: the mean loss and an optimiser step for each batch.

    Args:
        net: called with frames float (B, 3, T, size, size), and mfcc float (B, 13, 212) or a
            waveform float (B, 108045).
        optimizer: over the parameters of `net`.
        batches: as from `train.stream.batches`.
        loss_of: the loss of each clip, from logits (B, 8) and labels (B,).
        size: pixels a side that the network looks at.
        crops: for every clip by position, as from `train.augment.draw_crops`.

    Raises:
        TrainingError: if the loss is not finite.
    """
    net.train()
    total, correct, count = 0.0, 0, 0
    for positions, inputs, labels in batches:
        logits = _logits(net, inputs, size, crops[positions])
        loss = loss_of(logits, labels).mean()
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} after {count} clips of this epoch. "
                "The last checkpoint is kept; try a smaller --lr"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        correct += (logits.argmax(1) == labels).sum().item()
        count += len(labels)
    return Scores(total / count, correct / count)


@torch.inference_mode()
def test(
    net: nn.Module, batches: Iterable[Batch], *, loss_of: Loss, size: int
) -> tuple[Scores, Tensor]:
    """One pass over the held-out clips, without augmentation.

    Returns:
        The scores, and probabilities float32 (N, 8) on the CPU in the order of the clips.

    Raises:
        TrainingError: if the loss is not finite.
    """
    net.eval()
    total, correct, probabilities = 0.0, 0, []
    for _, inputs, labels in batches:
        logits = _logits(net, inputs, size)
        total += loss_of(logits, labels).sum().item()
        correct += (logits.argmax(1) == labels).sum().item()
        probabilities.append(logits.softmax(dim=1).cpu())
    if not math.isfinite(total):
        raise TrainingError(
            f"the loss on the test clips became {total}: the training has diverged. "
            "The last checkpoint is kept; try a smaller --lr"
        )
    joined = torch.cat(probabilities)
    return Scores(total / len(joined), correct / len(joined)), joined


def _logits(
    net: nn.Module, inputs: dict[str, Tensor], size: int, crops: Tensor | None = None
) -> Tensor:
    """Logits float32 (B, 8): in bfloat16 inside where a GPU does it, in float32 on a CPU."""
    device = next(iter(inputs.values())).device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        frames = to_input(inputs["frames"], size, crops) if "frames" in inputs else None
        sound = inputs.get("mfcc")
        if "waveform" in inputs:
            sound = to_waveform(inputs["waveform"])
        return net(frames, sound).float()
