"""Where a checkpoint comes from: checked before its network is measured or passed on."""

from pathlib import Path

from cache.ravdess import FULL_AV_ORIGIN, Clip, is_recordings
from cache.reader import Cache
from train.record import CONFIG, Checkpoint, Run, RunConfig, RunError, load_checkpoint


def load_result(path: Path) -> Checkpoint:
    """Read the checkpoint of the last epoch of a run that tested its fold; RunError for others."""
    if not path.is_file():
        raise RunError(f"{path}: no such file")
    checkpoint = load_checkpoint(path)
    epoch, config = checkpoint.epoch, checkpoint.config
    if config.validation:
        raise RunError(f"{path}: from a run with --validate, expected one with a test fold")
    if epoch != config.epochs:
        raise RunError(
            f"{path}: {epoch} of {config.epochs} epochs are done, and only the last is a result. "
            "Finish the run with train.py --resume"
        )
    return checkpoint


def check_same_run(checkpoint: Checkpoint, run: Run) -> None:
    """Raise RunError unless a checkpoint was trained with the settings of a run."""
    differences = run.config.differences(checkpoint.config)
    if differences:
        raise RunError(f"{CONFIG} is of another run than {checkpoint.path.name}: {differences[0]}")


def tested_clips(cache: Cache, config: RunConfig) -> list[Clip]:
    """The clips of a run's test actors, sorted; RunError for another cache, or one without any."""
    found, expected = cache.manifest["fingerprint"], config.cache["fingerprint"]
    if found != expected:
        raise RunError(
            f"{cache.directory} has fingerprint {found[:12]}, the run was trained on "
            f"{expected[:12]}. Use the cache of the run"
        )
    clips = cache.of_actors(config.test_actors)
    if not clips:
        raise RunError(f"{cache.directory} has no clip of the test actors {config.test_actors}")
    return clips


def license_terms(dataset: str) -> str:
    """The terms of weights that were learned from a dataset, in words."""
    if not is_recordings(dataset):
        return f"learned from {dataset}, under the terms of that dataset"
    return (
        f"learned from RAVDESS, which is under {FULL_AV_ORIGIN['license']}: not for commercial "
        "use, and to be shared under the same terms"
    )
