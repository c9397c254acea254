"""Late fusion: each modality is classified separately, then a rule combines the logits."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from model.unimodal import AudioNetwork, VideoNetwork

Rule = Callable[[Tensor, Tensor], Tensor]


class LateFusion(nn.Module):
    """Both unimodal networks and a rule, without parameters, for their logits, (B, classes) each.

    25,916,080 parameters.
    """

    def __init__(self, *, video: VideoNetwork, audio: AudioNetwork, rule: Rule):
        super().__init__()
        self.video = video
        self.audio = audio
        self.rule = rule

    def forward(self, frames: Tensor, mfcc: Tensor) -> Tensor:
        """Classify frames (B, 3, 30, 224, 224) and MFCCs (B, 13, 212) into logits (B, classes)."""
        # In float32, since rules take differences of nearly equal logarithms.
        return self.rule(self.video(frames, None).float(), self.audio(None, mfcc).float())


def averaging(video: Tensor, audio: Tensor) -> Tensor:
    """log((p_v + p_a) / 2): the mean of the two distributions.

    Differs from the paper, which does not say what is averaged: logits, or as here probabilities.
    """
    both = torch.stack([log_softmax(video, dim=1), log_softmax(audio, dim=1)])
    return torch.logsumexp(both, dim=0) - math.log(2)


def multiplication(video: Tensor, audio: Tensor) -> Tensor:
    """log(p_v p_a) up to a constant per clip: the product of the two distributions."""
    return video + audio


def multiplicative(video: Tensor, audio: Tensor, beta: float = 0.3) -> Tensor:
    """q_v log p_v + q_a log p_a per class, with q_v = (1 - p_a)^beta, q_a = (1 - p_v)^beta.

    A modality has less weight where the other is already confident. The predicted class has the
    highest sum, and the loss is minus the sum at the true class (`multiplicative_loss`), without
    softmax. With beta 0 it is the sum of both cross-entropies. Logits are float32 (B, classes).
    Source: Liu et al. 2018, Sec. 3.2; gradients do not pass through q, as in their code.
    """
    video, audio = log_softmax(video, dim=1), log_softmax(audio, dim=1)
    # 1 - p as -expm1(log p): p close to 1 keeps its digits.
    weigh_video = (-torch.expm1(audio.detach())).pow(beta)
    weigh_audio = (-torch.expm1(video.detach())).pow(beta)
    return weigh_video * video + weigh_audio * audio


def multiplicative_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Loss of each clip, (B,), from the result of `multiplicative` and targets (B, classes).

    For a one-hot target, minus the result at the true class.
    """
    return -(targets * logits).sum(dim=1)
