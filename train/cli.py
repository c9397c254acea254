"""Train one fold from a cache; the result is the accuracy of the last epoch."""

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from importlib.metadata import version
from pathlib import Path

import torch

import model
from cache import manifest
from cache.command import FailedError, add_device, run, warn
from cache.files import LOCK_NAME, BusyError, locked
from cache.ravdess import ACTORS, SPLITS, Clip, actors_of, folds_of, own_split
from cache.reader import Cache
from cache.shard import CacheError
from model.cross_modal import ATTENTIONS
from model.device import describe, pick_device, pick_precision
from model.inference import PRECISIONS
from model.weights import PARTS
from train import record
from train.distributed import num_processes, world_of
from train.recipe import add_arguments, from_arguments
from train.start import Start, check_inputs, how_to_train_again, read_start
from train.trainer import Trainer

# Below this, threads would wait for each other more than they compute.
_SMALL_NETWORK = 1_000_000


def main(argv: list[str] | None = None) -> int:
    typed = sys.argv[1:] if argv is None else argv
    recorded = argparse.Namespace(command=("train.py", *typed))
    # Set by torchrun; only the main process prints.
    is_main = os.environ.get("RANK", "") in ("", "0")
    with nullcontext() if is_main else redirect_stdout(io.StringIO()):
        return run(lambda: train(make_parser().parse_args(typed, recorded)))


def train(args: argparse.Namespace) -> int:
    """Train one fold; a finished run is left as it is."""
    device = pick_device(args.device)
    args.split = read_split(args.split)
    args.model = model.named(args.model)
    cache = Cache(args.cache)
    train_clips, test_clips = clips_of_fold(cache, args)
    starts = read_starts(args)
    for part, start in starts.items():
        check_inputs(start, getattr(args, f"init_{part}"), part, cache, from_arguments(args))
    configure_torch(args, device)
    config = make_config(args, cache, train_clips, test_clips, starts, device)
    folder = args.runs / config.folder
    checkpoint = find_checkpoint(folder, config, resume=args.resume)
    if is_finished(folder):
        if (folder / LOCK_NAME).exists():  # left by a process that was killed just before its end
            with suppress(BusyError, OSError), locked(folder):
                pass
        metrics = record.read_metrics(folder)
        print(f"{folder}: all {len(metrics)} epochs are trained already, nothing to do")
    else:
        print(
            f"{config.model}, {config.parameters:,} parameters, on {config.device}: "
            f"{config.train_clips} training clips, {config.test_clips} held-out clips"
        )
        with (
            _sigterm_interrupts(),
            world_of(device) as world,
            _exclusive(folder) if world.is_main else nullcontext(),
        ):
            shared = {"device": device, "world": world, "starts": starts}
            trainer = Trainer(config, cache, train_clips, test_clips, **shared)
            if checkpoint:
                state = record.load_checkpoint(checkpoint, device)
                trainer.restore(state, record.read_metrics(folder))
            world.barrier()  # every process has read what is there
            try:
                metrics = trainer.fit(folder)
            except KeyboardInterrupt as exc:
                if not trainer.epoch:
                    raise FailedError(f"{folder}: interrupted in epoch 1: nothing saved") from exc
                raise FailedError(
                    f"{folder}: interrupted after epoch {trainer.epoch}. Finished epochs are "
                    "saved; resume with --resume"
                ) from exc
    last, best = metrics[-1], max(metrics, key=lambda each: each.test_accuracy)
    where = "in validation" if config.validation else "on test"
    print(
        f"{folder}: accuracy {last.test_accuracy:.1%} in the last epoch, {last.epoch} "
        f"(best {where} {best.test_accuracy:.1%} in epoch {best.epoch})"
    )
    return 0


