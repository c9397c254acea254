"""CPU seconds per clip of each stage of preprocessing, beside those of only decoding.

`python -m benchmarks.bench_features [--raw DIR] [--rounds N]` uses the clips in `--raw` (default:
the real ones in CFNSR_REAL_DATA, else a few synthetic ones). Every stage runs on every clip in
turn, in one process with one thread, so that the ratios hold when the machine's speed drifts.
Clips per second for 1 and 2 jobs are measured after a first round, without starting processes.

Memory is that of the whole command with two workers: the peak of everything that is resident, and
the part that belongs to one worker only, which is what one more takes.
"""

import argparse
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import av
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from benchmarks.clips import find_sources
from cache.command import positive, run
from cache.ravdess import is_sample
from preprocess.audio import mfcc
from preprocess.clip import compute
from preprocess.dataset import Source, origin
from preprocess.face import crop, crop_boxes, detect_faces
from preprocess.settings import Settings
from preprocess.windows import decode
from preprocess.workers import process, process_all


@lru_cache(maxsize=1)
def landmark_table() -> bytes:
    """A CSV as OpenFace writes for RAVDESS: 712 columns, a row for each of 100 frames."""
    names = ["frame", "timestamp", "confidence", *(f"gaze_{n}" for n in range(294))]
    names += [f"{axis}_{point}" for axis in "xy" for point in range(68)]
    names += [f"other_{n}" for n in range(712 - len(names))]
    values = ["0.98", *["0.123"] * 294, *["640.5"] * 34, *["480.5"] * 34]
    values += [*["200.5"] * 34, *["500.5"] * 34]
    values += ["0.123"] * (712 - 2 - len(values))
    rows = [",".join([str(frame), "0.033", *values]) for frame in range(1, 101)]
    return "\n".join([",".join(names), *rows]).encode()


