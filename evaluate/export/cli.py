"""The command line of exports: an ONNX file or published weights, and their card."""

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cache.command import FailedError, run, warn
from cache.files import atomic_path, sha256_file, write_text
from cache.reader import Cache
from evaluate.export.model_card import card, properties
from evaluate.export.publish import publish
from evaluate.origin import check_same_run, load_result, tested_clips
from train.record import RunError, read_run

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
    weights = (
        "write weights with their card: a file that ends in .safetensors, or a folder of folds"
    )
    kind.add_argument("--safetensors", metavar="OUT", type=Path, help=weights)
    points = "with --safetensors: who found the facial points of the cache, for the card"
    add("--points", metavar="TEXT", help=points)
    help_cache = "training cache: check on its test clips instead of random inputs"
    add("--cache", metavar="DIR", type=Path, help=help_cache)
    args = parser.parse_args(argv)
    if args.safetensors:
        work = partial(publish, args.checkpoint, args.safetensors, args.points)
        return run(work, extras="report,weights")
    if len(args.checkpoint) > 1:
        parser.error("--out takes one --checkpoint")
    return run(lambda: _export(args.checkpoint[0], args.out, args.cache), extras="export,report")


def _export(path: Path, out: Path, cache_directory: Path | None) -> int:
    from evaluate.export.agreement import cached_fields, compare, random_fields
    from evaluate.export.graph import write_graph

    # Check everything before any work.
    _check_out(out)
    checkpoint = load_result(path)
    trained, config = checkpoint.network(), checkpoint.config
    if cache_directory is None:
        fields, checked_on = random_fields(trained.fields), "random inputs (no --cache was given)"
    else:
        cache = Cache(cache_directory)
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
    before = _contents(out, out_card)
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
    write_text(out_card, card(out.name, config, sha256, result, checked))
    print(f"differences from torch {checked}")
    unchanged = " (unchanged)" if before == _contents(out, out_card) else ""
    print(f"{out}, {out.stat().st_size / 1e6:.1f} MB, and {out_card}{unchanged}")
    return 0


def _check_out(out: Path) -> None:
    """Make the folder of `out`; ValueError if no file can be written there."""
    if out.suffix != ".onnx" or out.is_dir():
        raise ValueError(f"--out is {str(out)!r}, expected a file that ends in .onnx")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as exc:
        raise ValueError(f"--out: cannot write to {out.parent}: {exc.strerror}") from exc


def _contents(*paths: Path) -> list[bytes | None]:
    return [path.read_bytes() if path.is_file() else None for path in paths]
