"""A trained network as one ONNX graph, and whether it gives the same results as torch."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from cache.command import FailedError
from cache.ravdess import Clip
from cache.reader import Cache
from cache.schema import FIELDS, FRAME_SIZE
from model.inference import TrainedNetwork, classify
from model.inputs import subsample

OUTPUTS = ("probabilities", "logits")
OPSET = 18  # what torch writes without conversion; onnxruntime reads it since 1.14
BATCHES = (1, 3)  # batch sizes: two, so that a batch size fixed in the graph is noticed
_RANGES = {"frames": (0, 256), "mfcc": (-80, 80), "waveform": (-8e3, 8e3), "landmarks": (0, 720)}
_MOST_BITS = 22  # of a weight's fraction, when torch resizes bytes


class Standalone(nn.Module):
    """A trained network, on the CPU, with the preparation of its inputs, in float32."""

    def __init__(self, trained: TrainedNetwork):
        super().__init__()
        self.net, self.fields, self.prepare = trained.net, trained.fields, trained.prepare
        size = self.prepare.size
        resize = None if size in (0, FRAME_SIZE) else resize_weights(FRAME_SIZE, size)
        self.register_buffer("resize", resize)

    def forward(self, *fields: Tensor) -> tuple[Tensor, Tensor]:
        """From the fields that the network looks at to probabilities and logits (B, 8)."""
        given = dict(zip(self.fields, fields, strict=True))
        if "frames" in given:
            frames = subsample(given["frames"], self.prepare.count, dim=1).float()
            if self.resize is not None:
                pictures = frames.movedim(4, 2)  # (B, T, H, W, 3) -> (B, T, 3, H, W)
                frames = resize_bytes(pictures, self.resize).movedim(2, 4)
            given["frames"] = frames
        logits = self.net(*self.prepare(given))
        return logits.softmax(dim=1), logits


def resize_weights(before: int, after: int) -> Tensor:
    """The weights of torch's bilinear resizing of bytes with antialiasing, float32 (after, before).

    They are triangles as wide as two new pixels, rounded so that the greatest has 16 bits.
    """
    scale = before / after
    weights = torch.zeros(after, before, dtype=torch.float64)
    for row in range(after):
        center = scale * (row + 0.5)
        first = max(int(center - scale + 0.5), 0)
        pixels = torch.arange(first, min(int(center + scale + 0.5), before), dtype=torch.float64)
        triangle = (1 - ((pixels - center + 0.5) / scale).abs()).clamp(min=0)
        weights[row, first : first + len(pixels)] = triangle / triangle.sum()
    greatest = weights.max().item()
    bits = 0
    while bits < _MOST_BITS and int(0.5 + greatest * 2 ** (bits + 1)) < 2**15:
        bits += 1
    return ((weights * 2**bits + 0.5).floor() / 2**bits).float()


def resize_bytes(pictures: Tensor, weights: Tensor) -> Tensor:
    """Resize whole numbers 0..255, float32 (..., H, H) to (..., S, S), as torch resizes bytes.

    This is exact in float32: bytes times weights (S, H) of 16 bits add up to less than 2^24 units.
    """
    rows = (pictures @ weights.T + 0.5).floor()  # (..., H, H) -> (..., H, S)
    return (weights @ rows + 0.5).floor().clamp(0, 255)  # (..., H, S) -> (..., S, S)


def write_graph(
    trained: TrainedNetwork, fields: dict[str, Tensor], path: Path, properties: Mapping[str, str]
) -> None:
    """Write an ONNX file for any number of clips; the same network gives the same bytes.

    The network is on the CPU, `fields` are those of two clips or more with any values, and
    `properties` the metadata. FailedError if torch cannot express the network in ONNX.
    """
    batch = torch.export.Dim("batch")
    try:
        with warnings.catch_warnings(action="ignore"), torch.no_grad():  # the exporter's own
            program = torch.onnx.export(
                Standalone(trained).eval(),
                tuple(fields.values()),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=trained.fields,
                output_names=OUTPUTS,
                dynamic_shapes={"fields": tuple({0: batch} for _ in fields)},
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as exc:
        reason = " ".join(f"{type(exc).__name__}: {exc}".split())
        raise FailedError(f"torch cannot write this network as ONNX ({reason:.200})") from exc

    # Drop what the exporter records of source files on this machine; describe the inputs.
    file = program.model_proto  # rebuilt on each access
    graph = file.graph
    for each in (*graph.node, *graph.input, *graph.output):
        each.ClearField("metadata_props")
        each.ClearField("doc_string")
    for each in graph.input:
        each.doc_string = FIELDS[each.name].meaning
    graph.ClearField("value_info")
    graph.ClearField("metadata_props")
    onnx.helper.set_model_props(file, dict(sorted(properties.items())))
    path.write_bytes(file.SerializeToString(deterministic=True))


def compare(file: Path, trained: TrainedNetwork, fields: dict[str, Tensor]) -> tuple[float, float]:
    """Run an ONNX file in onnxruntime, and its network on the CPU in torch, both in float32.

    Args:
        fields: the fields that the network uses, of sum(BATCHES) clips.

    Returns:
        The greatest absolute difference of probabilities, and the greatest difference of logits
        relative to the greatest logit of the clip, if that is above 1. NaN for NaN or Inf.
    """
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    differences = []
    for parts in zip(*(values.split(BATCHES) for values in fields.values()), strict=True):
        batch = dict(zip(fields, parts, strict=True))
        got = session.run(OUTPUTS, {name: values.numpy() for name, values in batch.items()})
        with torch.no_grad():
            logits = classify(trained.net, trained.prepare(batch), torch.float32)
        of_probabilities = (torch.from_numpy(got[0]) - logits.softmax(dim=1)).abs()
        of_logits = (torch.from_numpy(got[1]) - logits).abs()
        scale = logits.abs().amax(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
        differences.append(torch.stack([of_probabilities.max(), (of_logits / scale).max()]))
    probabilities, logits = torch.stack(differences).amax(dim=0).tolist()
    return probabilities, logits


def cached_fields(cache: Cache, clips: Sequence[Clip], names: Sequence[str]) -> dict[str, Tensor]:
    """Fields of sum(BATCHES) clips of a cache, spread evenly over `clips`; repeated, if too few."""
    positions = np.linspace(0, len(clips) - 1, sum(BATCHES)).astype(int)
    chosen = [clips[position].clip_id for position in positions]
    stack = {name: np.stack([cache.read(clip_id, name) for clip_id in chosen]) for name in names}
    return {name: torch.from_numpy(values) for name, values in stack.items()}


def random_fields(names: Sequence[str]) -> dict[str, Tensor]:
    """Noise in place of the fields of sum(BATCHES) clips, the same in every call."""
    random = np.random.default_rng(0)
    fields = {}
    for name in names:
        values = random.uniform(*_RANGES[name], (sum(BATCHES), *FIELDS[name].shape))
        fields[name] = torch.from_numpy(values.astype(FIELDS[name].dtype))
    return fields
