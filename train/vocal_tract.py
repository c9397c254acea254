"""Vocal tract length perturbation: the same words from a longer or a shorter vocal tract."""

import math
from functools import cache

import torch
from torch import Tensor

from cache.schema import SAMPLE_RATE_HZ
from model.log_mel import hz_to_mel, mel_to_hz

MEL_BANDS = 128  # of the spectra behind the MFCCs of the cache
NYQUIST_HZ = SAMPLE_RATE_HZ / 2
STEPS = 41  # the number of factors, from the smallest to the largest; the middle one is 1


@cache
def warps(coefficients: int, strength: float, count: int) -> Tensor:
    """Matrices that warp the frequencies of MFCCs, float32 (count, coefficients, coefficients).

    MFCCs are the first coefficients of a cosine transform over mel bands. Each matrix transforms
    back to bands, reads each band at its frequency times a factor, and transforms again. The
    factors are exp(-strength) .. exp(strength), evenly spaced in their logarithm. Source: Jaitly &
    Hinton 2013, on spectrograms.
    """
    band = torch.arange(MEL_BANDS, dtype=torch.float64)
    order = torch.arange(coefficients, dtype=torch.float64)
    transform = torch.cos(math.pi / MEL_BANDS * order[:, None] * (band + 0.5))  # DCT-II
    transform *= torch.where(order == 0, 1 / MEL_BANDS, 2 / MEL_BANDS).sqrt()[:, None]
    top = hz_to_mel(torch.tensor(NYQUIST_HZ, dtype=torch.float64))
    mel = (band + 1) * top / (MEL_BANDS + 1)  # centers of the bands
    matrices = []
    for factor in torch.linspace(-strength, strength, count, dtype=torch.float64).exp():
        source = hz_to_mel(mel_to_hz(mel) * factor) * (MEL_BANDS + 1) / top - 1
        source = source.clamp(0, MEL_BANDS - 1)
        low = source.floor().clamp(max=MEL_BANDS - 2)
        part = (source - low)[:, None]
        index = low.long()[:, None]
        read = torch.zeros(MEL_BANDS, MEL_BANDS, dtype=torch.float64)
        read.scatter_(1, index, 1 - part).scatter_(1, index + 1, part)
        matrices.append(transform @ read @ transform.T)
    return torch.stack(matrices).float()


def change_vocal_tract(mfcc: Tensor, draws: Tensor, strength: float) -> Tensor:
    """MFCCs, in the same shape, as from speakers whose vocal tracts are longer or shorter.

    Vocal tracts of children, women and men differ by a factor of up to 1.3; with few training
    actors, a network would otherwise take that for emotion.

    Args:
        mfcc: as in the cache, not normalized, float (B, 13, steps).
        draws: float (B,), uniform in 0..1: which factor of exp(-strength) .. exp(strength).
        strength: the logarithm of the largest factor; 0.2 is a factor from 0.82 to 1.22.
    """
    table = warps(mfcc.shape[1], strength, STEPS).to(mfcc)
    chosen = (draws * STEPS).long().clamp(max=STEPS - 1)
    return torch.bmm(table[chosen.to(mfcc.device)], mfcc)  # (B, 13, 13) x (B, 13, steps)
