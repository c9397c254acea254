"""Seconds a clip of a prediction by the full-size network, and what they go to.

`python -m benchmarks.bench_predict [--raw DIR] [--rounds N] [--device cpu|cuda]` takes the clips of
`--raw` (default: the real ones in CFNSR_REAL_DATA, else it draws a few) and a network of random
weights, whose arithmetic is that of trained ones. It starts after start-up: one clip has gone
before. The picture is the PNG that `--out` asks for.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from tqdm import tqdm

import model
from benchmarks.clips import find_sources
from cache.command import positive
from evaluate.predict.picture import draw
from evaluate.predict.predictor import Prediction, Predictor, predict
from model.device import pick_device, pick_precision
from model.inference import TrainedNetwork
from preprocess.decode import open_video
from preprocess.settings import Settings
from preprocess.windows import plan, read_windows


def full_size(device: torch.device, name: str = "cfn_sr") -> Predictor:
    """The full-size network with random weights, as a run on this device would leave it."""
    torch.manual_seed(0)
    trained = TrainedNetwork.build(
        name,
        "paper",
        weights=model.build(name).state_dict(),
        statistics={},
        precision=pick_precision("auto", device, heavy=True),
        device=device,
    )
    return Predictor((trained,), Settings())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_predict")
    parser.add_argument("--raw", type=Path, metavar="DIR", help="clips to measure on")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args(argv)
    try:
        device = pick_device(args.device)
    except ValueError as exc:
        parser.error(str(exc))
    predictor = full_size(device)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        raw, sources = find_sources(parser, args.raw, Path(folder) / "raw")
        clips = [source.file.path for source in sources if source.file.member is None]
        if not clips:
            parser.error(f"{raw}: its clips lie in zips, expected files that can be opened")
        for path in tqdm([clips[0], *clips * args.rounds], unit="clip", disable=None):
            rows.append(seconds(predictor, path, Path(folder) / "picture.png"))
    rows = rows[1:]  # the first one started things up
    median = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    for name, value in median.items():
        print(f"{name:12} {value:.3f} s a clip (median of {len(rows)})")
    result = {
        "clips": len(clips),
        "rounds": args.rounds,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "precision": str(predictor.networks[0].precision).removeprefix("torch."),
        "seconds_per_clip": median["whole"],
        "slowest_s": max(row["whole"] for row in rows),
        "stages_s": median,
        "torch": torch.__version__,
    }
    print(json.dumps(result))
    return 0


def seconds(predictor: Predictor, path: Path, picture: Path) -> dict[str, float]:
    """Seconds of decoding one clip, of its prediction, and of both with the picture."""
    started = time.perf_counter()
    windows = plan(path)
    with open_video(path) as video:
        next(read_windows(video, windows))
    decoded = time.perf_counter()
    prediction = Prediction(list(predict(predictor, path, windows)))
    predicted = time.perf_counter()
    draw(path.name, prediction, picture)
    ended = time.perf_counter()
    return {
        "decoding": decoded - started,
        "prediction": predicted - decoded,
        "picture": ended - predicted,
        "whole": ended - decoded,
    }


if __name__ == "__main__":
    raise SystemExit(main())
