"""The weights of finished runs as .safetensors, with one card for the folds of a network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cache import ravdess
from cache.files import load_template, sha256_file, write_text
from evaluate.export.model_card import label_of, properties
from evaluate.origin import check_same_run, license_terms, load_result
from evaluate.runs import start_in_words
from train.record import Checkpoint, Run, RunError, read_run, save_published

# What the folds of one card have in common.
_COMMON = ("model", "preset", "attention", "split", "recipe", "settings", "seed", "cache")


def publish(paths: Sequence[Path], out: Path, points: str | None) -> int:
    """Write the weights of runs after their last epoch, and their card.

    Args:
        paths: last.pt of finished runs with a test fold, of other folds each.
        out: a file that ends in .safetensors for one run, with its card beside it; or a folder for
            `fold_<k>.safetensors` of each run and README.md.
        points: who found the facial points that the cache has, in words.

    Raises:
        ValueError: if a run is unfinished, or they are not folds of one network.
        OSError: if a file cannot be read or written.
    """
    found = sorted((_read(path) for path in paths), key=lambda pair: pair[1].fold)
    first = found[0][1].config
    for (checkpoint, run), (_, before) in zip(found[1:], found, strict=False):
        other = [n for n in _COMMON if getattr(run.config, n) != getattr(first, n)]
        if other or run.fold == before.fold:
            differs = f"has another {other[0]}" if other else f"is fold {run.fold} again"
            raise RunError(f"{checkpoint.path} {differs}, expected another fold of one network")
    single = out.suffix == ".safetensors"
    if single and len(found) > 1:
        raise RunError(f"{out} is one file for {len(found)} checkpoints, expected a folder")
    folder = out.parent if single else out
    folder.mkdir(parents=True, exist_ok=True)
    names = [out.name] if single else [f"fold_{run.fold}.safetensors" for _, run in found]
    for name, (checkpoint, run) in zip(names, found, strict=True):
        about = properties(run.config, sha256_file(checkpoint.path))
        save_published(folder / name, checkpoint, accuracy=run.predictions.accuracy, about=about)
    card = out.with_suffix(".md") if single else folder / "README.md"
    write_text(card, _card(names, [run for _, run in found], points))
    size = sum((folder / name).stat().st_size for name in names)
    print(f"{len(names)} folds in {folder}, {size / 1e6:.2f} MB, and {card}")
    return 0


def _read(path: Path) -> tuple[Checkpoint, Run]:
    checkpoint, run = load_result(path), read_run(path.resolve().parent)
    check_same_run(checkpoint, run)
    checkpoint.network()  # its weights are those of the network
    return checkpoint, run


def _card(names: Sequence[str], runs: Sequence[Run], points: str | None) -> str:
    config = runs[0].config
    return load_template(Path(__file__).with_name("weights_card.md.j2")).render(
        names=names,
        runs=runs,
        mean=np.mean([run.predictions.accuracy for run in runs]),
        config=config,
        label=label_of(config.model),
        starts=sorted({start_in_words(run.config.init) for run in runs}),
        points=points,
        ravdess=ravdess,
        recordings=ravdess.is_recordings(config.cache["dataset"]),
        terms=license_terms(config.cache["dataset"]),
        subject="These are the networks of single folds",
    )
