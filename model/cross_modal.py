"""The cross-modal block: the sound decides where in the video to look (Sec. 2.3, Eq. (7)-(8))."""

import torch
from torch import Tensor, nn

ATTENTIONS = ("mean", "clip", "slice")


class CrossModalBlock(nn.Module):
    """Weights each position of one modality's map by how well it fits the other's vector.

    A->V, the paper's choice, weighs the positions of the video by the sound; V->A (Table 2) weighs
    the time steps of the sound by the video, with the same affines.

    Differs from the paper: Eq. (7) leaves k channels and Eq. (8) multiplies them with C channels;
    as in the public code, a further affine k -> 1 makes one score per position. Differs from the
    public code: softmax and sum stay within each clip. There the maps of a whole batch are summed,
    so a clip's result depends on the other clips.

    Eq. (8) does not say what its softmax runs over, and the map is averaged over all N positions
    afterwards. If attention sums to 1, its share of that average is 1/N, 1 % at full size, and
    the block does almost nothing. Hence the default, "mean": N times the softmax over all
    positions, so that attention is 1 on average and weighs as much as the residual.

    Args:
        video_channels: the number of channels C of the video map.
        audio_channels: the number of channels d_f of the audio map.
        hidden: the number of channels k; 135,297 parameters for 2048, 64 and 64.
        guided: the modality whose map is weighted, "video" (A->V) or "audio" (V->A).
        residual: whether Eq. (8) adds the map itself.
        attention: "mean" as above; "clip", a softmax over all positions, as the equation reads; or
            "slice", a softmax over the positions of each time slice, as in the public code. The
            steps of the sound (V->A) are one slice.
    """

    def __init__(
        self,
        *,
        video_channels: int = 2048,
        audio_channels: int = 64,
        hidden: int = 64,
        guided: str = "video",
        residual: bool = True,
        attention: str = "mean",
    ):
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"attention is {attention!r}, expected one of {', '.join(ATTENTIONS)}")
        self.attention = attention
        self.guided = guided
        self.residual = residual
        self.video_affine = nn.Linear(video_channels, hidden)  # W_v, b_v
        self.audio_affine = nn.Linear(audio_channels, hidden, bias=False)  # W_a
        self.score = nn.Linear(hidden, 1)

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse the map of the guided modality with the vector of the other.

        Args:
            video: (B, C, S, H, W); for V->A (B, C).
            audio: (B, d_f); for V->A (B, d_f, steps).

        Returns:
            The fused map X_o, in the shape of the guided map, and the attention, (B, S, H, W) or
            (B, steps): 0 or more, and on average 1 ("mean"), or with the sum 1 over the positions
            of each clip ("clip") or of each of its time slices ("slice").
        """
        # Eq. (7): one score per position, from both modalities. A vector is a map of one position,
        # so (B, 1, k) is added to (B, positions, k).
        guided = video if self.guided == "video" else audio
        joint = self.video_affine(_positions(video)) + self.audio_affine(_positions(audio))
        score = self.score(torch.tanh(joint))  # (B, positions, 1)
        score = score.view(-1, *guided.shape[2:])  # (B, S, H, W)
        over = score.flatten(2 if self.attention == "slice" and score.dim() > 2 else 1)
        attention = torch.softmax(over, dim=-1).view_as(score)
        if self.attention == "mean":
            attention = attention * over.shape[1]

        # Eq. (8): the map weighted by the attention, plus the map itself.
        fused = guided * attention[:, None]
        return (fused + guided if self.residual else fused), attention


def _positions(features: Tensor) -> Tensor:
    """(B, C, ...) -> (B, positions, C); a vector (B, C) has one position."""
    return features.reshape(*features.shape[:2], -1).transpose(1, 2)
