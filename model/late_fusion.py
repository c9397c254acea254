"""Late fusion: each modality is classified alone, then the two verdicts become one."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from model.unimodal import AudioNetwork, VideoNetwork

Rule = Callable[[Tensor, Tensor], Tensor]


class LateFusion(nn.Module):
    """Both unimodal networks and a rule without parameters; 25,916,080 parameters.

    Args:
        video, audio: the unimodal networks.
        rule: from the video's and the audio's logits (B, classes) to those of both.
    """

    def __init__(self, *, video: VideoNetwork, audio: AudioNetwork, rule: Rule):
        super().__init__()
        self.video = video
        self.audio = audio
        self.rule = rule

    def forward(self, frames: Tensor, mfcc: Tensor) -> Tensor:
        """Classify frames (B, 3, 30, 224, 224) and MFCCs (B, 13, 212) into logits (B, classes)."""
        # In float32, because a rule takes differences of nearly equal logarithms.
        return self.rule(self.video(frames, None).float(), self.audio(None, mfcc).float())


def averaging(video: Tensor, audio: Tensor) -> Tensor:
    """log((p_v + p_a) / 2): the mean of the two distributions.

    Differs from the paper, which does not say what is averaged: logits, or as here probabilities.
    """
    both = torch.stack([log_softmax(video, dim=1), log_softmax(audio, dim=1)])
    return torch.logsumexp(both, dim=0) - math.log(2)


def multiplication(video: Tensor, audio: Tensor) -> Tensor:
    """log(p_v p_a) up to a constant of each clip: the product of the two distributions."""
    return video + audio


def multiplicative(video: Tensor, audio: Tensor, beta: float = 0.3) -> Tensor:
    """q_v log p_v + q_a log p_a of each class, with q_v = (1 - p_a)^beta, q_a = (1 - p_v)^beta.

    A modality counts for less where the other is sure already. A clip is of the class with the
    highest sum, and the loss is that sum at the true class (`multiplicative_loss`), without a
    softmax. Source: Liu et al. 2018, Sec. 3.2; gradients do not pass through q, as in their code.

    Args:
        video, audio: logits, float32 (B, classes).
        beta: 0 gives each modality its own cross-entropy.
    """
    video, audio = log_softmax(video, dim=1), log_softmax(audio, dim=1)
    # 1 - p as -expm1(log p): p close to 1 keeps its digits.
    weigh_video = (-torch.expm1(audio.detach())).pow(beta)
    weigh_audio = (-torch.expm1(video.detach())).pow(beta)
    return weigh_video * video + weigh_audio * audio


def multiplicative_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Loss of each clip, (B,): of what `multiplicative` gave and target distributions (B, classes).

    Where a target is certain of a class, minus the sum at that class.
    """
    return -(targets * logits).sum(dim=1)
