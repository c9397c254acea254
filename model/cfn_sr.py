"""CFN-SR: the cross-modal fusion network with self-attention and residual structure (Fig. 1)."""

import torch
from torch import Tensor, nn

from cache.schema import CLASS_COUNT
from model.attention import AudioSelfAttention
from model.cross_modal import CrossModalBlock
from model.mfcc_cnn import MfccCnn
from model.resnext3d import pool
from model.unimodal import VideoEncoder


class CfnSr(nn.Module):
    """Both encoders, the cross-modal block and the classifier of Eq. (9); 26,301,417 parameters.

    The rows of Table 2 are arguments: no cross-modal block (25,916,072 parameters), no
    self-attention (26,051,369), a block without its residual, or one that is guided by the video.

    Differs from the paper in V->A: its 25.67M parameters are fewer than the 25.89M of the two
    encoders, so they cannot be those of this network. Here only the direction changes: the mean of
    the video map weighs the steps of the self-attended audio map, with the 26,301,417 parameters
    of A->V.

    Args:
        video: the encoder of the frames.
        audio: the encoder of the MFCCs.
        self_attention: the self-attention over the audio map; None takes the map as it is.
        cross_modal: the block that fuses video and attended audio; None concatenates the maps.
    """

    def __init__(
        self,
        *,
        video: VideoEncoder,
        audio: MfccCnn,
        self_attention: AudioSelfAttention | None,
        cross_modal: CrossModalBlock | None,
    ):
        super().__init__()
        self.video = video
        self.audio = audio
        self.self_attention = self_attention
        self.cross_modal = cross_modal
        self.dropout = nn.Dropout(0.4)
        self.head = nn.Linear(video.channels + audio.num_features, CLASS_COUNT)

    def start_at_product(self, video: tuple[Tensor, Tensor], audio: tuple[Tensor, Tensor]) -> None:
        """Set the classifier to the sum of the logits of two unimodal classifiers.

        The sum is that of late fusion by multiplication, as long as the block attends evenly. Ours,
        not the paper's: a fusion that starts there need not learn again what each modality says.
        `video` and `audio` are weight (classes, features) and bias (classes,) of each.
        """
        gain = {"video": 1.0, "audio": 1.0}
        block = self.cross_modal
        if block is not None and block.attention == "mean":
            gain[block.guided] += block.residual  # even attention adds the map to itself
        with torch.no_grad():
            weights = [video[0] / gain["video"], audio[0] / gain["audio"]]
            self.head.weight.copy_(torch.cat(weights, dim=1))
            self.head.bias.copy_(video[1] + audio[1])

    def forward(self, frames: Tensor, mfcc: Tensor) -> Tensor:
        """Classify normalized frames (B, 3, 30, 224, 224) and MFCCs (B, 13, 212): (B, classes).

        In evaluation mode, each clip's logits depend on that clip only.
        """
        video = self.video(frames)  # (B, 2048, 2, 7, 7)
        audio = self.audio(mfcc)  # (B, 64, 26)

        # The last step of the self-attended sound guides the video (A->V), or the mean of the video
        # guides the sound (V->A).
        if self.cross_modal is not None:
            attended = audio if self.self_attention is None else self.self_attention(audio)
            if self.cross_modal.guided == "video":
                video, _ = self.cross_modal(video, attended[..., -1])
            else:
                audio, _ = self.cross_modal(pool(video), attended)

        # I = [X_o, X_A], Sec. 2.4: the fused modality, and the other one as it was encoded.
        joined = torch.cat([pool(video), self.dropout(self.audio.flatten(audio))], dim=1)
        return self.head(joined)
