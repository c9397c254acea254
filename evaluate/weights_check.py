"""`python -m evaluate.weights_check --cache DIR`: test the weights that come with the project."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cache.command import FailedError, launch, run, warn
from cache.reader import Cache
from evaluate.robustness.conditions import CONDITIONS
from evaluate.robustness.measure import measure
from evaluate.shipped import BEST, files_of, names
from train.record import load_checkpoint

# Of the accuracy of a fold; a processor may round a clip between two emotions to the other one.
TOLERANCE = 0.01


def main(argv: Sequence[str] | None = None) -> int:
    """Print the accuracy of each fold on a cache beside the recorded one."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate.weights_check",
        description="Test the weights that come with the project on the test actors of a cache. "
        f"If it has the fingerprint of their training, an accuracy that differs by more than "
        f"{TOLERANCE:.0%} is an error; landmarks from another program may give a different one.",
    )
    parser.add_argument("--cache", metavar="DIR", type=Path, required=True, help="cache folder")
    args = parser.parse_args(argv)
    return run(lambda: _check(Cache(args.cache)), extras="weights")


def _check(cache: Cache) -> int:
    different = []
    for name in names() or [BEST]:  # none at all is an error of `files_of`
        found = []
        for path in files_of(name):
            checkpoint = load_checkpoint(path)
            config, recorded = checkpoint.config, checkpoint.accuracy
            clips = cache.of_actors(config.test_actors)
            if recorded is None or not clips:
                warn(f"{path}: no accuracy recorded, or no clips of its test actors in the cache")
                continue
            (predicted,) = measure(checkpoint.network(), cache, clips, CONDITIONS[:1]).values()
            right = predicted == [clip.label for clip in clips]
            found.append((float(np.mean(right)), recorded))
            print("{} fold {}: {:.2%} here, {:.2%} recorded".format(name, config.fold, *found[-1]))
            same = cache.manifest["fingerprint"] == config.cache["fingerprint"]
            if not same or len(clips) != config.test_clips:
                warn(f"{path}: trained and tested on other clips or features, so it may differ")
            elif abs(found[-1][0] - recorded) > TOLERANCE:
                different.append(f"{name} fold {config.fold}")
        if found:
            means = np.mean(found, axis=0)
            folds = f"{name} mean of {len(found)} folds"
            print(f"{folds}: {means[0]:.2%} here, {means[1]:.2%} recorded")
    if different:
        raise FailedError(
            f"{', '.join(different)}: more than {TOLERANCE:.0%} from the recorded accuracy. "
            "Landmarks of another program, such as OpenFace, do that; else check the cache with "
            "`python -m cache verify`"
        )
    return 0


if __name__ == "__main__":
    launch("evaluate.weights_check", "weights")
