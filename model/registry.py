"""Every network by name, in the sizes of its presets."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional

from cache.schema import FRAME_COUNT, FRAME_SIZE
from model.attention import AudioSelfAttention
from model.cfn_sr import CfnSr
from model.concat_fc import ConcatFc
from model.cross_modal import CrossModalBlock
from model.erann import Erann
from model.late_fusion import (
    LateFusion,
    Rule,
    averaging,
    multiplication,
    multiplicative,
    multiplicative_loss,
)
from model.mcbp import Mcbp
from model.mfcc_cnn import MfccCnn
from model.mmtm import MmtmNetwork
from model.msaf import MsafNetwork
from model.resnext3d import ResNeXt3D
from model.unimodal import AudioNetwork, VideoNetwork


@dataclass(frozen=True)
class Preset:
    """Arguments of the modules; empty ones take the defaults, which are those of the paper."""

    video: dict
    audio: dict = field(default_factory=dict)
    self_attention: dict = field(default_factory=dict)
    cross_modal: dict = field(default_factory=dict)
    concat_fc: dict = field(default_factory=dict)
    mcbp: dict = field(default_factory=dict)
    msaf: dict = field(default_factory=dict)
    erann: dict = field(default_factory=dict)


PRESETS = {
    "paper": Preset(video={"frames": FRAME_COUNT, "size": FRAME_SIZE}),
    # The same modules for a CPU: fewer channels and layers, 10 frames of 56x56 pixels.
    "tiny": Preset(
        video={
            "stem": 16,
            "widths": (16, 24, 32, 48),
            "blocks": (1, 1, 1, 1),
            "cardinality": 4,
            "frames": 10,
            "size": 56,
        },
        audio={"channels": (32, 32)},
        self_attention={"channels": 32, "heads": 4, "layers": 2, "feedforward": 64},
        cross_modal={"hidden": 16},
        concat_fc={"hidden": (64, 32)},
        mcbp={"outputs": 1_024},
        msaf={"blocks": (8, 8)},
        erann={"width": 1, "blocks": 1, "bands": 64, "hop": 690},
    ),
}

_BOTH = ("frames", "mfcc")


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Loss of each clip, Eq. (10): logits and target distributions (B, classes) -> (B,)."""
    return functional.cross_entropy(logits, targets, reduction="none")


@dataclass(frozen=True)
class System:
    """How to make one network, and how it is trained.

    Attributes:
        make: makes the network from a preset and from `stem_relu` (see `build`).
        inputs: the fields of the cache that the network looks at.
        loss: the loss of each clip, from logits and target distributions (B, 8) to (B,).
    """

    make: Callable[[Preset, bool], nn.Module]
    inputs: tuple[str, ...] = _BOTH
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy


def _encoders(preset: Preset, stem_relu: bool) -> dict[str, nn.Module]:
    return {
        "video": ResNeXt3D(**preset.video, stem_relu=stem_relu),
        "audio": MfccCnn(**preset.audio),
    }


def _unimodal(preset: Preset, stem_relu: bool) -> dict[str, nn.Module]:
    parts = _encoders(preset, stem_relu)
    return {
        "video": VideoNetwork(video=parts["video"]),
        "audio": AudioNetwork(audio=parts["audio"]),
    }


def _late(rule: Rule) -> Callable[[Preset, bool], nn.Module]:
    return lambda preset, relu: LateFusion(**_unimodal(preset, relu), rule=rule)


def _cfn_sr(
    *, self_attention: bool = True, cross_modal: bool = True, **of_block
) -> Callable[[Preset, bool], nn.Module]:
    """CFN-SR with or without its parts; `of_block` are arguments of the cross-modal block."""

    def make(preset: Preset, stem_relu: bool) -> nn.Module:
        parts = _encoders(preset, stem_relu)
        attention = AudioSelfAttention(**preset.self_attention) if self_attention else None
        block = None
        if cross_modal:
            block = CrossModalBlock(
                video_channels=parts["video"].channels,
                audio_channels=parts["audio"].channels,
                **preset.cross_modal,
                **of_block,
            )
        return CfnSr(**parts, self_attention=attention, cross_modal=block)

    return make


SYSTEMS = {
    "video_resnext50": System(
        lambda preset, relu: VideoNetwork(video=ResNeXt3D(**preset.video, stem_relu=relu)),
        inputs=("frames",),
    ),
    "audio_mfcc_cnn": System(
        lambda preset, relu: AudioNetwork(audio=MfccCnn(**preset.audio)), inputs=("mfcc",)
    ),
    "averaging": System(_late(averaging)),
    "multiplicative": System(_late(multiplicative), loss=multiplicative_loss),
    "multiplication": System(_late(multiplication)),
    "concat_fc": System(
        lambda preset, relu: ConcatFc(**_encoders(preset, relu), **preset.concat_fc)
    ),
    "mcbp": System(lambda preset, relu: Mcbp(**_encoders(preset, relu), **preset.mcbp)),
    "mmtm": System(lambda preset, relu: MmtmNetwork(**_unimodal(preset, relu))),
    "msaf": System(lambda preset, relu: MsafNetwork(**_unimodal(preset, relu), **preset.msaf)),
    "erann": System(lambda preset, relu: Erann(**preset.erann), inputs=("waveform",)),
    "cfn_sr": System(_cfn_sr()),
    "cfn_sr_no_cross_modal": System(_cfn_sr(self_attention=False, cross_modal=False)),
    "cfn_sr_video_to_audio": System(_cfn_sr(guided="audio")),
    "cfn_sr_no_self_attention": System(_cfn_sr(self_attention=False)),
    "cfn_sr_no_residual": System(_cfn_sr(residual=False)),
}

NAMES = tuple(SYSTEMS)


def build(name: str, preset: str = "paper", *, stem_relu: bool = True) -> nn.Module:
    """Make a network with fresh weights, drawn from torch's global generator.

    Args:
        name: one of `NAMES`.
        preset: "paper" for the published sizes, "tiny" for the demo and tests on a CPU.
        stem_relu: whether a ReLU follows the video stem's batch norm; the released fusion networks
            lack it by accident, so False is for comparison with their weights.

    Returns:
        A module with `net(frames, mfcc) -> logits`: frames float (B, 3, 30, 224, 224), mfcc float
        (B, 13, 212), logits (B, 8). Unimodal networks ignore one of the two; "erann" takes a
        waveform, float (B, 108045) in -1..1, instead of MFCCs (see `inputs`).

    Raises:
        ValueError: for an unknown name or preset, or `stem_relu=False` for a network without
            frames.
    """
    system = _system(name)
    if not stem_relu and "frames" not in system.inputs:
        raise ValueError(f"stem_relu is False, but {name} has no video encoder. Leave it out")
    return system.make(_preset(preset), stem_relu)


def _system(name: str) -> System:
    if name not in SYSTEMS:
        raise ValueError(f"model is {name!r}, expected one of {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def inputs(name: str) -> tuple[str, ...]:
    """The fields of the cache that network `name` looks at; the other input may be None."""
    return _system(name).inputs


def loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of network `name`, from logits and target distributions (B, 8) to (B,)."""
    return _system(name).loss


def input_size(preset: str) -> tuple[int, int]:
    """The number of frames that the networks of a preset look at, and their side in pixels.

    Larger inputs are reduced by the network itself.
    """
    sizes = _preset(preset).video
    return sizes["frames"], sizes["size"]


def count_parameters(net: nn.Module) -> int:
    """The number of trained parameters."""
    return sum(parameter.numel() for parameter in net.parameters())
