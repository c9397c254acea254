"""CFN-SR: the cross-modal fusion network with self-attention and residual structure (Fig. 1)."""

import torch
from torch import Tensor, nn

from model.attention import AudioSelfAttention
from model.cross_modal import CrossModalBlock
from model.mfcc_cnn import MfccCnn
from model.resnext3d import ResNeXt3D, pool


class CfnSr(nn.Module):
    """Both encoders, the cross-modal block and the classifier of Eq. (9).

    Args:
        video: encoder of the frames.
        audio: encoder of the MFCCs.
        self_attention: from the audio map to one vector.
        cross_modal: fuses that vector with the video map.
        classes: number of emotions.
    """

    def __init__(
        self,
        *,
        video: ResNeXt3D,
        audio: MfccCnn,
        self_attention: AudioSelfAttention,
        cross_modal: CrossModalBlock,
        classes: int = 8,
    ):
        super().__init__()
        self.video = video
        self.audio = audio
        self.self_attention = self_attention
        self.cross_modal = cross_modal
        self.dropout = nn.Dropout(0.4)
        self.head = nn.Linear(video.channels + audio.channels * audio.STEPS, classes)

    def forward(self, frames: Tensor, mfcc: Tensor) -> Tensor:
        """Classify clips; each clip's logits depend on that clip alone (in evaluation mode).

        Args:
            frames: normalised RGB, float (B, 3, 30, 224, 224).
            mfcc: float (B, 13, 212).

        Returns:
            Logits, (B, classes).
        """
        video = self.video(frames)
        audio = self.audio(mfcc)
        fused, _ = self.cross_modal(video, self.self_attention(audio))
        # I = [X_o, X_A], Sec. 2.4: the fused video beside the audio as it was before attention.
        joined = torch.cat([pool(fused), self.dropout(audio.flatten(1))], dim=1)
        return self.head(joined)
