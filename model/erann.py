"""ERANN: an efficient residual network over log-mel spectrograms (Verbitskiy et al. 2021)."""

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from cache.schema import CLASS_COUNT
from model.log_mel import LogMel


class ResidualBlock(nn.Module):
    """Batch norm, leaky ReLU and 3x3 convolution, twice, beside a shortcut.

    The stride, in bands and frames, is that of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        x = self.conv1(leaky_relu(self.bn1(x)))
        x = self.conv2(leaky_relu(self.bn2(x)))
        return x + shortcut


class Erann(nn.Module):
    """Log-mel spectrogram, five stages of residual blocks, pooling, two layers.

    An audio network that takes the waveform instead of MFCCs. With the defaults ERANN-0-4, the size
    that its authors used for RAVDESS: 24,021,322 parameters; theirs has about 24.5M, of which the
    527 classes of AudioSet account for 0.27M.

    Differs from the source where the source does not specify a detail and has no public code:
    windows of 31 ms every 7.8 ms and bands from 50 Hz to 14 kHz are ours, and pooling is the mean
    over bands, then mean plus maximum over time, as in the PANNs that the source builds on.

    The stages, of `blocks` residual blocks each, have 8 W, 16 W, ... 128 W channels, where W is
    `width`. There are `bands` mel bands, of a window every `hop` samples.
    """

    def __init__(self, *, width: int = 4, blocks: int = 4, bands: int = 128, hop: int = 345):
        super().__init__()
        self.log_mel = LogMel(bands=bands, window=1_380, hop=hop, low_hz=50, high_hz=14_000)
        inputs, stages = 1, []
        for stage in range(5):
            outputs = 8 * width * 2**stage
            stages.append(ResidualBlock(inputs, outputs, stride=1 if stage == 0 else 2))
            stages += [ResidualBlock(outputs, outputs, stride=1) for _ in range(blocks - 1)]
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.fc1 = nn.Linear(inputs, inputs)
        self.fc2 = nn.Linear(inputs, CLASS_COUNT)

    def forward(self, frames: Tensor | None, waveform: Tensor) -> Tensor:
        """Classify waveforms, float (B, 108045), -1..1, 44.1 kHz, into logits (B, classes).

        `frames` are ignored.
        """
        x = self.log_mel(waveform)[:, None]  # (B, bands, frames) -> (B, 1, bands, frames)
        x = self.stages(x).mean(dim=2)  # (B, C, bands', frames') -> (B, C, frames')
        x = x.mean(dim=2) + x.amax(dim=2)
        return self.fc2(leaky_relu(self.fc1(x)))
