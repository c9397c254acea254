"""The video encoder: 3D ResNeXt-50 (Sec. 2.2; Hara et al. 2018, Xie et al. 2017)."""

import torch
from torch import Tensor, nn

from cache.schema import FRAME_COUNT, FRAME_SIZE
from model.inputs import reduce

EXPANSION = 2


class Bottleneck(nn.Module):
    """1x1x1, grouped 3x3x3 and 1x1x1 convolutions around a shortcut.

    The grouped convolution has `width` channels in `cardinality` groups, and the stride in time,
    height and width; the output has `EXPANSION * width` channels.
    """

    def __init__(self, inputs: int, width: int, cardinality: int, stride: int):
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv3d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(
            width, width, 3, stride=stride, padding=1, groups=cardinality, bias=False
        )
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:  # shortcut type B
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm3d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNeXt3D(nn.Module):
    """Frames to a map of video features, Eq. (4): (B, 3, T, H, W) -> (B, C, S, H', W').

    With the defaults, 3D ResNeXt-50: (B, 3, 30, 224, 224) -> (B, 2048, 2, 7, 7), 25,865,664
    parameters, named as in the public 3D-ResNets code. It ends before pooling and classifier.
    Networks that fuse inside the encoder call `stem` and `layer1`..`layer4` themselves.

    Args:
        stem, widths: the numbers of channels of the 7x7x7 and of the grouped convolutions.
        blocks: the number of bottlenecks in layer1..layer4.
        cardinality: the number of groups of every 3x3x3 convolution.
        frames, size: what the network looks at; longer inputs are subsampled, larger ones averaged.
        stem_relu: whether a ReLU follows the stem's batch norm; the released CFN-SR lacks it by
            accident, so False is for comparison with its weights.
    """

    def __init__(
        self,
        *,
        stem: int = 64,
        widths: tuple[int, int, int, int] = (128, 256, 512, 1024),
        blocks: tuple[int, int, int, int] = (3, 4, 6, 3),
        cardinality: int = 32,
        frames: int = FRAME_COUNT,
        size: int = FRAME_SIZE,
        stem_relu: bool = True,
    ):
        super().__init__()
        self.frames = frames
        self.size = size
        self.conv1 = nn.Conv3d(3, stem, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(stem)
        self.relu = nn.ReLU(inplace=True) if stem_relu else nn.Identity()
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        inputs = stem
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
            first = Bottleneck(inputs, width, cardinality, stride=1 if number == 1 else 2)
            inputs = EXPANSION * width
            rest = [Bottleneck(inputs, width, cardinality, stride=1) for _ in range(count - 1)]
            setattr(self, f"layer{number}", nn.Sequential(first, *rest))
        self.stage_channels = tuple(EXPANSION * width for width in widths)
        self.channels = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def stem(self, frames: Tensor) -> Tensor:
        """Everything before layer1: (B, 3, 30, 224, 224) -> (B, 64, 15, 56, 56)."""
        x = reduce(frames, self.frames, self.size)
        x = self.relu(self.bn1(self.conv1(x)))
        if x.is_cuda and torch.are_deterministic_algorithms_enabled():
            return max_pool_in_order(x)
        return self.maxpool(x)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode normalized frames, float (B, 3, T, H, W), into (B, C, S, H', W')."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(frames)))))


def max_pool_in_order(x: Tensor) -> Tensor:
    """Max-pooling with kernel 3, stride 2 and padding 1, axis by axis: (B, C, T, H, W).

    The backward pass of CUDA's own kernel adds in no fixed order; that of `maximum` does. If
    several values of a window are the largest, they share its gradient.
    """
    for dim in (2, 3, 4):
        size = x.shape[dim]
        padding = [0, 0] * (4 - dim) + [1, 1]
        padded = nn.functional.pad(x, padding, value=-torch.inf).movedim(dim, 0)
        first, second, third = (padded[start : start + size : 2] for start in range(3))
        x = torch.maximum(torch.maximum(first, second), third).movedim(0, dim)
    return x


def pool(features: Tensor) -> Tensor:
    """Average over all positions of a map, (B, C, S, H, W) or (B, C, S, P) -> (B, C).

    A mean and not an average-pooling layer, whose backward pass has no fixed order on CUDA.
    """
    return torch.mean(features, dim=tuple(range(2, features.dim())))