def read_split(given: str) -> str:
    """The split of `--split`: its name, or the lists of a file; ValueError if they are wrong."""
    if not given.endswith(".json"):
        return given
    try:
        return own_split(json.loads(Path(given).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as exc:
        raise ValueError(f"--split {given}: {exc}") from exc


def make_config(
    args: argparse.Namespace,
    cache: Cache,
    train_clips: list[Clip],
    test_clips: list[Clip],
    starts: dict[str, Start],
    device: torch.device,
) -> record.RunConfig:
    """The settings of the run that `args` ask for; ValueError if one is out of range."""
    if not 0 <= args.seed < 2**63:
        raise ValueError(f"--seed is {args.seed}, expected 0 or more, below 2**63")
    settings = from_arguments(args)
    processes = num_processes()
    as_typed = ("model", "preset", "attention", "split", "fold", "recipe", "seed", "deterministic")
    return record.RunConfig(
        **{name: getattr(args, name) for name in as_typed},
        parameters=count_parameters(args),
        validation=args.validate,
        train_actors=tuple(sorted({clip.actor for clip in train_clips})),
        test_actors=tuple(sorted({clip.actor for clip in test_clips})),
        train_clips=len(train_clips),
        test_clips=len(test_clips),
        settings=settings,
        precision=pick_precision(args.precision, device, heavy=is_heavy(args.model, args.preset)),
        compiled=args.compile,
        init={part: start.record for part, start in starts.items()},
        cache={
            **{name: cache.manifest[name] for name in ("dataset", "config", "fingerprint")},
            "schema_version": cache.manifest["schema_version"],
            "contents": manifest.contents(cache.manifest),
        },
        # The names of files may contain bytes that are not text.
        command=tuple(word.encode("utf-8", "backslashreplace").decode() for word in args.command),
        device=describe(device) + (f" x {processes}" if processes > 1 else ""),
        versions={
            "cfn-sr": program_version(),
            **{name: version(name) for name in ("torch", "numpy", "h5py")},
        },
        source=model.source_of(args.model),
    )


def program_version() -> str:
    """The version of this program, which runs from its checkout, as its setup.cfg says."""
    settings = ConfigParser(interpolation=None)
    settings.read(Path(__file__).parent.parent / "setup.cfg", encoding="utf-8")
    return settings["metadata"]["version"]


def is_heavy(name: str, preset: str) -> bool:
    """Whether a network is the full-size one of the paper, over frames."""
    return preset == "paper" and "frames" in model.inputs(name, preset)


def count_parameters(args: argparse.Namespace) -> int:
    """The number of parameters of the network that `args` ask for."""
    # The code of others may compute with values, which tensors on "meta" do not have.
    with torch.device("meta" if args.model in model.NAMES else "cpu"):
        return model.count_parameters(model.build(args.model, args.preset))


def configure_torch(args: argparse.Namespace, device: torch.device) -> None:
    """Set what torch keeps per process: determinism, kernel search, threads."""
    if args.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not args.deterministic
    if device.type == "cuda":
        return
    if count_parameters(args) < _SMALL_NETWORK:
        torch.set_num_threads(1)
    elif is_heavy(args.model, args.preset):
        warn(
            "the full-size network takes a day or more per fold on a CPU, and 12 to 24 GB of "
            "memory at batch size 16. Use a GPU, or --preset tiny"
        )


def find_checkpoint(folder: Path, config: record.RunConfig, *, resume: bool) -> Path | None:
    """The checkpoint to resume from; None for a new run.

    RunError if `folder` contains another run, a damaged one, or an unfinished one without `resume`.
    """
    checkpoint = folder / record.CHECKPOINT
    if not checkpoint.is_file():
        if (folder / record.PREDICTIONS).is_file():
            raise record.RunError(
                f"{folder}: {record.CHECKPOINT} is missing beside {record.PREDICTIONS}. Put it "
                "back, or remove that folder to train it again"
            )
        return None
    if not (folder / record.CONFIG).is_file():
        raise record.RunError(
            f"{folder}: {record.CONFIG} is missing. Remove that folder to train it again"
        )
    differences = record.read_config(folder).differences(config)
    if differences:
        raise record.RunError(
            f"{folder}: contains a run with other settings (recorded and current: "
            f"{'; '.join(differences)}). Choose another --runs, or remove that folder"
        )
    if not resume and not is_finished(folder):
        raise record.RunError(
            f"{folder}: contains an unfinished run. Resume with --resume, or remove that folder"
        )
    return checkpoint


def is_finished(folder: Path) -> bool:
    """Whether the run has ended; predictions.csv is the last file that is written."""
    files = (record.CONFIG, record.METRICS, record.CHECKPOINT, record.PREDICTIONS)
    return all((folder / name).is_file() for name in files)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder; remove it if it is still empty at the end."""
    try:
        with locked(folder):
            yield
    finally:
        with suppress(OSError):  # the folder contains a run
            folder.rmdir()


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM, which job schedulers send before the end, interrupt like Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def clips_of_fold(cache: Cache, args: argparse.Namespace) -> tuple[list[Clip], list[Clip]]:
    """The training clips and the held-out clips, sorted.

    CacheError if the cache has no clips of either part, lacks a field that the network looks at, or
    one of its shards is not as the manifest says.
    """
    parts = []
    actors = actors_of(args.split, args.fold, validate=args.validate)
    for what, own in zip(("training", "held-out"), actors, strict=True):
        clips = cache.of_actors(own)
        if not clips:
            raise CacheError(
                f"{cache.directory}: no clips of the {what} actors {sorted(own)} of this fold. "
                "Add them with `make features` or `python -m cache fetch`, or choose another --fold"
            )
        missing = sorted(set(own) - {clip.actor for clip in clips})
        if missing:
            warn(f"{cache.directory} has no clips of {what} actors {missing}: not the full fold")
        parts.append(clips)
    counts, processes = tuple(map(len, parts)), num_processes()
    if counts[0] < 2 or counts[1] < processes:
        raise CacheError(
            f"{cache.directory}: {counts[0]} training and {counts[1]} held-out clips in this fold "
            f"for {processes} processes, expected at least 2 for training and one held-out clip "
            "per process"
        )
    check_fields(cache, parts[0][0], args.model, args.preset)
    cache.check({clip.actor for part in parts for clip in part})
    return parts[0], parts[1]


def check_fields(cache: Cache, clip: Clip, name: str, preset: str) -> None:
    """Raise CacheError if the cache lacks a field that a network looks at."""
    held = set(cache.fields(clip.clip_id))
    missing = sorted(set(model.inputs(name, preset)) - held)
    if not missing:
        return
    possible = [n for n in model.names(preset) if set(model.inputs(n, preset)) <= held]
    advice = f"Train --model {possible[0]}" if possible else "Use another cache"
    if missing == ["waveform"]:
        advice = "Build the cache with --waveform, as `make features` does"
    elif missing == ["frames"] and "landmarks" in held:
        advice = "Train with --preset landmarks"
    elif missing == ["landmarks"] and "frames" in held:
        advice = "Train with --preset paper or tiny, or build a cache with --landmarks"
    lacking = ", ".join(missing)
    raise CacheError(f"{cache.directory}: has no {lacking}, which {name} requires. {advice}")


def read_starts(args: argparse.Namespace) -> dict[str, Start]:
    """The weights that encoders start from, with a warning where their actors are unknown.

    ValueError if a file does not exist, cannot be used, or has seen actors that this run is not
    trained on: those held out, and with --validate the test actors of the fold too.
    """
    trained, _ = actors_of(args.split, args.fold, validate=args.validate)
    held_out = tuple(actor for actor in ACTORS if actor not in trained)
    starts = {}
    for part in PARTS:
        path = getattr(args, f"init_{part}")
        if path is None:
            continue
        if not path.is_file():
            advice = how_to_train_again(path)
            raise ValueError(f"--init-{part} is {path}, expected a file of weights{advice}")
        starts[part] = read_start(path, part, held_out)
        if record.is_unknown(starts[part].record):
            warn(
                f"{path}: the actors that its weights were trained on are unknown. If "
                f"{list(held_out)} are among them, the accuracy says nothing about new actors"
            )
    return starts


def _named_in_text(name: str) -> Path:
    """A folder whose name TensorBoard can write."""
    if "\\udc" in ascii(name):
        problem = f"{name!a}, expected a name in UTF-8. If it is, set LC_ALL=C.UTF-8"
        raise argparse.ArgumentTypeError(problem)
    return Path(name)


def make_parser() -> argparse.ArgumentParser:
    """The arguments of train.py."""
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__)
    add = parser.add_argument
    add("--cache", type=Path, required=True, metavar="DIR", help="cache folder")
    folds = ", ".join(f"{name} 0..{len(folds_of(name)) - 1}" for name in SPLITS)
    add("--fold", type=int, required=True, metavar="K", help=f"fold to hold out: {folds}")
    own = "fold definition, or a JSON file with the test actors of each fold, [[1, 2], [3, 4]]"
    add("--split", default="paper", metavar="NAME", help=f"{own} (default: paper)")
    name = "network: a name of `python -m model --list`, or FILE.py:NAME (default: cfn_sr)"
    add("--model", default="cfn_sr", metavar="NAME", help=name)
    add("--preset", choices=model.PRESETS, default="paper", help="network size (default: paper)")
    attention = "softmax of the cross-modal block, Eq. (8) (default: mean)"
    add("--attention", choices=ATTENTIONS, default="mean", help=attention)
    runs = "output folder (default: runs)"
    add("--runs", type=_named_in_text, default=Path("runs"), metavar="DIR", help=runs)
    add("--seed", type=int, default=0, metavar="S", help="random seed (default: 0)")
    add_device(parser)
    weights = "a public checkpoint, .safetensors, or last.pt of a unimodal run of the same fold"
    for part in PARTS:
        start = f"start the {part} encoder from these weights: {weights}"
        add(f"--init-{part}", type=Path, metavar="FILE", help=start)
    auto = "auto: bfloat16 where it is fast, on a GPU or for full-size networks (default: auto)"
    add("--precision", choices=("auto", *PRECISIONS), default="auto", help=auto)
    validate = "hold out validation actors instead of the test actors, to choose settings; writes "
    add("--validate", action="store_true", help=f"{validate}validation_K, which is not a result")
    add("--compile", action="store_true", help="compile the network with torch.compile")
    add("--deterministic", action="store_true", help="deterministic operations on a GPU (slower)")
    add_arguments(parser)
    add("--resume", action="store_true", help="resume from last.pt if it exists")
    return parser
