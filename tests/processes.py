"""Commands, and functions in processes of their own, which tests can kill, or start together.

The functions are forked from a server that has imported what is slow to import.
"""

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Finished = subprocess.CompletedProcess[str]
Main = Callable[[list[str]], int]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["train.cli", "torch._dynamo", "torch.utils.tensorboard"])


def run(*command: Any, folder: Path = ROOT, status: int = 0, **variables: Any) -> Finished:
    """Run a command to its end, which must have this exit status, with more environment variables.

    `python` is this interpreter; `make`, also in a `bash`, knows of no other make around it.
    """
    words = [sys.executable if each == "python" else str(each) for each in command]
    inner = words[0] in ("make", "bash")
    kept = {k: v for k, v in os.environ.items() if not (inner and k.startswith(("MAKE", "ARGS")))}
    env = kept | {name: str(value) for name, value in variables.items()}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == status, done.stderr
    return done


def status_of(main: Main, *arguments: Any) -> int:
    """The exit status of a command in this process, also if argparse ends it."""
    try:
        return main([str(each) for each in arguments])
    except SystemExit as exc:
        return exc.code


def begin(target: Main, folder: Path, arguments: list[Any], **variables: Any) -> BaseProcess:
    """Start a function such as `main`; what it prints goes to `stdout` and `stderr` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    given = (target, folder, [str(each) for each in arguments], variables)
    process = _CONTEXT.Process(target=_run, args=given)
    process.start()
    return process


def begin_team(target: Main, folder: Path, arguments: list[Any]) -> list[BaseProcess]:
    """Start two processes as torchrun does; process N prints to files in `folder/N`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    team = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        begin(target, folder / str(rank), arguments, **team, RANK=rank, LOCAL_RANK=rank)
        for rank in (0, 1)
    ]


def _run(target: Main, folder: Path, arguments: list[str], variables: dict) -> None:
    for stream in (sys.stdout, sys.stderr):
        opened = (folder / stream.name.strip("<>")).open("wb")
        os.dup2(opened.fileno(), stream.fileno())
    os.environ.update({name: str(value) for name, value in variables.items()})
    import torch  # not above, where each process of a test would wait for it

    torch.set_num_threads(1)
    sys.exit(target(arguments))