def decode_only(content: bytes) -> int:
    """Decode picture and sound and use neither: the minimum. Returns the number of frames."""
    frames = 0
    with av.open(io.BytesIO(content)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.codec_context.thread_count = audio.codec_context.thread_count = 1
        for packet in container.demux(video, audio):
            frames += len(packet.decode())
    return frames


def stage_seconds(content: bytes, settings: Settings) -> dict[str, float]:
    """CPU seconds of only decoding, of each stage, and of all stages, for one clip."""
    seconds = {}

    def measure(name, stage, *args, **options):
        started = time.process_time()
        result = stage(*args, **options)
        seconds[name] = time.process_time() - started
        return result

    measure("decode_alone", decode_only, content)
    decoded = measure("decode_and_pick", decode, content)
    boxes, _, _ = measure("detect", detect_faces, decoded.frames, settings.crop)
    boxes = crop_boxes(boxes, decoded.frames[0].height, decoded.frames[0].width, settings.crop)
    measure("crop", crop, decoded.frames, boxes)
    measure("sound", mfcc, decoded.waveform)
    measure("total", compute, content, settings, synthetic=decoded.synthetic)
    by_landmarks = replace(settings, faces="landmarks")
    inputs = {"landmarks": landmark_table(), "synthetic": decoded.synthetic}
    measure("total_by_landmarks", compute, content, by_landmarks, **inputs)
    with_dlib = replace(settings, landmarks="dlib")
    measure("total_with_dlib", compute, content, with_dlib, synthetic=decoded.synthetic)
    without_pixels = replace(with_dlib, modality="landmarks")
    measure("landmarks_only", compute, content, without_pixels, synthetic=decoded.synthetic)
    return seconds


def clips_per_second(sources: list[Source], settings: Settings, jobs: int, synthetic: bool):
    """Wall-clock rate of the workers, after each has processed a clip."""
    with tempfile.TemporaryDirectory() as folder:
        task = partial(process, folder=Path(folder), settings=settings, synthetic=synthetic)
        results = process_all(sources, task, {}, jobs, None)
        for _ in range(jobs):
            next(results)
        started = time.perf_counter()
        rest = sum(1 for _ in results)
        return rest / (time.perf_counter() - started)


def memory_mb(raw: Path, jobs: int, *options: str) -> dict[str, float]:
    """Peaks of a run of the whole command: of its process and of its largest worker, in MB.

    Of a worker, all that is `resident`, and what is `private` to it, looked at every 20 ms.
    """
    peaks = {"parent_resident": 0, "worker_resident": 0, "worker_private": 0}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "preprocess", "--raw", raw, "--cache", f"{folder}/cache"]
        run = subprocess.Popen(
            [*command, "--jobs", str(jobs), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while run.poll() is None:
            for pid in _family(run.pid):
                resident, private = _resident_kb(pid)
                if pid == run.pid:
                    peaks["parent_resident"] = max(peaks["parent_resident"], resident)
                else:
                    peaks["worker_resident"] = max(peaks["worker_resident"], resident)
                    peaks["worker_private"] = max(peaks["worker_private"], private)
            time.sleep(0.02)
        if run.returncode:
            raise RuntimeError(f"{command} ended with status {run.returncode}")
    return {name: round(peak / 1024) for name, peak in peaks.items()}


def _family(pid: int) -> list[int]:
    """A process and those that it started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [pid, *map(int, found.stdout.split())]


def _resident_kb(pid: int) -> tuple[int, int]:
    """Peak of all that was resident, and what is private now; 0 if the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    peak = re.search(r"VmHWM:\s+(\d+)", status)
    private = re.search(r"Private_Dirty:\s+(\d+)", rollup)
    return (int(peak[1]), int(private[1])) if peak and private else (0, 0)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_features")
    parser.add_argument("--raw", type=Path, metavar="DIR", help="clips to measure with")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    return run(lambda: _bench(parser, args), extras="features")


def _bench(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    settings = Settings()
    with tempfile.TemporaryDirectory() as folder:
        raw, sources = find_sources(parser, args.raw, Path(folder) / "raw")
        rows = []
        with threadpool_limits(1):
            for round_number in range(args.rounds + 1):
                bar = tqdm(sources, f"round {round_number} of {args.rounds}", disable=None)
                measured = [stage_seconds(source.file.read(), settings) for source in bar]
                rows += measured if round_number else []  # the first round warms up
        synthetic = is_sample(origin(raw)["dataset"])
        rates = {jobs: clips_per_second(sources * 2, settings, jobs, synthetic) for jobs in (1, 2)}
        points = Path(folder) / "points"
        points.mkdir()
        for source in sources:
            (points / f"{source.clip.clip_id}.csv").write_bytes(landmark_table())
        by_landmarks = ("--faces", "landmarks", "--landmarks", str(points))
        memory = {"mtcnn": memory_mb(raw, 2), "landmarks": memory_mb(raw, 2, *by_landmarks)}
    median = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    ratios = sorted(row["total"] / row["decode_alone"] for row in rows)
    for name, seconds in median.items():
        print(f"{name:18} {seconds:.4f} s CPU per clip (median of {len(rows)})")
    print(f"total / decode_alone: {ratios[0]:.2f} .. {ratios[-1]:.2f}")

    def ratio(name: str) -> float:
        return statistics.median(row[name] / row["decode_alone"] for row in rows)

    result = {
        "clips": len(sources),
        "rounds": args.rounds,
        "decode_cpu_s": median["decode_alone"],
        "total_cpu_s": median["total"],
        "ratio": statistics.median(ratios),
        "ratio_by_landmarks": ratio("total_by_landmarks"),
        "ratio_with_dlib": ratio("total_with_dlib"),
        "ratio_landmarks_only": ratio("landmarks_only"),
        "stages_cpu_s": median,
        "clips_per_second_1_job": rates[1],
        "clips_per_second_2_jobs": rates[2],
        "memory_mb": memory,
        "torch": torch.__version__,
        "av": av.__version__,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
