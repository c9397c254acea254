"""Where a run's weights start from: files of encoders, and whether they may be used for a fold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cache.files import sha256_file
from model.weights import WeightsError, public_state, read_data
from train.checkpoint import is_checkpoint


@dataclass(frozen=True)
class Start:
    """Weights of one encoder by public name, and what config.json records of their file."""

    state: dict[str, Tensor]
    record: dict[str, Any]


def read_start(path: Path, part: str, test_actors: tuple[int, ...]) -> Start:
    """Read weights for an encoder: a public checkpoint, safetensors, or a unimodal run's last.pt.

    Args:
        path: the file.
        part: "video" or "audio".
        test_actors: of the fold that is to be trained. A run that trained on one of them is
            refused; of a public file nothing is known, and the record says so.

    Raises:
        WeightsError: if the file cannot be used.
        FileNotFoundError: if there is none.
    """
    data = read_data(path)
    record: dict[str, Any] = {"file": path.name, "sha256": sha256_file(path), "run": None}
    try:
        if is_checkpoint(data):
            config = data["config"]
            leaked = sorted(set(config["train_actors"]) & set(test_actors))
            if leaked:
                raise WeightsError(
                    f"was trained on actors {leaked}, whom this fold tests. "
                    "Take the checkpoint of the same fold and split"
                )
            record["run"] = {name: config[name] for name in ("model", "split", "fold", "epochs")}
            data = {name.removeprefix(f"{part}."): t for name, t in data["model"].items()}
        state = public_state(data)
    except (KeyError, TypeError, AttributeError) as exc:
        raise WeightsError(f"{path}: not a whole checkpoint ({exc!r})") from exc
    except WeightsError as exc:
        raise WeightsError(f"{path}: {exc}") from exc
    return Start(state, record)
