"""Several processes on one fold: how clips are split between them, and what they sum."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class World:
    """The processes that share each batch; by default a single one."""

    rank: int = 0  # the number of this process; 0 is the main process, which writes all files
    size: int = 1  # the number of processes

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def local_batch(self, batch: Tensor) -> Tensor:
        """This process's part of a batch of positions (B,): every `size`-th of them.

        Where a batch has fewer clips than there are processes, a process without a clip takes the
        first one, since it must take part in the step; `num_local` says that it does not count.
        """
        mine = batch[self.rank :: self.size]
        return mine if len(mine) else batch[:1]

    def num_local(self, batch_size: int) -> int:
        """The number of clips of a batch that count as this process's."""
        return len(range(self.rank, batch_size, self.size))

    def all_reduce(self, tensor: Tensor) -> None:
        """Sum a tensor over all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)

    def broadcast(self, tensor: Tensor) -> None:
        """Replace a tensor by the main process's, in place."""
        if self.size > 1:
            distributed.broadcast(tensor, 0)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            distributed.barrier()

    def wrap(self, net: nn.Module, device: torch.device) -> nn.Module:
        """The network to call in training, which averages gradients over the processes.

        On GPUs, batch norm sees the whole batch. On CPUs, where torch has no synchronized batch
        norm, it sees the local batch, so several CPU processes do not give the run of one.
        """
        if self.size == 1:
            return net
        if device.type == "cpu":
            return nn.parallel.DistributedDataParallel(net)
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # in place, under the same names
        return nn.parallel.DistributedDataParallel(net, device_ids=[device])


def num_processes() -> int:
    """The number of processes that torchrun started, or 1; ValueError if it is not a number."""
    text = os.environ.get("WORLD_SIZE") or "1"
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"WORLD_SIZE is {text!r}, expected the number of processes, or unset")
    return int(text)


@contextmanager
def world_of(device: torch.device) -> Iterator[World]:
    """The processes that torchrun started, or a single one."""
    size = num_processes()
    if size == 1:
        yield World()
        return
    # Default arguments in this module keep the process group that exists when it is first imported,
    # which torch does sooner or later; the threads of gloo would then outlive the interpreter, and
    # abort the process now and then. So import it before there is a process group.
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()
