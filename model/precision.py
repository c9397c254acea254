"""Arithmetic that must stay in float32 inside autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which operations keep the types of their tensors.

    Devices that know no autocast, such as "meta", need none.
    """
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
