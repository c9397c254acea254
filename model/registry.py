"""Every network by name, in the sizes of its presets."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from model.attention import AudioSelfAttention
from model.cfn_sr import CfnSr
from model.cross_modal import CrossModalBlock
from model.mfcc_cnn import MfccCnn
from model.resnext3d import ResNeXt3D
from model.unimodal import AudioNetwork, VideoNetwork


@dataclass(frozen=True)
class Preset:
    """Arguments of the modules; "paper" is the defaults of each."""

    video: dict
    audio: dict
    self_attention: dict
    hidden: int


PRESETS = {
    "paper": Preset(video={"frames": 30, "size": 224}, audio={}, self_attention={}, hidden=64),
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
        hidden=16,
    ),
}


@dataclass(frozen=True)
class System:
    """One row of the paper's tables.

    `inputs` are the fields of the cache that the network looks at, of `frames` and `mfcc`.
    `paper_parameters` (millions) and `paper_accuracy` (percent) are the paper's figures; its
    accuracies are those of the best epoch on the test fold.
    """

    make: Callable[[Preset], nn.Module]
    inputs: tuple[str, ...]
    stage: str
    paper_parameters: str
    paper_accuracy: float


def _video(preset: Preset) -> nn.Module:
    return VideoNetwork(video=ResNeXt3D(**preset.video))


def _audio(preset: Preset) -> nn.Module:
    return AudioNetwork(audio=MfccCnn(**preset.audio))


def _cfn_sr(preset: Preset) -> nn.Module:
    video = ResNeXt3D(**preset.video)
    audio = MfccCnn(**preset.audio)
    return CfnSr(
        video=video,
        audio=audio,
        self_attention=AudioSelfAttention(**preset.self_attention),
        cross_modal=CrossModalBlock(
            video_channels=video.channels, audio_channels=audio.channels, hidden=preset.hidden
        ),
    )


SYSTEMS = {
    "video_resnext50": System(_video, ("frames",), "-", "25.88M", 62.99),
    "audio_mfcc_cnn": System(_audio, ("mfcc",), "-", "0.03M", 56.53),
    "cfn_sr": System(_cfn_sr, ("frames", "mfcc"), "Model", "26.30M", 75.76),
}

NAMES = tuple(SYSTEMS)


def build(name: str, preset: str = "paper") -> nn.Module:
    """Make a network with fresh weights, drawn from torch's global generator.

    Args:
        name: one of `NAMES`.
        preset: "paper" for the published sizes, "tiny" for the demo and tests on a CPU.

    Returns:
        A module with `net(frames, mfcc) -> logits`: frames float (B, 3, 30, 224, 224), mfcc float
        (B, 13, 212), logits (B, 8).

    Raises:
        ValueError: for a name or preset that does not exist.
    """
    if name not in SYSTEMS:
        raise ValueError(f"model is {name!r}, expected one of {', '.join(SYSTEMS)}")
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
    return SYSTEMS[name].make(PRESETS[preset])


def inputs(name: str) -> tuple[str, ...]:
    """Which fields of the cache network `name` looks at; the others may be passed as None."""
    return SYSTEMS[name].inputs


def input_size(preset: str) -> tuple[int, int]:
    """How many frames, of how many pixels a side, the networks of a preset look at.

    A trainer may hand over frames of just that size; larger ones are reduced by the network.
    """
    sizes = PRESETS[preset].video
    return sizes["frames"], sizes["size"]


def count_parameters(net: nn.Module) -> int:
    """How many numbers training changes."""
    return sum(parameter.numel() for parameter in net.parameters())
