"""`python -m evaluate.weights_check --cache DIR`: test the weights that come with the project."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cache.command import FailedError, launch, run, warn
from cache.reader import Cache
from evaluate.shipped import files_of, names
from train.record import Checkpoint, RunError, load_checkpoint

# Of the accuracy of a fold; a processor may round a clip between two emotions to the other one.
TOLERANCE = 0.01


def main(argv: Sequence[str] | None = None) -> int:
    """Print the accuracy of each fold on a cache beside the recorded one; returns the status."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate.weights_check",
        description="Test the weights that come with the project on the test actors of a cache. "
        f"If it has the fingerprint of their training, an accuracy that differs by more than "
        f"{TOLERANCE:.0%} is an error; points of another program may give another one.",
    )
    parser.add_argument("--cache", metavar="DIR", type=Path, required=True, help="cache folder")
    models = "networks (default: all)"
    parser.add_argument("--model", metavar="NAME", nargs="+", default=None, help=models)
    args = parser.parse_args(argv)
    return run(lambda: _check(Cache(args.cache), args.model or names()), extras="weights")


def _check(cache: Cache, models: Sequence[str]) -> int:
    different = []
    for name in models or [""]:
        pairs = []
        for path in files_of(name):
            checkpoint = load_checkpoint(path)
            config, recorded = checkpoint.config, checkpoint.accuracy
            if recorded is None:
                raise RunError(f"{path}: records no accuracy, expected weights of evaluate.export")
            clips = cache.of_actors(config.test_actors)
            if not clips:
                warn(f"{cache.directory} has no clips of actors {list(config.test_actors)}")
                continue
            pairs.append((_accuracy(checkpoint, cache), recorded))
            _print(f"{name} fold {config.fold}, {len(clips)} clips", *pairs[-1])
            same = cache.manifest["fingerprint"] == config.cache["fingerprint"]
            if not same or len(clips) != config.test_clips:
                warn(f"not the clips and features of the training of {path}: may differ")
            elif abs(pairs[-1][0] - recorded) > TOLERANCE:
                different.append(f"{name} fold {config.fold}")
        if pairs:
            _print(f"{name} mean of {len(pairs)} folds", *np.mean(pairs, axis=0))
    if different:
        raise FailedError(
            f"{', '.join(different)}: more than {TOLERANCE:.0%} from the recorded accuracy, with "
            "the features of the training. Check the cache with `python -m cache verify`"
        )
    return 0


def _accuracy(checkpoint: Checkpoint, cache: Cache) -> float:
    """The accuracy on the fold's test actors, 0..1."""
    trained, actors = checkpoint.network(), checkpoint.config.test_actors
    clips = cache.of_actors(actors)
    missing = set(trained.fields) - set(cache.fields(clips[0].clip_id))
    if missing:
        raise ValueError(f"{cache.directory} has no {', '.join(sorted(missing))}")
    right = 0
    for actor in {clip.actor for clip in clips}:  # a batch each
        own = cache.of_actors([actor])
        fields = {
            name: torch.from_numpy(np.stack([cache.read(clip.clip_id, name) for clip in own]))
            for name in trained.fields
        }
        labels = torch.tensor([clip.label for clip in own])
        right += int((trained.probabilities(fields).argmax(dim=1) == labels).sum())
    return right / len(clips)


def _print(what: str, now: float, recorded: float) -> None:
    print(f"{what}: {now:.2%} here, {recorded:.2%} recorded")


if __name__ == "__main__":
    launch("evaluate.weights_check", "weights")
