"""MMTM: squeeze and excitation across modalities (Joze et al. 2020)."""

import torch
from torch import Tensor, nn

from model.unimodal import AudioNetwork, VideoNetwork


class Mmtm(nn.Module):
    """Scales the channels of both maps by weights computed from both, whatever their dimensions.

    Squeeze S = mean over positions, joint Z = ReLU(W [S_v, S_a] + b), excitation
    E = W_m Z + b_m, and each map times 2 sigmoid(E). Source: Joze et al. 2020, Sec. 3.2, with the
    ratio 4: Z has (C_v + C_a) / 2 channels in the authors' code and here. Their code omits the
    factor 2 of their paper; it is kept here, so that E = 0 changes nothing.
    """

    def __init__(self, video_channels: int, audio_channels: int):
        super().__init__()
        channels = video_channels + audio_channels
        self.squeeze = nn.Linear(channels, channels // 2)
        self.excite_video = nn.Linear(channels // 2, video_channels)
        self.excite_audio = nn.Linear(channels // 2, audio_channels)

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Scale the maps (B, C_v, ...) and (B, C_a, ...); shapes are kept."""
        means = [x.flatten(2).mean(dim=2) for x in (video, audio)]  # (B, C, ...) -> (B, C)
        joint = torch.relu(self.squeeze(torch.cat(means, dim=1)))
        gates = _gate(self.excite_video(joint), video), _gate(self.excite_audio(joint), audio)
        return video * gates[0], audio * gates[1]


def _gate(excitation: Tensor, like: Tensor) -> Tensor:
    """2 sigmoid(E), from (B, C) to (B, C, 1, ...) with as many dimensions as `like`."""
    gate = 2 * torch.sigmoid(excitation)
    return gate.reshape(*gate.shape, *[1] * (like.dim() - 2))


class MmtmNetwork(nn.Module):
    """Both unimodal networks, joined by an MMTM after each of their last three stages.

    31,793,264 parameters; the paper has 31.97M and does not say where its modules are. Here they
    follow layer2, layer3 and layer4 of the video, and the three convolutions of the audio, each
    with its batch norm. The logits are the mean of both networks', as in the authors' code.
    """

    def __init__(self, *, video: VideoNetwork, audio: AudioNetwork):
        super().__init__()
        self.video = video
        self.audio = audio
        low, high = audio.audio.low_channels, audio.audio.channels
        channels = zip(video.video.stage_channels[1:], (low, low, high), strict=True)
        self.mmtm = nn.ModuleList(Mmtm(*of_both) for of_both in channels)

    def forward(self, frames: Tensor, mfcc: Tensor) -> Tensor:
        """Classify frames (B, 3, 30, 224, 224) and MFCCs (B, 13, 212) into logits (B, classes)."""
        video, audio = self.video.video, self.audio.audio
        # Each stage of both encoders, then the module that joins them.
        v, a = video.layer2(video.layer1(video.stem(frames))), audio.block1(mfcc)
        v, a = self.mmtm[0](v, a)
        v, a = video.layer3(v), audio.downsample(audio.block2(a))
        v, a = self.mmtm[1](v, a)
        v, a = video.layer4(v), audio.block3(a)
        v, a = self.mmtm[2](v, a)
        return (self.video.classify(v) + self.audio.classify(a)) / 2
