"""Random numbers that depend on the seed of the run, the epoch and their purpose only."""

import numpy as np
import torch

# One number per purpose, so that drawing more numbers for one does not change another.
WEIGHTS, ORDER, AUGMENTATION, DROPOUT, SOUND, MODALITY, MIXUP, VOCAL_TRACT = range(8)
STYLE, FACE = 8, 9


def seed_of(seed: int, epoch: int, purpose: int, *more: int) -> int:
    """A 63-bit seed for one purpose in one epoch (0 is before the first), and `more` within it."""
    state = np.random.SeedSequence([seed, epoch, purpose, *more]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, epoch: int, purpose: int) -> torch.Generator:
    """A fresh generator on the CPU, so that every device gets the same numbers."""
    return torch.Generator().manual_seed(seed_of(seed, epoch, purpose))
