"""Where a run's weights start from: files of encoders, and whether they may be used for a fold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cache.files import sha256_file
from cache.ravdess import actors_of
from model.checkpoint import check_version, is_checkpoint
from model.weights import WeightsError, public_state, read_data

# What is recorded of a run that weights come from, and of what kind it is.
_RECORDED = {
    **{"model": str, "preset": str, "split": str, "fold": int, "epochs": int, "recipe": str},
    **{"seed": int, "init": dict},
}


@dataclass(frozen=True)
class Start:
    """Weights of one encoder by public name, and what config.json records of their file."""

    state: dict[str, Tensor]
    record: dict[str, Any]


def read_start(path: Path, part: str, test_actors: tuple[int, ...]) -> Start:
    """Read weights for an encoder: a public checkpoint, safetensors, or a finished run's last.pt.

    Args:
        path: the file.
        part: "video" or "audio".
        test_actors: of the fold that is to be trained. A run that trained on one of them is
            refused; of a public file nothing is known, and the record says so.

    Raises:
        WeightsError: if the file cannot be used.
        FileNotFoundError: if there is none.
    """
    try:
        data = read_data(path)
    except WeightsError as exc:
        raise WeightsError(f"{exc}{way_to_train_again(path)}") from exc
    record: dict[str, Any] = {"file": path.name, "sha256": sha256_file(path), "run": None}
    try:
        check_version(data)
        if is_checkpoint(data):
            record["run"] = _checked(data, test_actors)
            data = {name.removeprefix(f"{part}."): t for name, t in data["model"].items()}
        state = public_state(data)
    except (KeyError, TypeError, AttributeError) as exc:
        advice = way_to_train_again(path)
        raise WeightsError(f"{path}: not a whole checkpoint ({exc!r}){advice}") from exc
    except ValueError as exc:
        raise WeightsError(f"{path}: {exc}") from exc
    return Start(state, record)


def _checked(checkpoint: dict[str, Any], test_actors: tuple[int, ...]) -> dict[str, Any]:
    """What to record of a run, once it may be used for a fold that tests these actors."""
    config = checkpoint["config"]
    for name, kind in _RECORDED.items():
        if type(config[name]) is not kind:
            raise WeightsError(f"{name} is {config[name]!r:.80}, expected {kind.__name__}")
    if checkpoint["epoch"] != config["epochs"]:
        raise WeightsError(
            f"{checkpoint['epoch']!r:.80} of {config['epochs']} epochs are done. Finish that run "
            "first: what counts is the last epoch of its schedule"
        )
    # By the split's own rule: the list in the file is but what it says of itself.
    trained, _ = actors_of(config["split"], config["fold"], validate=config["validation"] is True)
    if config["train_actors"] != list(trained):
        raise WeightsError("its train_actors are not those of its split and fold")
    leaked = sorted(set(trained) & set(test_actors))
    if leaked:
        raise WeightsError(
            f"was trained on actors {leaked}, whom this fold tests. "
            "Take the checkpoint of the same fold and split"
        )
    return {name: config[name] for name in _RECORDED}


def way_to_train_again(path: Path) -> str:
    """What to do about a run's `last.pt` that cannot be read; nothing is known of other files.

    Returns:
        The end of an error: a sentence that names the folder to remove, or nothing.
    """
    if path.name != "last.pt" or not (path.parent / "config.json").is_file():
        return ""
    return f". Remove {path.parent} to train that run again"


def is_unknown(record: dict[str, Any]) -> bool:
    """Whether weights come from a file of unknown actors, at once or through another run."""
    return record["run"] is None or any(map(is_unknown, record["run"]["init"].values()))
