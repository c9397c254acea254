"""The audio encoder: a 1D CNN over MFCCs (Sec. 2.1)."""

from torch import Tensor, nn


class MfccCnn(nn.Module):
    """MFCCs to a map of audio features, Eq. (1)-(3): (B, 13, 212) -> (B, 64, 26).

    20,704 parameters with the defaults, named as in the public code. The flattening of Eq. (3)
    is left to the caller, because self-attention needs the map as a sequence.

    Differs from the paper: Eq. (1)-(2) leave open that the second convolution's ReLU is followed
    by max-pooling before its batch norm; this is the order in the public code.

    Args:
        channels: of the two first convolutions and of the third.
        dropout: after max-pooling, Eq. (2).
    """

    STEPS = 26  # length of the map for 212 MFCC steps

    def __init__(self, *, channels: tuple[int, int] = (32, 64), dropout: float = 0.2):
        super().__init__()
        low, high = channels
        self.conv1 = nn.Conv1d(13, low, 7, padding=2)
        self.bn1 = nn.BatchNorm1d(low)
        self.conv2 = nn.Conv1d(low, low, 7, padding=2)
        self.bn2 = nn.BatchNorm1d(low)
        self.conv3 = nn.Conv1d(low, high, 5, padding=2)
        self.bn3 = nn.BatchNorm1d(high)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool1d(8)
        self.dropout = nn.Dropout(dropout)
        self.channels = high

    def forward(self, mfcc: Tensor) -> Tensor:
        """Encode MFCCs, float (B, 13, 212), into (B, 64, 26)."""
        x = self.bn1(self.relu(self.conv1(mfcc)))  # (B, 32, 210), Eq. (1)
        x = self.maxpool(self.relu(self.conv2(x)))  # (B, 32, 208) -> (B, 32, 26)
        x = self.dropout(self.bn2(x))  # Eq. (2)
        return self.bn3(self.relu(self.conv3(x)))  # (B, 64, 26), Eq. (3)
