"""The device that a run computes on, and its precision."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch


def pick_device(name: str) -> torch.device:
    """The device to compute on: "auto" is a GPU if there is one, else the CPU.

    ValueError if a GPU is requested and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device is cuda, but torch finds no GPU. Use --device cpu or auto")
    if name == "cpu":
        return torch.device(name)
    # torchrun gives each process a GPU of its own.
    device = torch.device(name, int(os.environ.get("LOCAL_RANK") or "0"))
    torch.cuda.set_device(device)
    return device


def pick_precision(name: str, device: torch.device, *, heavy: bool) -> str:
    """The precision to compute in: "auto" is bfloat16 where arithmetic takes most of the time.

    That is on a GPU, and for full-size networks that look at frames on a CPU with such
    instructions: others emulate it, many times slower than float32. A tiny network on a CPU would
    spend more on conversion than it saves.
    """
    if name != "auto":
        return name
    fast = device.type == "cuda" or (heavy and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return "bfloat16" if fast else "float32"


def describe(device: torch.device) -> str:
    """The device in words, such as `cpu (2 threads)`."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' * (threads > 1)})"


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which operations keep the types of their tensors.

    Devices without autocast, such as "meta", need none.
    """
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
