"""Training clips per second, compared with a plain trainer and with training without loading.

`python -m benchmarks.bench_train [--device cuda|cpu] [--cache DIR] [--model NAME] [--batch-size N]
[--steps N] [--rounds N] [--compile]`. Three ways take turns on the same device, with the full-size
network, so that ratios hold when the machine's speed drifts:

- reference: float32, contiguous, a `DataLoader` whose workers crop, flip and normalize each frame
  on the CPU, plain Adam: what a straightforward script does;
- ours: clips streamed from their shards as in `train.py`, with its precision and layout;
- resident: the same step on one batch that is on the device already, so nothing is loaded.

The share of time lost to loading is 1 - ours / resident. All clips are in the page cache. The last
line is a JSON object. The default cache is noise, which trains as slowly as faces do.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

import model
from benchmarks.caches import open_cache
from cache.command import positive
from cache.ravdess import Clip
from cache.reader import Cache
from cache.schema import FRAME_COUNT
from model.__main__ import gflops, one_clip
from model.device import describe, pick_device
from model.inputs import MEAN, STD
from train.augment import Augmentation, draw_crops
from train.cli import make_config, make_parser
from train.stream import Batch, Clips, Streamed, readers
from train.trainer import Totals, Trainer


class PerFrame(Dataset):
    """Clips as a straightforward script reads them: each frame is cropped and normalized here."""

    def __init__(self, cache: Cache, clips: list[Clip]):
        self.cache = cache
        self.clips = clips
        self.crops = draw_crops(len(clips), torch.Generator().manual_seed(0)).tolist()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor, int]:
        clip = self.clips[position]
        frames = torch.from_numpy(self.cache.read(clip.clip_id, "frames"))
        mfcc = torch.from_numpy(self.cache.read(clip.clip_id, "mfcc"))
        done = [self._frame(frame, *self.crops[position]) for frame in frames]
        return torch.stack(done, dim=1), mfcc, clip.label

    def _frame(
        self, frame: Tensor, left: float, top: float, width: float, height: float, flip: float
    ) -> Tensor:
        """One frame, uint8 (224, 224, 3), as float (3, 224, 224)."""
        size = len(frame)
        x, y, w, h = (round(share * size) for share in (left, top, width, height))
        part = frame[y : y + h, x : x + w].permute(2, 0, 1)[None].float() / 255
        part = functional.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]
        part = part.flip(2) if flip else part
        return (part - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class Reference:
    """The plain trainer."""

    def __init__(self, name: str, cache: Cache, clips: list[Clip], batch: int, device):
        torch.manual_seed(0)
        self.net = model.build(name).to(device).train()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        workers = 0 if device.type == "cpu" else min(8, os.cpu_count() or 1)
        self.loader = DataLoader(
            PerFrame(cache, clips),
            batch_size=batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
        )
        self.device = device
        self.batches = self._forever()

    def _forever(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        while True:
            yield from self.loader

    def steps(self, count: int) -> None:
        for _ in range(count):
            frames, mfcc, labels = (x.to(self.device) for x in next(self.batches))
            loss = functional.cross_entropy(self.net(frames, mfcc), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


class Ours:
    """The steps of `train.py`, on batches that are handed in."""

    def __init__(
        self, args: argparse.Namespace, cache: Cache, clips: list[Clip], batch: int, device
    ):
        line = ["--cache", str(cache.directory), "--fold", "0", "--model", args.model]
        line += ["--batch-size", str(batch), *(["--compile"] if args.compile else [])]
        typed = make_parser().parse_args(line)
        typed.command = line
        config = make_config(typed, cache, clips, clips[:1], {}, device)
        self.precision = config.precision
        self.trainer = Trainer(config, cache, clips, clips[:1], device=device)
        self.trainer.call.train()
        self.augment = Augmentation(self.trainer.recipe, 0, 1, len(clips))

    def steps(self, batches: Iterator[Batch]) -> None:
        totals = Totals.zero(self.trainer.device)
        for step, batch in enumerate(batches):
            self.trainer.train_step(step, batch, self.augment, totals)
        totals.loss.item()  # waits for the device


def seconds(work: Callable[[], None], device: torch.device) -> float:
    """Wall-clock seconds of `work`, including everything that it started on the device."""
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def stream_and_copy(cache: Cache, name: str, device: torch.device) -> tuple[float, float]:
    """Clips per second that arrive on the device in shuffled batches of 16, without training.

    Returns:
        The rate, and the rate of numpy copying the same bytes from a few clips in memory.
    """
    clips = Clips(cache, cache.clips, model.inputs(name), FRAME_COUNT)
    shuffled = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0)).split(16)
    streamed = Streamed(clips, readers())
    in_memory = [cache.read(clip.clip_id, "frames") for clip in cache.clips[:32]]
    buffer = np.empty((16, *in_memory[0].shape), in_memory[0].dtype)

    def copy() -> None:
        for number in range(len(clips)):
            np.copyto(buffer[number % 16], in_memory[number % len(in_memory)])

    def stream() -> None:
        for _ in streamed.batches(shuffled, device):
            pass

    taken = [(seconds(stream, device), seconds(copy, device)) for _ in range(6)][1:]
    return tuple(len(clips) / statistics.median(each) for each in zip(*taken, strict=True))


def matrix_rate(device: torch.device, precision: str) -> float:
    """FLOP/s of the device in a product of two square matrices, best of ten."""
    size = 8192 if device.type == "cuda" else 2048
    one, two = (
        torch.randn(size, size, device=device).to(getattr(torch, precision)) for _ in range(2)
    )
    best = min(seconds(lambda: torch.mm(one, two), device) for _ in range(10))
    return 2 * size**3 / best


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_train")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="a finished cache with frames")
    seeing = [name for name in model.NAMES if "frames" in model.inputs(name)]
    parser.add_argument("--model", choices=seeing, default="cfn_sr")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="(default: GPU 16, CPU 2)")
    parser.add_argument("--steps", type=positive, metavar="N", help="(default: GPU 30, CPU 1)")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args(argv)
    try:
        device = pick_device(args.device)
    except ValueError as exc:
        parser.error(str(exc))
    batch = args.batch_size or (16 if device.type == "cuda" else 2)
    steps = args.steps or (30 if device.type == "cuda" else 1)
    torch.backends.cudnn.benchmark = True
    with tempfile.TemporaryDirectory() as folder:
        cache = open_cache(parser, args.cache, Path(folder))
        clips = (cache.clips * (1 + batch * steps // len(cache.clips)))[: batch * steps]
        own = Clips(cache, clips, model.inputs(args.model), FRAME_COUNT)
        streamed = Streamed(own, readers())
        order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0))
        reference = Reference(args.model, cache, clips, batch, device)
        ours = Ours(args, cache, clips, batch, device)
        in_memory = next(Streamed(own, 1).batches([order[:batch]], device))
        ways: dict[str, Callable[[], None]] = {
            "reference": lambda: reference.steps(steps),
            "ours": lambda: ours.steps(streamed.batches(order.split(batch), device)),
            "resident": lambda: ours.steps(in_memory for _ in range(steps)),
        }
        peaks = {}
        for name, way in tqdm(ways.items(), "warms up", disable=None):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            seconds(way, device)
            if device.type == "cuda":
                peaks[name] = torch.cuda.max_memory_allocated(device) / 1e9
        rounds = [
            {name: seconds(way, device) for name, way in ways.items()}
            for _ in tqdm(range(args.rounds), unit="round", disable=None)
        ]
        stream, copy = stream_and_copy(cache, args.model, device)
        with torch.device("meta"):
            forward = gflops(model.build(args.model), one_clip(args.model)) * 1e9
    rates = {n: len(clips) / statistics.median(r[n] for r in rounds) for n in ways}
    speedup = statistics.median(row["reference"] / row["ours"] for row in rounds)
    lost = statistics.median(1 - row["resident"] / row["ours"] for row in rounds)
    achieved = 3 * forward * rates["ours"]  # backward is twice forward
    peak = matrix_rate(device, ours.precision)
    for name in ways:
        memory = f", {peaks[name]:.1f} GB of GPU memory at its peak" if name in peaks else ""
        print(f"{name:10} {rates[name]:9.3f} clips/s{memory}")
    print(f"streaming only {stream:.0f} clips/s, {stream / copy:.2f} of a plain copy")
    print(f"speedup over the reference {speedup:.2f}, time lost to loading {lost:.1%}")
    print(f"{achieved / 1e12:.2f} TFLOP/s, {achieved / peak:.1%} of matrix products")
    result = {
        "clips_per_second": rates["ours"],
        "reference_clips_per_second": rates["reference"],
        "speedup": speedup,
        "loading_share": lost,
        "resident_clips_per_second": rates["resident"],
        "stream_clips_per_second": stream,
        "copy_clips_per_second": copy,
        "peak_host_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "flops_per_second": achieved,
        "matrix_flops_per_second": peak,
        "peak_memory_gb": peaks,
        "model": args.model,
        "batch_size": batch,
        "precision": ours.precision,
        "compiled": args.compile,
        "device": describe(device),
        "torch": torch.__version__,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
