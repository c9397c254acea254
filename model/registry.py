"""Every network by name, in the sizes of its presets."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor, nn
from torch.nn import functional

from cache.schema import FRAME_COUNT, FRAME_SIZE
from model import late_fusion
from model.attention import AudioSelfAttention
from model.cfn_sr import CfnSr
from model.concat_fc import ConcatFc
from model.cross_modal import CrossModalBlock
from model.erann import Erann
from model.landmarks import LandmarkEncoder
from model.mcbp import Mcbp
from model.mfcc_cnn import MfccCnn
from model.mmtm import MmtmNetwork
from model.msaf import MsafNetwork
from model.resnext3d import ResNeXt3D
from model.unimodal import AudioNetwork, VideoNetwork


@dataclass(frozen=True)
class Preset:
    """Arguments of the modules; empty ones take the defaults, which are those of the paper.

    `looks_at` is the field that the encoder "video" encodes, "frames" or "landmarks".
    """

    video: dict
    looks_at: str = "frames"
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
    # Ours: 68 facial points of 30 frames in place of pixels, for a CPU.
    "landmarks": Preset(
        looks_at="landmarks",
        video={},
        audio={"channels": (48, 96), "parts": 4},
        self_attention={"channels": 96, "layers": 1, "feedforward": 128},
        cross_modal={"hidden": 32},
        concat_fc={"hidden": (64, 32)},
        mcbp={"outputs": 1_024},
        msaf={"blocks": (16, 32)},
    ),
}


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Loss of each clip, Eq. (10): logits and target distributions (B, classes) -> (B,)."""
    return functional.cross_entropy(logits, targets, reduction="none")


@dataclass(frozen=True)
class System:
    """How to make one network, and how it is trained."""

    make: Callable[[Preset], nn.Module]
    inputs: tuple[str, ...] = ("frames", "mfcc")  # the fields that it looks at
    # The loss of each clip, from logits and target distributions (B, 8) to (B,).
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy


def make_video(preset: Preset) -> ResNeXt3D | LandmarkEncoder:
    """The encoder of frames, or of landmarks, of a preset."""
    encoder = LandmarkEncoder if preset.looks_at == "landmarks" else ResNeXt3D
    return encoder(**preset.video)


def _encoders(preset: Preset) -> dict[str, nn.Module]:
    return {"video": make_video(preset), "audio": MfccCnn(**preset.audio)}


def _unimodal(preset: Preset) -> dict[str, nn.Module]:
    parts = _encoders(preset)
    video, audio = VideoNetwork(video=parts["video"]), AudioNetwork(audio=parts["audio"])
    return {"video": video, "audio": audio}


def _late(rule: late_fusion.Rule) -> Callable[[Preset], nn.Module]:
    return lambda preset: late_fusion.LateFusion(**_unimodal(preset), rule=rule)


def _cfn_sr(
    *, self_attention: bool = True, cross_modal: bool = True, **of_block
) -> Callable[[Preset], nn.Module]:
    """CFN-SR with or without its parts; `of_block` are arguments of the cross-modal block."""

    def make(preset: Preset) -> nn.Module:
        parts = _encoders(preset)
        attention = AudioSelfAttention(**preset.self_attention) if self_attention else None
        block = None
        if cross_modal:
            channels = {f"{part}_channels": net.channels for part, net in parts.items()}
            block = CrossModalBlock(**channels, **preset.cross_modal, **of_block)
        return CfnSr(**parts, self_attention=attention, cross_modal=block)

    return make


