"""MSAF: split attention over blocks of channels of all modalities (Su et al. 2020)."""

import torch
from torch import Tensor, nn

from model.unimodal import AudioNetwork, VideoNetwork


class Msaf(nn.Module):
    """Weighs blocks of channels of both maps against each other.

    Split each map into blocks of `block` channels; join: add all blocks of both modalities and
    average over positions, G; Z = ReLU(BN(W_Z G + b_Z)) with block / reduction channels;
    highlight: U_i = W_i Z + b_i for each block i, softmax over all blocks, for each channel of a
    block separately. Each block is multiplied by its weights. Source: Su et al. 2020, Sec. 3.

    Differs from the authors' code in the dropout of blocks: there the mask of a dropped block is
    multiplied twice, before joining and again in the result; here once.

    The numbers of `channels` of both maps are multiples of `block`.
    """

    def __init__(
        self, channels: tuple[int, int], block: int, *, reduction: int = 4, dropout: float = 0.2
    ):
        super().__init__()
        self.block = block
        self.blocks = [count // block for count in channels]
        reduced = block // reduction
        self.joint = nn.Sequential(nn.Linear(block, reduced), nn.BatchNorm1d(reduced), nn.ReLU())
        # The affines Z -> U of all blocks in one; rows i * block .. (i + 1) * block are block i's.
        self.highlight = nn.Linear(reduced, sum(channels))
        self.dropout = nn.Dropout(dropout)

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Weigh the maps (B, C_v, ...) and (B, C_a, ...); shapes are kept."""
        # (B, C, ...) -> (B, blocks, block, positions)
        split = [x.unflatten(1, (-1, self.block)).flatten(3) for x in (video, audio)]
        # Dropped blocks become 0, and the others are scaled as by dropout.
        split = [x * self.dropout(x.new_ones(*x.shape[:2], 1, 1)) for x in split]
        joined = sum(x.mean(dim=3).sum(dim=1) for x in split)  # (B, block)
        scores = self.highlight(self.joint(joined)).unflatten(1, (-1, self.block))
        weights = torch.softmax(scores, dim=1)[..., None]  # (B, blocks of both, block, 1)
        weighed = [x * w for x, w in zip(split, weights.split(self.blocks, dim=1), strict=True)]
        return weighed[0].reshape(video.shape), weighed[1].reshape(audio.shape)


class MsafNetwork(nn.Module):
    """Both unimodal networks, joined by two MSAF modules; 25,940,724 parameters.

    Blocks have 16 channels after layer3 and the audio's second convolution, and 32 after layer4
    and the third. The logits are the sum of both networks', as in the authors' code.
    """

    def __init__(
        self, *, video: VideoNetwork, audio: AudioNetwork, blocks: tuple[int, int] = (16, 32)
    ):
        super().__init__()
        self.video = video
        self.audio = audio
        of_audio = audio.audio.low_channels, audio.audio.channels
        channels = zip(video.video.stage_channels[2:], of_audio, strict=True)
        self.msaf = nn.ModuleList(map(Msaf, channels, blocks))

    def forward(self, frames: Tensor, mfcc: Tensor) -> Tensor:
        """Classify frames (B, 3, 30, 224, 224) and MFCCs (B, 13, 212) into logits (B, classes)."""
        video, audio = self.video.video, self.audio.audio
        v = video.layer3(video.layer2(video.layer1(video.stem(frames))))
        v, a = self.msaf[0](v, audio.block2(audio.block1(mfcc)))
        v, a = video.layer4(v), audio.block3(audio.downsample(a))
        v, a = self.msaf[1](v, a)
        return self.video.classify(v) + self.audio.classify(a)
