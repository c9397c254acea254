"""A trained network as one ONNX graph, from the fields of a cache to probabilities."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cache.schema import FIELDS, FRAME_COUNT
from model import inputs
from model.checkpoint import Trained
from model.prepare import MEAN, STD, to_waveform

OUTPUTS = ("probabilities", "logits")
OPSET = 18  # what torch writes without converting; onnxruntime reads it since 1.14
_SIZE = FIELDS["frames"].shape[1]
_MOST_BITS = 22  # of a weight's fraction, in torch's resizing of bytes


class GraphError(RuntimeError):
    """A network cannot be written as an ONNX graph."""


class Standalone(nn.Module):
    """A trained network with everything that its inputs go through, in float32.

    Args:
        trained: on the CPU.

    Attributes:
        fields: names of the fields of the cache that `forward` takes, in its order.
    """

    def __init__(self, trained: Trained):
        super().__init__()
        self.fields = inputs(trained.config["model"])
        self.net = trained.net
        self.every = FRAME_COUNT // trained.frames
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1, 1) * 255)
        self.register_buffer("mfcc_mean", trained.prepare.mfcc_mean)
        self.register_buffer("mfcc_std", trained.prepare.mfcc_std)
        size = trained.prepare.size
        self.register_buffer("resize", None if size == _SIZE else resize_weights(_SIZE, size))

    def forward(self, *fields: Tensor) -> tuple[Tensor, Tensor]:
        """Classify clips as they lie in the cache.

        Args:
            fields: those of `fields`: frames uint8 RGB (B, 30, 224, 224, 3), mfcc float32
                (B, 13, 212), waveform int16 (B, 108045).

        Returns:
            Probabilities and logits, float32 (B, 8).
        """
        given = dict(zip(self.fields, fields, strict=True))
        frames = sound = None
        if "frames" in given:
            frames = given["frames"][:, :: self.every]
            frames = frames.permute(0, 4, 1, 2, 3).float()  # (B, T, H, W, 3) -> (B, 3, T, H, W)
            if self.resize is not None:
                frames = resize_bytes(frames, self.resize)
            frames = (frames - self.mean) / self.std
        if "mfcc" in given:
            sound = given["mfcc"]
            if self.mfcc_mean is not None:
                sound = (sound - self.mfcc_mean) / self.mfcc_std
        elif "waveform" in given:
            sound = to_waveform(given["waveform"])
        logits = self.net(frames, sound)
        return logits.softmax(dim=1), logits


def resize_weights(before: int, after: int) -> Tensor:
    """How much each of `before` pixels counts in each of `after`, float32 (after, before).

    Those of torch's bilinear resizing of bytes with antialiasing: triangles as wide as two new
    pixels, rounded to as many bits as leave the greatest weight within 16.
    """
    scale = before / after
    weights = torch.zeros(after, before, dtype=torch.float64)
    for row in range(after):
        centre = scale * (row + 0.5)
        first = max(int(centre - scale + 0.5), 0)
        pixels = torch.arange(first, min(int(centre + scale + 0.5), before), dtype=torch.float64)
        triangle = (1 - ((pixels - centre + 0.5) / scale).abs()).clamp(min=0)
        weights[row, first : first + len(pixels)] = triangle / triangle.sum()
    greatest = weights.max().item()
    bits = 0
    while bits < _MOST_BITS and int(0.5 + greatest * 2 ** (bits + 1)) < 2**15:
        bits += 1
    return ((weights * 2**bits + 0.5).floor() / 2**bits).float()


def resize_bytes(pictures: Tensor, weights: Tensor) -> Tensor:
    """Resize as torch resizes bytes on a CPU: rounded after the rows, and after the columns.

    In float32 this is exact: bytes times weights of 16 bits, summed, stay below 2^24 units.

    Args:
        pictures: float32 of whole numbers 0..255, (..., H, H).
        weights: (S, H), as from `resize_weights`.

    Returns:
        float32 of whole numbers 0..255, (..., S, S).
    """
    rows = (pictures @ weights.T + 0.5).floor()  # (..., H, H) -> (..., H, S)
    return (weights @ rows + 0.5).floor().clamp(0, 255)  # (..., H, S) -> (..., S, S)


def write_graph(standalone: Standalone, path: Path, properties: Mapping[str, str]) -> None:
    """Write an ONNX file with any number of clips in front of each input and output.

    The same network gives the same bytes; what the exporter notes of the machine's source files is
    left out.

    Args:
        standalone: in evaluation mode, on the CPU.
        path: to write to; one file, with the weights in it.
        properties: the file's metadata.

    Raises:
        GraphError: if torch cannot say the network in ONNX.
        OSError: if the file cannot be written.
    """
    import onnx  # not all who evaluate export

    examples = tuple(
        torch.zeros(2, *FIELDS[name].shape, dtype=getattr(torch, FIELDS[name].dtype.name))
        for name in standalone.fields
    )
    batch = torch.export.Dim("batch")
    try:
        with warnings.catch_warnings(action="ignore"), torch.no_grad():  # the exporter's own
            program = torch.onnx.export(
                standalone,
                examples,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=standalone.fields,
                output_names=OUTPUTS,
                dynamic_shapes={"fields": tuple({0: batch} for _ in examples)},
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as exc:
        reason = (str(exc) or type(exc).__name__).strip().splitlines()[0]
        raise GraphError(f"torch cannot write this network as ONNX ({reason:.200})") from exc
    file = program.model_proto
    for node in file.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*file.graph.input, *file.graph.output):
        value.ClearField("metadata_props")
    for value in file.graph.input:
        value.doc_string = FIELDS[value.name].meaning
    file.graph.ClearField("value_info")
    file.graph.ClearField("metadata_props")
    onnx.helper.set_model_props(file, dict(sorted(properties.items())))
    path.write_bytes(file.SerializeToString(deterministic=True))
