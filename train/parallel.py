"""Several processes on one fold: who trains on which clips, and what they tell each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import batch_norm

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Team:
    """The processes that share each batch; a team of one says nothing to anyone.

    Args:
        rank: which of them this is; 0 leads, and alone writes files.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's clips of a batch (B,): every `size`-th, or its first if there are none.

        A process must not sit out a step, so where clips are fewer than processes it trains on one
        that is another's, and `own` says that it does not count.
        """
        mine = batch[self.rank :: self.size]
        return mine if len(mine) else batch[:1]

    def own(self, batch: int) -> int:
        """How many of a batch's clips count as this process's."""
        return len(range(self.rank, batch, self.size))

    def wait(self) -> None:
        """Wait until all are here."""
        if self.size > 1:
            distributed.barrier()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` is true in any process; the same answer in all of them."""
        if self.size == 1:
            return flag
        flags = torch.tensor(float(flag), device=device)
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags)

    def add(self, tensor: Tensor) -> None:
        """Sum a tensor over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)

    def wrap(self, net: nn.Module, device: torch.device) -> nn.Module:
        """The network as it is called for training: gradients are averaged over the processes.

        Its batch norms see the whole batch, as in one process; they are replaced in `net` under
        their names.
        """
        if self.size == 1:
            return net
        on_gpu = device.type == "cuda"
        _synchronise(net, on_gpu)
        return nn.parallel.DistributedDataParallel(net, device_ids=[device] if on_gpu else None)


ALONE = Team()


@contextmanager
def team_of(device: torch.device) -> Iterator[Team]:
    """The team that torchrun has started this process in, if it has."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team()
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


def _synchronise(net: nn.Module, on_gpu: bool) -> None:
    for name, child in net.named_children():
        if isinstance(child, BATCH_NORMS):
            convert = nn.SyncBatchNorm.convert_sync_batchnorm if on_gpu else SharedBatchNorm
            setattr(net, name, convert(child))
        else:
            _synchronise(child, on_gpu)


class SumOfAll(torch.autograd.Function):
    """A tensor summed over the processes, forth, and so its gradient, back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return SumOfAll.forward(ctx, gradient)


class SharedBatchNorm(nn.Module):
    """Batch norm over the clips of all processes; torch's own, SyncBatchNorm, is for GPUs alone.

    Args:
        norm: the batch norm whose parameters and statistics it takes over, under their names.
    """

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.eps, self.momentum = norm.eps, norm.momentum

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) by the mean and variance of each channel over all processes."""
        if not self.training:
            return batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        shape = (1, -1, *[1] * (x.dim() - 2))
        others = [0, *range(2, x.dim())]
        count = x.new_tensor(x.numel() / x.shape[1])
        distributed.all_reduce(count)
        mean = SumOfAll.apply(x.sum(others)) / count
        centred = x - mean.view(shape)
        variance = SumOfAll.apply(centred.square().sum(others)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight / (variance + self.eps).sqrt()
        return centred * scale.view(shape) + self.bias.view(shape)
