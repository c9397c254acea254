"""One run: the epochs of one fold, and the files that they leave in `RUNS/<model>/fold_<k>`."""

import csv
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import model
from cache.clips import EMOTIONS, Clip
from cache.files import atomic_path, sweep, write_json
from cache.reader import Cache
from model.weights import load_encoder
from train.augment import draw_crops
from train.checkpoint import CheckpointError, load, save
from train.loop import Batch, test, train_epoch
from train.seeds import AUGMENTATION, DROPOUT, ORDER, WEIGHTS, generator, seed_of
from train.start import Start
from train.stream import Clips, batches, default_workers

# A run may go on elsewhere; all else in its config must be the same.
_MAY_DIFFER = {"device", "versions"}


def train_fold(
    run: Path,
    config: Mapping[str, Any],
    cache: Cache,
    train_clips: list[Clip],
    test_clips: list[Clip],
    *,
    starts: Mapping[str, Start],
    device: torch.device,
    resume: bool,
) -> list[dict[str, Any]]:
    """Train for a fixed number of epochs and test after each; the last is the result.

    Every epoch draws its random numbers from seed and epoch alone, so a run that goes on from a
    checkpoint is the run that was never stopped.

    Args:
        run: folder of the run: config.json, metrics.jsonl, last.pt, predictions.csv; the caller
            holds its lock.
        config: settings of the run, as they go into config.json.
        cache: where the clips lie.
        train_clips, test_clips: of the fold.
        starts: weights to start from, for the encoders "video" and "audio"; the rest is drawn.
        device: to train on.
        resume: go on from `last.pt`; without it, an unfinished run is refused.

    Returns:
        The lines of metrics.jsonl, one an epoch.

    Raises:
        CheckpointError: if `run` holds a run that this one cannot go on from.
        WeightsError: if a start does not fit the network.
        TrainingError: if the loss is not finite.
    """
    _check_folder(run, config, resume)
    if is_done(run):
        return _read_lines(run)
    sweep(run)
    epochs, batch_size, seed = config["epochs"], config["batch_size"], config["seed"]
    frames, size = model.input_size(config["preset"])
    inputs = model.inputs(config["model"])
    train_set, test_set = (Clips(cache, c, inputs, frames) for c in (train_clips, test_clips))
    reading = {"batch_size": batch_size, "device": device, "workers": default_workers(device)}
    judging = {"loss_of": model.loss(config["model"]), "size": size}

    torch.manual_seed(seed_of(seed, 0, WEIGHTS))
    net = model.build(config["model"], config["preset"])
    for part, start in starts.items():
        tqdm.write(load_encoder(net, part, start.state))
    net.to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=config["learning_rate"])
    lines = _restore(run, config, net, optimizer, device) if resume else []
    write_json(run / "config.json", config)

    probabilities = None
    clips = len(train_set)
    bar = tqdm(total=epochs * clips, initial=len(lines) * clips, unit="clip", mininterval=0.5)
    for epoch in range(len(lines) + 1, epochs + 1):
        started = time.perf_counter()
        torch.manual_seed(seed_of(seed, epoch, DROPOUT))
        bar.set_description(f"fold {config['fold']}, epoch {epoch}/{epochs}")
        crops = draw_crops(clips, generator(seed, epoch, AUGMENTATION))
        order = generator(seed, epoch, ORDER)
        train_batches = _counted(batches(train_set, **reading, order=order), bar)
        trained = train_epoch(net, optimizer, train_batches, crops=crops, **judging)
        train_seconds = time.perf_counter() - started
        tested, probabilities = test(net, batches(test_set, **reading), **judging)
        lines.append(
            {
                "epoch": epoch,
                "train_loss": trained.loss,
                "train_accuracy": trained.accuracy,
                "test_loss": tested.loss,
                "test_accuracy": tested.accuracy,
                "clips_per_second": clips / train_seconds,
                "seconds": time.perf_counter() - started,
            }
        )
        # Metrics first: a checkpoint then never knows of an epoch that they do not.
        _write_lines(run, lines)
        save(run / "last.pt", net=net, optimizer=optimizer, epoch=epoch, config=config)
        bar.set_postfix_str(
            f"loss {trained.loss:.3f}, train {trained.accuracy:.1%}, test {tested.accuracy:.1%}"
        )
    bar.close()
    if probabilities is None:  # stopped after the last epoch, before its predictions
        _, probabilities = test(net, batches(test_set, **reading), **judging)
    _write_predictions(run, test_clips, probabilities)
    return lines


