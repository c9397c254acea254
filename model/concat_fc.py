"""Early fusion by concatenation and fully connected layers (Ortega et al. 2019)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from cache.schema import CLASS_COUNT
from model.mfcc_cnn import MfccCnn
from model.resnext3d import pool
from model.unimodal import VideoEncoder


class ConcatFc(nn.Module):
    """Both encoders' features side by side, then three layers: 3712 -> 256 -> 128 -> 8.

    26,870,824 parameters. Differs from the source, which concatenates hand-crafted features: the
    layer sizes are those that give the paper's 26.87M, with ReLU between them, and dropout on the
    audio as in the unimodal network.
    """

    def __init__(
        self, *, video: VideoEncoder, audio: MfccCnn, hidden: tuple[int, int] = (256, 128)
    ):
        super().__init__()
        self.video = video
        self.audio = audio
        self.dropout = nn.Dropout(0.4)
        sizes = (video.channels + audio.num_features, *hidden, CLASS_COUNT)
        first, second, third = (nn.Linear(*pair) for pair in pairwise(sizes))
        self.head = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def forward(self, frames: Tensor, mfcc: Tensor) -> Tensor:
        """Classify frames (B, 3, 30, 224, 224) and MFCCs (B, 13, 212) into logits (B, classes)."""
        audio = self.dropout(self.audio.flatten(self.audio(mfcc)))  # (B, 64, 26) -> (B, 1664)
        return self.head(torch.cat([pool(self.video(frames)), audio], dim=1))
