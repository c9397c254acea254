"""The cross-modal block: sound decides where in the video to look (Sec. 2.3, Eq. (7)-(8))."""

import torch
from torch import Tensor, nn


class CrossModalBlock(nn.Module):
    """Weights each position of the video map by how well it fits the audio vector.

    Differs from the paper: Eq. (7) leaves k channels and Eq. (8) multiplies them with C channels;
    as in the public code, a further affine k -> 1 makes one score per position, and softmax runs
    over all S*H*W positions. Differs from the public code: softmax and sum stay within each clip;
    there the maps of a whole batch are summed, so that a clip's result depends on its neighbours.

    Args:
        video_channels: C.
        audio_channels: d_f.
        hidden: k. 135,297 parameters for 2048, 64 and 64.
    """

    def __init__(self, *, video_channels: int = 2048, audio_channels: int = 64, hidden: int = 64):
        super().__init__()
        self.video_affine = nn.Linear(video_channels, hidden)  # W_v, b_v
        self.audio_affine = nn.Linear(audio_channels, hidden, bias=False)  # W_a
        self.score = nn.Linear(hidden, 1)

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse the video map (B, C, S, H, W) with the audio vector (B, d_f).

        Returns:
            The fused map X_o, (B, C, S, H, W), and the attention, (B, S, H, W), which sums to 1
            over the positions of each clip.
        """
        positions = video.flatten(2).transpose(1, 2)  # (B, C, S, H, W) -> (B, S*H*W, C)
        joint = self.video_affine(positions) + self.audio_affine(audio)[:, None]
        score = self.score(torch.tanh(joint))  # (B, S*H*W, 1), Eq. (7)
        attention = torch.softmax(score, dim=1).view(-1, *video.shape[2:])
        return video * attention[:, None] + video, attention  # Eq. (8)
