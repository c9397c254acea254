"""How much accuracy is lost when facial points are found elsewhere: the shipped weights, disturbed.

Other programs put the 68 points elsewhere than dlib, whose points the weights were trained on;
OpenFace's differ by 1 to 8 pixels of a face of about 310. Two kinds of differences are tried, each
with a mean length of so many pixels: `offset` moves each point in the same way in every frame of
every clip, as another convention would; `jitter` moves each point in each frame by itself.

    python -m benchmarks.bench_points --cache data/landmark-cache
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cache.command import run
from cache.reader import Cache
from evaluate.shipped import BEST, files_of
from train.record import load_checkpoint

PIXELS = (0, 1, 2, 4, 8)
# The mean length of a two-dimensional normal deviate of standard deviation 1.
MEAN_LENGTH = (np.pi / 2) ** 0.5


def disturb(points: Tensor, kind: str, pixels: float, seed: int) -> Tensor:
    """Move landmarks, float (N, 30, 68, 2), by `pixels` on average, as `kind` says."""
    draw = torch.Generator().manual_seed(seed)
    shape = points.shape[2:] if kind == "offset" else points.shape
    return points + torch.randn(shape, generator=draw) * (pixels / MEAN_LENGTH)


def main(argv: list[str] | None = None) -> int:
    """Print one JSON object: the mean accuracy of the folds, by kind and pixels."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_points")
    parser.add_argument("--cache", type=Path, required=True, help="cache with landmarks")
    parser.add_argument("--model", default=BEST, help=f"shipped network (default: {BEST})")
    parser.add_argument("--seeds", type=int, default=3, help="disturbances averaged (default: 3)")
    args = parser.parse_args(argv)
    return run(lambda: _bench(Cache(args.cache), args.model, args.seeds), extras="weights")


def _bench(cache: Cache, model: str, seeds: int) -> None:
    torch.set_num_threads(1)
    found = {}
    for kind in ("offset", "jitter"):
        for pixels in tqdm(PIXELS, kind, disable=None):
            folds = [_accuracies(path, cache, kind, pixels, seeds) for path in files_of(model)]
            found[f"{kind}_{pixels}_px"] = round(float(np.mean(folds)), 4)
    print(json.dumps({"model": model, "seeds": seeds, **found}))


def _accuracies(path: Path, cache: Cache, kind: str, pixels: float, seeds: int) -> list[float]:
    """The accuracy of one fold on its test actors, with each seed."""
    checkpoint = load_checkpoint(path)
    trained, clips = checkpoint.network(), cache.of_actors(checkpoint.config.test_actors)
    labels = torch.tensor([clip.label for clip in clips])
    fields = {
        name: torch.from_numpy(np.stack([cache.read(clip.clip_id, name) for clip in clips]))
        for name in trained.fields
    }
    accuracies = []
    for seed in range(seeds if pixels else 1):
        moved = disturb(fields["landmarks"], kind, pixels, seed)
        predicted = trained.probabilities(fields | {"landmarks": moved}).argmax(dim=1)
        accuracies.append((predicted == labels).float().mean().item())
    return accuracies


if __name__ == "__main__":
    raise SystemExit(main())
