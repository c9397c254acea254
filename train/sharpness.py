"""Sharpness-aware minimisation: the gradient where the loss is highest near by."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch.nn import Parameter


@contextmanager
def uphill(parameters: Iterable[Parameter], radius: float) -> Iterator[None]:
    """Move weights by `radius` along their gradient while the block runs, and exactly back.

    The gradient that the block computes then leads to where the loss is low all around, not at one
    point alone: such networks do better on actors whom they have not seen. It costs a second pass
    forth and back. Source: Foret et al. 2021, Eq. (2); the norm is that of all weights together.

    Args:
        parameters: with their gradients; those without any stay.
        radius: of the move, the Euclidean norm over all of them, above 0.
    """
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    before = [parameter.detach().clone() for parameter in moved]
    with torch.no_grad():
        norms = torch.stack([parameter.grad.norm() for parameter in moved])
        scale = radius / (norms.norm() + 1e-12)
        for parameter in moved:
            parameter += parameter.grad * scale
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(moved, before, strict=True):
                parameter.copy_(value)
