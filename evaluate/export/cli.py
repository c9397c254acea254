"""The command line of exports: an ONNX file, checked against torch, and its model card."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from cache.files import atomic_path, sha256_file, write_text
from cache.reader import Cache
from cache.shard import CacheError
from evaluate.errors import fail
from evaluate.export.agreement import TOLERANCE, Agreement, cached_batches, compare, random_batches
from evaluate.export.graph import GraphError, Standalone, write_graph
from evaluate.export.model_card import card
from evaluate.origin import check_origin, properties, result_beside
from model.checkpoint import CheckpointError, Trained, load_trained

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class DisagreementError(RuntimeError):
    """An exported file does not say what torch says."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write an ONNX file, checked against torch, and its card.

    Returns:
        0 when both are there, 1 when the network could not be written or the file disagrees, 2 for
        wrong use.
    """
    arguments = _parser().parse_args(argv)
    checkpoint, out = arguments.checkpoint, arguments.out
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        return fail(f"{', '.join(missing)} missing: pip install '.[export]'", 2)
    try:
        _check_out(out)
        trained = load_trained(checkpoint)
        check_origin(checkpoint, trained)
        sha256 = sha256_file(checkpoint)
        batches, checked_on = _clips_to_check(arguments.cache, trained)
    except (CheckpointError, CacheError, ValueError, OSError) as exc:
        return fail(exc, 2)
    result, why_not = result_beside(checkpoint, trained)
    if why_not:
        print(f"no accuracy goes into the card: {why_not}", file=sys.stderr)
    before = sha256_file(out) if out.is_file() else None
    try:
        standalone = Standalone(trained).eval()
        agreement = export(standalone, trained, out, batches, properties(trained.config, sha256))
        text = card(
            out,
            standalone,
            trained,
            sha256=sha256,
            result=result,
            agreement=agreement,
            checked_on=checked_on,
        )
        rewritten = _write_card(out.with_suffix(".md"), text)
        unchanged = " (unchanged)" if before == sha256_file(out) else ""
    except (GraphError, DisagreementError) as exc:
        return fail(exc, 1)
    except OSError as exc:
        return fail(f"{out} could not be written: {exc.strerror or exc}", 1)
    except KeyboardInterrupt:
        return fail("interrupted", 1)
    print(
        f"checked on {checked_on}: probabilities differ from torch's by at most "
        f"{agreement.probabilities:.1e}, logits by {agreement.logits:.1e} of the greatest"
    )
    print(
        f"{out}{unchanged}, {out.stat().st_size / 1e6:.1f} MB; {out.with_suffix('.md')}{rewritten}"
    )
    return 0


def _write_card(path: Path, text: str) -> str:
    """Write the card; in words whether there was another one."""
    before = path.read_bytes() if path.is_file() else None
    write_text(path, text)
    if before is None:
        return ""
    return " (unchanged)" if before == text.encode() else " (rewritten)"


def export(
    standalone: Standalone,
    trained: Trained,
    out: Path,
    batches: Sequence[dict[str, Tensor]],
    about: dict[str, str],
) -> Agreement:
    """Write a network to `out` and take it back unless it agrees with torch.

    Args:
        standalone: of `trained`, in evaluation mode, on the CPU.
        trained: what it is compared with.
        out: where it goes; what is there is replaced only by a file that agrees.
        batches: fields of clips to compare on.
        about: the file's metadata.

    Raises:
        GraphError: if torch cannot write it.
        DisagreementError: if probabilities or logits differ by more than `TOLERANCE`.
        OSError: if the file cannot be written.
    """
    with atomic_path(out) as temporary:
        write_graph(standalone, temporary, about)
        agreement = compare(temporary, trained, batches)
        if not agreement.holds:
            raise DisagreementError(
                f"onnxruntime and torch differ by {agreement.probabilities:.1e} in probabilities "
                f"and {agreement.logits:.1e} in logits, expected at most {TOLERANCE:g}: "
                f"{out} was not written"
            )
    return agreement


def _check_out(out: Path) -> None:
    """Make the folder of `out`; ValueError or OSError if no file can be written there."""
    if out.suffix != ".onnx" or out.is_dir():
        raise ValueError(f"--out is {str(out)!r}, expected a file that ends in .onnx")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ValueError(f"--out: {out.parent} cannot be a folder: {exc.strerror}") from exc
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise ValueError(f"--out: no file can be written in {out.parent}. Name another folder")


def _clips_to_check(
    directory: Path | None, trained: Trained
) -> tuple[list[dict[str, Tensor]], str]:
    """Batches to compare on, and what they are in words.

    Raises:
        CacheError: if there is no cache, or not that of the run, or none of the test clips in it.
    """
    config = trained.config
    if directory is None:
        return random_batches(config["model"]), "random inputs (no --cache was given)"
    cache = Cache(directory)
    if cache.manifest["fingerprint"] != config["cache"]["fingerprint"]:
        raise CacheError(
            f"{directory}: fingerprint {cache.manifest['fingerprint'][:12]}, the network was "
            f"trained on {config['cache']['fingerprint'][:12]}. Name the cache of its run"
        )
    clips = cache.of_actors(tuple(config["test_actors"]))
    if not clips:
        raise CacheError(f"{directory}: no clip of the test actors {config['test_actors']}")
    batches = cached_batches(cache, clips, config["model"])
    return batches, f"clips of the fold's test actors ({config['cache']['dataset']})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluate.export",
        description="Write a trained network as an ONNX file that needs nothing of this project, "
        "checked against torch, with a model card beside it.",
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", type=Path, required=True, help="last.pt of a finished run"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="the file, ending in .onnx"
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="the cache of the run: check on its test clips, not on random inputs",
    )
    return parser
