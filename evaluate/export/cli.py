"""The command line of exports: an ONNX file or published weights, and their card."""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cache.command import FailedError, run, warn
from cache.files import atomic_path, sha256_file, write_text
from cache.reader import Cache
from evaluate.export.model_card import card, properties, weights_card
from evaluate.runs import add_code, check_same_run, load_result, tested_clips
from train.record import SOURCE, Checkpoint, Run, RunError, read_run, save_published

# What the folds of one card have in common.
_COMMON = ("model", "preset", "attention", "split", "recipe", "settings", "seed", "source")
TOLERANCE = 1e-4  # of probabilities, and of logits relative to the greatest


def main(argv: Sequence[str] | None = None) -> int:
    """Write an ONNX file, checked against torch, or weights, and their card; returns the status."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate.export",
        description="Write a trained network as an ONNX file that runs without this project, "
        "checked against torch, or the weights of its folds as .safetensors; with a model card.",
    )
    add = parser.add_argument
    several = "last.pt of a finished run; with --safetensors, of several folds of a network"
    add("--checkpoint", metavar="FILE", type=Path, nargs="+", required=True, help=several)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--out", metavar="FILE", type=Path, help="the file, ending in .onnx")
    weights = "write weights with their card: a file that ends in .safetensors, or a folder"
    kind.add_argument("--safetensors", metavar="OUT", type=Path, help=weights)
    points = "with --safetensors: who found the facial points of the cache, for the card"
    add("--points", metavar="TEXT", help=points)
    half = "with --safetensors: store weights as 16-bit floats, in half the bytes"
    add("--half", action="store_true", help=half)
    help_cache = "training cache: check on its test clips instead of random inputs"
    add("--cache", metavar="DIR", type=Path, help=help_cache)
    add_code(parser)
    args = parser.parse_args(argv)
    if args.safetensors:
        return run(lambda: _publish(args, args.safetensors), extras="report,weights")
    if len(args.checkpoint) > 1:
        parser.error("--out takes one --checkpoint")
    return run(lambda: _export(args, args.checkpoint[0], args.out), extras="export,report")


def _export(args: argparse.Namespace, path: Path, out: Path) -> int:
    from evaluate.export.graph import BATCHES, cached_fields, compare, random_fields, write_graph

    # Check everything before any work.
    _check_out(out)
    checkpoint = load_result(path)
    trained, config = checkpoint.network(allow_code=args.allow_code), checkpoint.config
    if args.cache is None:
        fields, checked_on = random_fields(trained.fields), "random inputs (no --cache was given)"
    else:
        cache = Cache(args.cache)
        fields = cached_fields(cache, tested_clips(cache, config), trained.fields)
        checked_on = f"clips of the fold's test actors ({config.cache['dataset']})"
    try:
        result = read_run(path.resolve().parent)
        check_same_run(checkpoint, result)
    except RunError as exc:
        result = None
        warn(f"the model card contains no accuracy, which requires the files of the run: {exc}")

    # Write the network; a file that does not agree with torch is dropped.
    out_card, sha256 = out.with_suffix(".md"), sha256_file(path)
    before = [each.read_bytes() if each.exists() else None for each in (out, out_card)]
    with atomic_path(out) as temporary:
        write_graph(trained, fields, temporary, properties(config, sha256))
        differences = compare(temporary, trained, fields)
        found = "{:.1e} in probabilities, {:.1e} in logits".format(*differences)
        if not all(difference <= TOLERANCE for difference in differences):
            raise FailedError(
                f"{out} was not written: onnxruntime and torch differ by {found}, expected "
                f"{TOLERANCE:g} at most"
            )
    checked = f"on {checked_on}: {found}. The limit is {TOLERANCE:g}"
    batches = f"in batches of {' and '.join(map(str, BATCHES))}"
    write_text(out_card, card(out.name, config, sha256, result, f"{batches}, {checked}"))
    print(f"differences from torch {checked}")
    unchanged = " (unchanged)" if before == [out.read_bytes(), out_card.read_bytes()] else ""
    print(f"{out}, {out.stat().st_size / 1e6:.1f} MB, and {out_card}{unchanged}")
    return 0


def _check_out(out: Path) -> None:
    """Make the folder of an ONNX file; ValueError if it cannot be written."""
    if out.suffix != ".onnx" or out.is_dir():
        raise ValueError(f"--out is {str(out)!r}, expected a file that ends in .onnx")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as exc:
        raise ValueError(f"--out: cannot write to {out.parent}: {exc.strerror}") from exc


def _publish(args: argparse.Namespace, out: Path) -> int:
    """Write the weights of runs into a folder, with README.md, or of one run into a single file."""
    read = (_read(path, args.allow_code) for path in args.checkpoint)
    found = sorted(read, key=lambda pair: pair[1].fold)
    first = found[0][1].config
    for (checkpoint, result), (_, before) in zip(found[1:], found, strict=False):
        other = [n for n in _COMMON if getattr(result.config, n) != getattr(first, n)]
        other += [n for n in ("dataset", "fingerprint") if result.config.cache[n] != first.cache[n]]
        if other or result.fold == before.fold:
            differs = f"has a different {other[0]}" if other else f"repeats fold {result.fold}"
            raise RunError(f"{checkpoint.path} {differs}, expected different folds of one network")
    single = out.suffix == ".safetensors"
    if single and len(found) > 1:
        raise RunError(f"{out} is one file for {len(found)} checkpoints, expected a folder")
    folder = out.parent if single else out
    folder.mkdir(parents=True, exist_ok=True)
    names = [out.name] if single else [f"fold_{result.fold}.safetensors" for _, result in found]
    others = {path.name for path in folder.glob("fold_*.safetensors")} - set(names)
    if others and not single:
        raise RunError(
            f"{folder} has {', '.join(sorted(others))} of another export, but the files of a "
            "folder are averaged. Remove them, or choose another folder"
        )
    for name, (checkpoint, result) in zip(names, found, strict=True):
        about = properties(result.config, sha256_file(checkpoint.path))
        accuracy = result.predictions.accuracy
        save_published(folder / name, checkpoint, accuracy=accuracy, about=about, half=args.half)
        if result.config.source:
            shutil.copyfile(result.folder / SOURCE, folder / SOURCE)
    out_card = out.with_suffix(".md") if single else folder / "README.md"
    runs = [result for _, result in found]
    kind = {"half": args.half, "normalized": bool(found[0][0].statistics)}
    write_text(out_card, weights_card(names, runs, args.points, **kind))
    size = sum((folder / name).stat().st_size for name in names)
    print(f"{len(names)} folds in {folder}, {size / 1e6:.2f} MB, and {out_card}")
    return 0


def _read(path: Path, allow_code: bool | Path) -> tuple[Checkpoint, Run]:
    checkpoint, result = load_result(path), read_run(path.resolve().parent)
    check_same_run(checkpoint, result)
    checkpoint.network(allow_code=allow_code)  # its weights are those of the network
    return checkpoint, result