def is_done(run: Path) -> bool:
    """Whether the run in this folder has come to its end; predictions are its last file."""
    return all((run / name).is_file() for name in ("config.json", "predictions.csv"))


def _counted(batches: Iterable[Batch], bar: tqdm) -> Iterator[Batch]:
    """The same batches, each shown on the bar when it is done."""
    for batch in batches:
        yield batch
        bar.update(len(batch[0]))


def _check_folder(run: Path, config: Mapping[str, Any], resume: bool) -> None:
    """Raise CheckpointError unless `run` is new, or holds this very run and may be gone on with."""
    if not (run / "config.json").is_file():
        if any((run / name).exists() for name in ("last.pt", "predictions.csv")):
            raise CheckpointError(f"{run}: holds a run without its config.json. Remove that folder")
        return
    try:
        begun = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except ValueError as exc:
        raise CheckpointError(f"{run}/config.json: no JSON ({exc}). Remove that folder") from exc
    _check_same(run, begun, config)
    if not is_done(run) and (run / "last.pt").is_file() and not resume:
        raise CheckpointError(
            f"{run}: holds an unfinished run. Go on with --resume, or remove that folder"
        )


def _check_same(where: Path, begun: Any, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless a run that was begun with `begun` is the one of `config`."""
    begun = begun if isinstance(begun, dict) else {}
    differing = [
        f"{key} was {_brief(begun.get(key))}, now {_brief(value)}"
        for key, value in config.items()
        if key not in _MAY_DIFFER and begun.get(key) != value
    ]
    if differing:
        raise CheckpointError(
            f"{where}: holds a run with other settings ({'; '.join(differing)}). "
            "Choose another --runs, or remove that folder"
        )


def _brief(value: Any) -> str:
    """A setting for a message, cut where it gets long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _restore(
    run: Path,
    config: Mapping[str, Any],
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Load `last.pt` if there is one; the metrics of the epochs that it has behind it.

    Raises:
        CheckpointError: if the checkpoint is of another run, or does not fit its metrics.
    """
    path = run / "last.pt"
    if not path.is_file():
        return []
    state = load(path, device)
    _check_same(path, state["config"], config)
    lines = _read_lines(run)
    epoch = state["epoch"]
    if not isinstance(epoch, int) or not 1 <= epoch <= min(config["epochs"], len(lines)):
        raise CheckpointError(
            f"{path}: is of epoch {epoch!r}, metrics.jsonl has {len(lines)} of {config['epochs']}. "
            "They do not belong together: remove that folder"
        )
    try:
        net.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as exc:
        raise CheckpointError(f"{path}: does not fit the network ({exc})") from exc
    for group in optimizer.param_groups:  # part of the state, but ours to say
        group["lr"] = config["learning_rate"]
    return lines[:epoch]


def _read_lines(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, one an epoch from 1 on."""
    path = run / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if [line["epoch"] for line in lines] != list(range(1, len(lines) + 1)) or not lines:
            raise ValueError("its epochs are not 1, 2, 3, ...")
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(f"{path}: damaged ({exc}). Remove {run}") from exc
    return lines


def _write_lines(run: Path, lines: list[dict[str, Any]]) -> None:
    with atomic_path(run / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _write_predictions(run: Path, clips: list[Clip], probabilities: Tensor) -> None:
    """clip_id, label, predicted and the eight probabilities of every test clip."""
    path = run / "predictions.csv"
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as opened,
    ):
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["clip_id", "label", "predicted", *(f"p_{name}" for name in EMOTIONS)])
        for clip, row in zip(clips, probabilities, strict=True):
            shares = [f"{share:.6f}" for share in row.tolist()]
            writer.writerow([clip.clip_id, clip.label, int(row.argmax()), *shares])
