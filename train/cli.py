"""`python train.py --cache DIR --fold K`: train one fold and write its run."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch

import model
from cache.files import locked
from cache.ravdess import SPLITS, Clip, actors_of
from cache.reader import Cache
from cache.shard import CacheError
from model.checkpoint import CheckpointError
from model.device import describe, pick_device, pick_precision
from model.weights import PARTS
from train.loop import TrainingError
from train.parallel import team_of
from train.recipe import add_arguments, from_arguments
from train.run import Stopped, train_fold
from train.run_files import check_folder, is_done, read_lines
from train.start import Start, is_unknown, read_start, way_to_train_again


def main(argv: list[str] | None = None) -> int:
    rank = int(os.environ.get("RANK", "0"))  # torchrun sets both
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    with redirect_stdout(sys.stdout if rank == 0 else None):  # one voice, whatever their number
        return _main(_parser().parse_args(argv), leads=rank == 0, processes=processes)


def _main(args: argparse.Namespace, *, leads: bool, processes: int) -> int:
    kind, held_out_for = ("validation", "validate") if args.validate else ("fold", "test")
    run = args.runs / args.model / f"{kind}_{args.fold}"
    try:
        if not 0 <= args.seed < 2**63:
            raise ValueError(f"--seed is {args.seed}, expected 0 or more, below 2**63")
        recipe = from_arguments(args)
        device = pick_device(args.device)
        if args.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
            torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = not args.deterministic
        parameters = _parameters(args.model, args.preset)
        if parameters < 1_000_000 and device.type == "cpu":
            # Too little arithmetic to share: threads would wait for each other, and for seconds
            # whenever another program holds a core.
            torch.set_num_threads(1)
        cache = Cache(args.cache)
        trained, held_out = actors_of(args.split, args.fold, validate=args.validate)
        train_clips, test_clips = clips_of(cache, trained, held_out)
        check_fields(cache, train_clips[0], args.model)
        starts = read_starts({"video": args.init_video, "audio": args.init_audio}, held_out)
        config = {
            "model": args.model,
            "parameters": parameters,
            "preset": args.preset,
            "split": args.split,
            "fold": args.fold,
            "recipe": args.recipe,
            **asdict(recipe),
            "precision": pick_precision(args.precision, device, args.preset, args.model),
            "deterministic": args.deterministic,
            "compiled": args.compile,
            "seed": args.seed,
            "validation": args.validate,
            "train_actors": list(trained),
            "test_actors": list(held_out),
            "train_clips": len(train_clips),
            "test_clips": len(test_clips),
            "init": {part: start.record for part, start in starts.items()},
            "cache": {
                key: cache.manifest[key]
                for key in ("dataset", "config", "fingerprint", "schema_version")
            },
            "device": describe(device) + (f" x {processes}" if processes > 1 else ""),
            "versions": {name: version(name) for name in ("torch", "numpy", "h5py")},
        }
        done_before = is_done(run)
        slow = args.preset == "paper" and "frames" in model.inputs(args.model)
        if slow and device.type == "cpu" and not done_before:
            print(
                "warning: the full-size network on a CPU needs a day or more a fold, and 15 GB of "
                "memory or more at batch size 16. Use a GPU, or --preset tiny",
                file=sys.stderr,
            )
        if not done_before and leads:
            for problem in cache.problems():
                if problem:
                    raise CacheError(problem)
            print(
                f"{args.model} with {config['parameters']:,} parameters on {describe(device)}: "
                f"{len(train_clips)} clips to train, {len(test_clips)} to {held_out_for}"
            )
        if done_before:  # without the lock: nothing is written, and another may hold it
            check_folder(run, config, args.resume)
            lines = read_lines(run)
        else:
            with (
                asked_to_stop() as stop,
                team_of(device) as team,
                _holding(run) if team.leads else nullcontext(),
            ):
                lines = train_fold(
                    run,
                    config,
                    cache,
                    train_clips,
                    test_clips,
                    recipe=recipe,
                    starts=starts,
                    device=device,
                    resume=args.resume,
                    team=team,
                    compiled=args.compile,
                    stop=stop,
                    save_every_s=args.save_every,
                )
    except (CacheError, CheckpointError, ValueError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    except Stopped as exc:
        print(f"{run}: {exc}", file=sys.stderr)
        return 1
    except (TrainingError, OSError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: go on with --resume", file=sys.stderr)
        return 1
    if done_before:
        print(f"{run}: {len(lines)} epochs are trained already, nothing to do")
    best = max(lines, key=lambda line: line["test_accuracy"])
    looked_at = "in validation" if args.validate else "on test"
    print(
        f"{run}: accuracy {lines[-1]['test_accuracy']:.1%} in the last epoch, {lines[-1]['epoch']} "
        f"(best {looked_at} {best['test_accuracy']:.1%} in epoch {best['epoch']})"
    )
    return 0


@contextmanager
def _holding(run: Path) -> Iterator[None]:
    """Hold the lock on a run's folder; one that was made for it and stays empty goes again."""
    with locked(run):
        try:
            yield
        finally:
            with suppress(OSError):  # it holds a run
                run.rmdir()


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM came, by which job schedulers announce the end; asked between two steps."""
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def clips_of(
    cache: Cache, trained: tuple[int, ...], held_out: tuple[int, ...]
) -> tuple[list[Clip], list[Clip]]:
    """The clips to train on and the clips to test, sorted.

    Raises:
        CacheError: if the cache has no clip of either part.
    """
    parts = []
    for what, actors in (("training", trained), ("test", held_out)):
        clips = cache.of_actors(actors)
        if not clips:
            raise CacheError(
                f"{cache.directory}: no clips of the {what} actors {', '.join(map(str, actors))} "
                "of this fold. Add them with `make features` or `python -m cache fetch`, or choose "
                "another --fold"
            )
        missing = sorted(set(actors) - {clip.actor for clip in clips})
        if missing:
            print(
                f"warning: {cache.directory} has no clips of {what} actors "
                f"{', '.join(map(str, missing))}: this is not the full fold",
                file=sys.stderr,
            )
        parts.append(clips)
    return parts[0], parts[1]


def check_fields(cache: Cache, clip: Clip, name: str) -> None:
    """Raise CacheError if the cache lacks what the network looks at."""
    missing = sorted(set(model.inputs(name)) - set(cache.fields(clip.clip_id)))
    if not missing:
        return
    there = set(cache.fields(clip.clip_id))
    could = [other for other in model.NAMES if set(model.inputs(other)) <= there]
    if missing == ["waveform"]:
        advice = "Build the cache with --waveform, as `make features` does"
    elif could:
        advice = f"Train --model {could[0]}, or take a cache that has them"
    else:
        advice = "Take a cache that has them"
    raise CacheError(
        f"{cache.directory}: holds no {', '.join(missing)}, which {name} looks at. {advice}"
    )


def read_starts(files: dict[str, Path | None], held_out: tuple[int, ...]) -> dict[str, Start]:
    """The weights that encoders start from, with a warning where their actors are not known."""
    starts = {}
    for part, path in files.items():
        if path is None:
            continue
        if not path.is_file():
            raise ValueError(
                f"--init-{part} is {path}, expected a file of weights{way_to_train_again(path)}"
            )
        starts[part] = read_start(path, part, held_out)
        if is_unknown(starts[part].record):
            print(
                f"warning: {path}: which actors its weights were trained on is not known. If "
                f"{', '.join(map(str, held_out))} were among them, the accuracy says nothing of "
                "new actors",
                file=sys.stderr,
            )
    return starts


def _parameters(name: str, preset: str) -> int:
    with torch.device("meta"):
        return model.count_parameters(model.build(name, preset))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train one fold from a cache; the result is the last epoch's accuracy.",
    )
    parser.add_argument(
        "--cache", type=Path, required=True, metavar="DIR", help="folder of shards and manifest"
    )
    parser.add_argument(
        "--fold", type=int, required=True, metavar="K", help="fold to hold out: 0..5, luna5: 0..4"
    )
    parser.add_argument(
        "--split", choices=SPLITS, default="paper", help="named list of folds (default: paper)"
    )
    parser.add_argument(
        "--model", choices=model.NAMES, default="cfn_sr", help="network (default: cfn_sr)"
    )
    parser.add_argument(
        "--preset", choices=model.PRESETS, default="paper", help="its size (default: paper)"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="results (default: runs)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of all randomness (default: 0)"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cuda", "cpu"),
        default="auto",
        help="auto takes a GPU when there is one (default: auto)",
    )
    for part in PARTS:
        parser.add_argument(
            f"--init-{part}",
            type=Path,
            metavar="FILE",
            help=f"start the {part} encoder from these weights: a public checkpoint, .safetensors, "
            "or last.pt of a unimodal run of the same fold",
        )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto: bfloat16 on a GPU and for the full-size network, else float32 (default: auto)",
    )
    parser.add_argument(
        "--validate",
        action="store_true",
        help="hold out four training actors in place of the test actors, to choose settings by: "
        "writes validation_K, which is no result",
    )
    parser.add_argument(
        "--save-every",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds between checkpoints, at the end of an epoch (default: 30)",
    )
    parser.add_argument("--compile", action="store_true", help="let torch.compile fuse the network")
    parser.add_argument(
        "--deterministic", action="store_true", help="the same bits again on a GPU too; slower"
    )
    add_arguments(parser)
    parser.add_argument("--resume", action="store_true", help="go on from last.pt if it is there")
    return parser
