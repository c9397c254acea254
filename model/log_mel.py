"""Log-mel spectrograms on the device of the waveform."""

import math

import torch
from torch import Tensor, nn

from cache.schema import SAMPLE_RATE_HZ
from model.device import without_autocast


class LogMel(nn.Module):
    """Waveforms to log-mel spectrograms: float (B, samples) -> float32 (B, bands, frames).

    Power spectra of Hann windows, reflected at the ends, in triangular bands of equal width on the
    mel scale and equal area (Slaney's scale and norm, librosa's default), in decibels relative to
    a power of 1, clipped at -100 dB. `window` and `hop` are in samples; bands go from `low_hz` to
    `high_hz`.
    """

    def __init__(self, *, bands: int, window: int, hop: int, low_hz: float, high_hz: float):
        super().__init__()
        self.window = window
        self.hop = hop
        # Derived from the arguments, so not stored in checkpoints.
        filters = mel_filters(bands, window, low_hz, high_hz)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("hann", torch.hann_window(window), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform waveforms (B, samples) in -1..1, in float32 even under autocast."""
        with without_autocast(waveform.device):
            spectrum = torch.stft(
                waveform.float(), self.window, self.hop, window=self.hann, return_complex=True
            )  # (B, window // 2 + 1, frames)
            power = spectrum.real.square() + spectrum.imag.square()
            return 10 * torch.log10((self.filters @ power).clamp(min=1e-10))


def mel_filters(bands: int, window: int, low_hz: float, high_hz: float) -> Tensor:
    """Triangles of area 1 (in Hz) over the bins of a spectrum, float32 (bands, window // 2 + 1).

    Source: Slaney 1998, Auditory Toolbox.
    """
    low, high = hz_to_mel(torch.tensor([low_hz, high_hz], dtype=torch.float64))
    edges = mel_to_hz(low + (high - low) * torch.arange(bands + 2) / (bands + 1))
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    hz = torch.arange(window // 2 + 1, dtype=torch.float64) * SAMPLE_RATE_HZ / window
    rising, falling = (hz - left) / (center - left), (right - hz) / (right - center)
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * 2 / (right - left)).float()


# Slaney's scale: linear below 1 kHz, 15 mel; above, 27 mel are a factor of 6.4.
_HZ_A_MEL, _BREAK_HZ, _BREAK_MEL, _STEP = 200 / 3, 1_000.0, 15.0, math.log(6.4) / 27


def hz_to_mel(hz: Tensor) -> Tensor:
    """Frequencies above 0 on Slaney's mel scale."""
    above = _BREAK_MEL + torch.log(hz / _BREAK_HZ) / _STEP
    return torch.where(hz < _BREAK_HZ, hz / _HZ_A_MEL, above)


def mel_to_hz(mel: Tensor) -> Tensor:
    """The inverse of `hz_to_mel`."""
    above = _BREAK_HZ * torch.exp((mel - _BREAK_MEL) * _STEP)
    return torch.where(mel < _BREAK_MEL, mel * _HZ_A_MEL, above)