SYSTEMS = {
    "video_resnext50": System(lambda p: VideoNetwork(video=make_video(p)), inputs=("frames",)),
    "audio_mfcc_cnn": System(
        lambda preset: AudioNetwork(audio=MfccCnn(**preset.audio)), inputs=("mfcc",)
    ),
    "averaging": System(_late(late_fusion.averaging)),
    "multiplicative": System(
        _late(late_fusion.multiplicative), loss=late_fusion.multiplicative_loss
    ),
    "multiplication": System(_late(late_fusion.multiplication)),
    "concat_fc": System(lambda preset: ConcatFc(**_encoders(preset), **preset.concat_fc)),
    "mcbp": System(lambda preset: Mcbp(**_encoders(preset), **preset.mcbp)),
    "mmtm": System(lambda preset: MmtmNetwork(**_unimodal(preset))),
    "msaf": System(lambda preset: MsafNetwork(**_unimodal(preset), **preset.msaf)),
    "erann": System(lambda preset: Erann(**preset.erann), inputs=("waveform",)),
    "cfn_sr": System(_cfn_sr()),
    "cfn_sr_no_cross_modal": System(_cfn_sr(self_attention=False, cross_modal=False)),
    "cfn_sr_video_to_audio": System(_cfn_sr(guided="audio")),
    "cfn_sr_no_self_attention": System(_cfn_sr(self_attention=False)),
    "cfn_sr_no_residual": System(_cfn_sr(residual=False)),
}

NAMES = tuple(SYSTEMS)


def build(
    name: str, preset: str = "paper", *, stem_relu: bool = True, attention: str = "mean"
) -> nn.Module:
    """Make a network with fresh weights, drawn from torch's global generator.

    Args:
        name: one of `NAMES`.
        preset: "paper" for the published sizes, "tiny" for the demo and tests on a CPU,
            "landmarks" for facial landmarks in place of frames.
        stem_relu: whether a ReLU follows the video stem's batch norm; the released fusion networks
            lack it by accident, so False is for comparison with their weights.
        attention: the softmax of the cross-modal block, one of `cross_modal.ATTENTIONS`; "slice" is
            that of the released networks.

    Returns:
        A module with `net(frames, mfcc) -> logits`: frames float (B, 3, 30, 224, 224), mfcc float
        (B, 13, 212), logits (B, 8). Unimodal networks ignore one of the two; "erann" takes a
        waveform, float (B, 108045) in -1..1, instead of MFCCs, and with preset "landmarks" the
        first input is landmarks in pixels, float (B, 30, 68, 2) (see `inputs`).

    Raises:
        ValueError: for an unknown name, preset or attention, a network that the preset lacks, or
            `stem_relu=False` for a network without frames.
    """
    if name in NAMES and name not in names(preset):
        raise ValueError(f"model {name} has no preset {preset}. Use another --preset")
    sizes = _preset(preset)
    if not stem_relu and "frames" not in inputs(name, preset):
        raise ValueError(f"stem_relu is False, but {name} has no video encoder. Leave it out")
    video = sizes.video if stem_relu else sizes.video | {"stem_relu": False}
    cross_modal = sizes.cross_modal | {"attention": attention}
    return _system(name).make(replace(sizes, video=video, cross_modal=cross_modal))


def names(preset: str) -> tuple[str, ...]:
    """The networks that a preset has: those that look at waveforms have none for landmarks."""
    looks_at = _preset(preset).looks_at
    return tuple(n for n in NAMES if looks_at == "frames" or "waveform" not in SYSTEMS[n].inputs)


def _system(name: str) -> System:
    if name not in SYSTEMS:
        known = f"{', '.join(NAMES)}, or FILE.py:NAME"
        raise ValueError(f"model is {name!r}, expected one of {known}")
    return SYSTEMS[name]


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def inputs(name: str, preset: str = "paper") -> tuple[str, ...]:
    """The fields of the cache that network `name` looks at; the other input may be None."""
    looks_at = _preset(preset).looks_at
    return tuple(looks_at if field == "frames" else field for field in _system(name).inputs)


def loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of network `name`, from logits and target distributions (B, 8) to (B,)."""
    return _system(name).loss


def input_size(preset: str) -> tuple[int, int]:
    """The number of frames that the networks of a preset look at, and their side in pixels.

    Larger inputs are reduced by the network itself. The side is 0 where it looks at landmarks.
    """
    sizes = _preset(preset).video
    return sizes.get("frames", FRAME_COUNT), sizes.get("size", 0)


def count_parameters(net: nn.Module) -> int:
    """The number of trained parameters."""
    return sum(parameter.numel() for parameter in net.parameters())
