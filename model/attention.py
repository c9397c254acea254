"""Self-attention within the audio modality (Sec. 2.3, Eq. (5)-(6))."""

import math

import torch
from torch import Tensor, nn


class AudioSelfAttention(nn.Module):
    """A causal Transformer encoder over the steps of the audio map.

    The map is scaled by sqrt(channels) and sinusoidal positions are added. Then follow `layers`
    pre-norm layers of multi-head attention, Eq. (5), and feed-forward, Eq. (6), and a final layer
    norm. 250,048 parameters with the defaults.

    Differs from the paper: Eq. (6) normalizes after the residual, the public code before it. The
    causal mask and the dropouts are also those of the public code, which produced the results.

    `channels` is d_f of the audio map, `feedforward` the number of hidden channels of Eq. (6).
    """

    def __init__(
        self, *, channels: int = 64, heads: int = 8, layers: int = 5, feedforward: int = 256
    ):
        super().__init__()
        self.channels = channels
        self.dropout = nn.Dropout(0.3)
        layer = nn.TransformerEncoderLayer(
            channels, heads, feedforward, dropout=0.1, batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(channels)
        self.encoder = nn.TransformerEncoder(layer, layers, norm, enable_nested_tensor=False)
        # TransformerEncoder copies one layer with its weights, so draw new ones for each copy.
        for name, parameter in self.encoder.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, audio: Tensor) -> Tensor:
        """Let each step of the map attend to earlier ones: (B, C, steps) -> (B, C, steps)."""
        x = audio.transpose(1, 2)  # (B, C, steps) -> (B, steps, C)
        steps = x.shape[1]
        x = math.sqrt(self.channels) * x + sinusoids(steps, self.channels).to(x)
        mask = nn.Transformer.generate_square_subsequent_mask(steps, device=x.device, dtype=x.dtype)
        x = self.encoder(self.dropout(x), mask=mask, is_causal=True)
        return x.transpose(1, 2)  # (B, steps, C) -> (B, C, steps)


def sinusoids(steps: int, channels: int) -> Tensor:
    """Positions 1..steps as sines and cosines, float32 (steps, channels).

    The first half of the channels are sines, the second cosines; frequency i of n is
    exp(-i ln(10000) / (n - 1)). Source: the public code; Vaswani et al. 2017 interleave them.
    """
    half = channels // 2
    frequency = torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
    angle = torch.arange(1, steps + 1)[:, None] * frequency[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)
