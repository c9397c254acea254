"""Functions in processes of their own, which tests can kill, or start several of together.

They are forked from a server that has imported what is slow to import.
"""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["train.cli", "torch._dynamo", "torch.utils.tensorboard"])


def begin(
    target: Callable[[list[str]], int], folder: Path, arguments: list[Any], **variables: Any
) -> BaseProcess:
    """Start a function such as `main`; what it prints goes to `stdout` and `stderr` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    given = (target, folder, [str(each) for each in arguments], variables)
    process = _CONTEXT.Process(target=_run, args=given)
    process.start()
    return process


def begin_team(
    target: Callable[[list[str]], int], folder: Path, arguments: list[Any]
) -> list[BaseProcess]:
    """Start two processes as torchrun does; process N prints to files in `folder/N`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    team = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        begin(target, folder / str(rank), arguments, **team, RANK=rank, LOCAL_RANK=rank)
        for rank in (0, 1)
    ]


def _run(
    target: Callable[[list[str]], int], folder: Path, arguments: list[str], variables: dict
) -> None:
    for stream in (sys.stdout, sys.stderr):
        opened = (folder / stream.name.strip("<>")).open("wb")
        os.dup2(opened.fileno(), stream.fileno())
    os.environ.update({name: str(value) for name, value in variables.items()})
    torch.set_num_threads(1)
    sys.exit(target(arguments))
