"""The audio encoder: a 1D CNN over MFCCs (Sec. 2.1)."""

import torch
from torch import Tensor, nn

from cache.schema import MFCC_COUNT, MFCC_STEPS


class MfccCnn(nn.Module):
    """MFCCs to a map of audio features, Eq. (1)-(3): (B, 13, 212) -> (B, 64, 26).

    20,704 parameters with the defaults, named as in the public code. The flattening of Eq. (3)
    is a method of its own, since self-attention needs the map as a sequence. Networks that fuse
    inside the encoder call `block1`, `block2`, `downsample` and `block3` themselves.

    Differs from the paper: Eq. (1)-(2) do not say that max-pooling comes between the second
    convolution's ReLU and its batch norm; this is the order in the public code.

    Args:
        channels: the number of channels of the first two convolutions, and of the third.
        dropout: the dropout probability after max-pooling, Eq. (2).
        parts: 0 flattens the map, Eq. (3); else it is summed up by mean and maximum of each channel
            in this many equal parts of time. Ours: fewer weights depend on when something is said.
    """

    # The length of the map: two convolutions take 2 steps each, pooling leaves an eighth.
    STEPS = (MFCC_STEPS - 4) // 8

    def __init__(
        self, *, channels: tuple[int, int] = (32, 64), dropout: float = 0.2, parts: int = 0
    ):
        super().__init__()
        low, high = channels
        self.conv1 = nn.Conv1d(MFCC_COUNT, low, 7, padding=2)
        self.bn1 = nn.BatchNorm1d(low)
        self.conv2 = nn.Conv1d(low, low, 7, padding=2)
        self.bn2 = nn.BatchNorm1d(low)
        self.conv3 = nn.Conv1d(low, high, 5, padding=2)
        self.bn3 = nn.BatchNorm1d(high)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool1d(8)
        self.dropout = nn.Dropout(dropout)
        self.low_channels = low
        self.channels = high
        self.parts = parts
        self.num_features = high * (2 * parts if parts else self.STEPS)

    def block1(self, mfcc: Tensor) -> Tensor:
        """Eq. (1): (B, 13, 212) -> (B, 32, 210)."""
        return self.bn1(self.relu(self.conv1(mfcc)))

    def block2(self, x: Tensor) -> Tensor:
        """Eq. (1) again, up to the ReLU: (B, 32, 210) -> (B, 32, 208)."""
        return self.relu(self.conv2(x))

    def downsample(self, x: Tensor) -> Tensor:
        """Eq. (2): (B, 32, 208) -> (B, 32, 26)."""
        return self.dropout(self.bn2(self.maxpool(x)))

    def block3(self, x: Tensor) -> Tensor:
        """Eq. (3) before its flattening: (B, 32, 26) -> (B, 64, 26)."""
        return self.bn3(self.relu(self.conv3(x)))

    def forward(self, mfcc: Tensor) -> Tensor:
        """Encode MFCCs, float (B, 13, 212), into (B, 64, 26)."""
        return self.block3(self.downsample(self.block2(self.block1(mfcc))))

    def flatten(self, x: Tensor) -> Tensor:
        """What classifiers see of the map: (B, 64, 26) -> (B, 1664), or (B, 128 * parts)."""
        if not self.parts:
            return x.flatten(1)
        split = x.tensor_split(self.parts, dim=2)
        pooled = [part.mean(dim=2) for part in split] + [part.amax(dim=2) for part in split]
        return torch.cat(pooled, dim=1)
