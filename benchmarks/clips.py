"""Clips that benchmarks measure on: those that were named, the real ones, or drawn ones."""

import argparse
import os
from pathlib import Path

from preprocess.dataset import Source, find_clips
from preprocess.sample import main as draw_sample
from preprocess.settings import Settings


def find_sources(
    parser: argparse.ArgumentParser, named: Path | None, folder: Path | None
) -> tuple[Path, list[Source]]:
    """The clips in `named`, else the real ones in CFNSR_REAL_DATA, else eight that are drawn.

    Args:
        parser: says what is wrong with the clips, and ends the program.
        named: folder of clips.
        folder: to draw into; None draws nothing.

    Returns:
        The folder that the clips lie in, and the clips.
    """
    real = os.environ.get("CFNSR_REAL_DATA")
    raw = named or (Path(real) / "ravdess" if real else folder)
    if raw is None:
        parser.error("say where clips are: --raw DIR, or CFNSR_REAL_DATA")
    if raw == folder:
        draw_sample(["--out", str(raw), "--actors", "4", "--clips-per-actor", "2"])
    try:
        sources = find_clips(raw, Settings()).sources
    except (ValueError, OSError) as exc:
        parser.error(str(exc))
    if not sources:
        parser.error(f"{raw}: no RAVDESS videos in it, expected such as 01-01-06-01-02-01-12.mp4")
    return raw, sources
