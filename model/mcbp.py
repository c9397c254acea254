"""Early fusion by multimodal compact bilinear pooling (MCBP; Fukui et al. 2016)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from cache.schema import CLASS_COUNT
from model.device import without_autocast
from model.mfcc_cnn import MfccCnn
from model.resnext3d import pool
from model.unimodal import VideoEncoder


class CompactBilinear(nn.Module):
    """The count sketch of the outer product of two vectors, without the outer product.

    A count sketch adds entry i, times a sign s(i), to bucket h(i). The sketch of an outer product
    is the circular convolution of the two sketches (Pham & Pagh 2013), which a Fourier transform
    turns into a product. Buckets and signs are drawn once and are not trained.

    `inputs` are the sizes of the two vectors, `outputs` is the number of buckets, d.
    """

    def __init__(self, *, inputs: tuple[int, int], outputs: int):
        super().__init__()
        self.outputs = outputs
        generator = torch.Generator().manual_seed(0)  # the same draws in every network
        for name, size in zip(("first", "second"), inputs, strict=True):
            buckets = torch.randint(outputs, (size,), generator=generator)
            signs = 2.0 * torch.randint(2, (size,), generator=generator) - 1
            self.register_buffer(f"{name}_buckets", buckets)
            self.register_buffer(f"{name}_signs", signs)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Sketch the outer products of (B, n) and (B, m), float32 (B, d)."""
        # There is no Fourier transform in bfloat16, and half precision would lose small products.
        with without_autocast(first.device):
            one = sketch(first.float(), self.first_buckets, self.first_signs, self.outputs)
            two = sketch(second.float(), self.second_buckets, self.second_signs, self.outputs)
            return torch.fft.irfft(torch.fft.rfft(one) * torch.fft.rfft(two), n=self.outputs)


def sketch(vector: Tensor, buckets: Tensor, signs: Tensor, outputs: int) -> Tensor:
    """Count sketch of (B, n) into (B, outputs); `buckets` int64 (n,), `signs` of 1 and -1 (n,)."""
    signed = vector * signs.to(vector)
    return vector.new_zeros(vector.shape[0], outputs).index_add(1, buckets, signed)


class Mcbp(nn.Module):
    """Both encoders, compact bilinear pooling, signed square root, L2 norm, classifier.

    26,014,376 parameters with d = 16,000, the size of the source. Differs from the paper's row:
    its 51.03M parameters leave 25.14M for the fusion, whose dimensions are not given.
    """

    def __init__(self, *, video: VideoEncoder, audio: MfccCnn, outputs: int = 16_000):
        super().__init__()
        self.video = video
        self.audio = audio
        self.dropout = nn.Dropout(0.4)
        sizes = (video.channels, audio.num_features)
        self.bilinear = CompactBilinear(inputs=sizes, outputs=outputs)
        self.head = nn.Linear(outputs, CLASS_COUNT)

    def forward(self, frames: Tensor, mfcc: Tensor) -> Tensor:
        """Classify frames (B, 3, 30, 224, 224) and MFCCs (B, 13, 212) into logits (B, classes)."""
        audio = self.dropout(self.audio.flatten(self.audio(mfcc)))  # (B, 64, 26) -> (B, 1664)
        joint = self.bilinear(pool(self.video(frames)), audio)  # (B, d)
        return self.head(normalize(signed_sqrt(joint)))


def signed_sqrt(x: Tensor, epsilon: float = 1e-8) -> Tensor:
    """sign(x) sqrt(|x|), with a slope that stays finite at 0."""
    return torch.sign(x) * (torch.sqrt(x.abs() + epsilon) - epsilon**0.5)
