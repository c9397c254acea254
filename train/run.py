"""One run: the epochs of one fold, from the first weights to the last predictions."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

import model
from cache.clips import Clip
from cache.files import sweep, write_json
from cache.reader import Cache
from model.checkpoint import CheckpointError, load
from model.device import describe
from model.prepare import Prepare
from model.weights import WeightsError, load_encoder
from train.checkpoint import PREVIOUS, save
from train.inputs import Changes, batch_sizes, mfcc_statistics
from train.loop import Totals, TrainingError, test, train_epoch
from train.parallel import ALONE, Team
from train.recipe import Recipe, learning_rate
from train.run_files import (
    check_folder,
    check_same,
    is_done,
    read_lines,
    write_lines,
    write_predictions,
)
from train.seeds import DROPOUT, ORDER, WEIGHTS, generator, seed_of
from train.start import Start
from train.stream import Batch, Clips, place
from train.watch import Scalars


class Stopped(Exception):
    """The run was asked to stop, and its state is saved."""


@dataclass(frozen=True)
class Trainee:
    """What training changes: a network, the running mean of its weights, its optimiser's state."""

    net: nn.Module
    averaged: AveragedModel | None
    optimizer: torch.optim.Optimizer

    @property
    def tested(self) -> nn.Module:
        """The network that is tested and used: the mean of the weights where there is one."""
        return self.averaged.module if self.averaged else self.net

    def average(self) -> None:
        """Take the weights after a step into their mean."""
        if self.averaged:
            self.averaged.update_parameters(self.net)


def train_fold(
    run: Path,
    config: Mapping[str, Any],
    cache: Cache,
    train_clips: list[Clip],
    test_clips: list[Clip],
    *,
    recipe: Recipe,
    starts: Mapping[str, Start],
    device: torch.device,
    resume: bool,
    team: Team = ALONE,
    compiled: bool = False,
    stop: Callable[[], bool] = lambda: False,
    save_every_s: float = 30.0,
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
        recipe: how to train.
        starts: weights to start from, for the encoders "video" and "audio"; the rest is drawn.
        device: to train on.
        resume: go on from `last.pt`; without it, an unfinished run is refused.
        team: the processes that train this fold together; its leader alone writes.
        compiled: whether the network goes through torch.compile.
        stop: asked after each step; true saves the state and raises `Stopped`.
        save_every_s: seconds between checkpoints, which an epoch's end may be late by; the last
            epoch is always saved.

    Returns:
        The lines of metrics.jsonl, one an epoch.

    Raises:
        CheckpointError: if `run` holds a run that this one cannot go on from.
        WeightsError: if a start does not fit the network.
        TrainingError: if the loss is not finite.
        Stopped: if `stop` asked for it.
    """
    check_folder(run, config, resume)
    if is_done(run):
        return read_lines(run)
    sweep(run)
    seed, name = config["seed"], config["model"]
    frames, size = model.input_size(config["preset"])
    train_set, test_set = (
        Clips(cache, clips, model.inputs(name), frames) for clips in (train_clips, test_clips)
    )

    net = _build(config, starts, device, team)
    call = team.wrap(net, device)
    averaged = AveragedModel(net, avg_fn=_ema(recipe.ema), use_buffers=True) if recipe.ema else None
    trainee = Trainee(net, averaged, make_optimizer(net, recipe))
    statistics = {}
    if recipe.mfcc_normalise and "mfcc" in model.inputs(name):
        mean, std = mfcc_statistics(train_set)
        statistics = {"mfcc_mean": mean.to(device), "mfcc_std": std.to(device)}

    totals, lines = Totals.zero(device), []
    if resume:
        totals, lines = _restore(run, config, trainee, device)
        if not team.leads:  # what was counted is in the leader's sums
            totals = Totals(
                torch.zeros_like(totals.loss), torch.zeros_like(totals.loss), totals.clips
            )
    team.wait()  # until all have looked at what is there
    if team.leads:
        write_json(run / "config.json", config)
    if compiled:
        call = torch.compile(call)
    common = {
        "prepare": Prepare(size, **statistics),
        "loss_of": model.loss(name),
        "precision": getattr(torch, config["precision"]),
        "team": team,
    }
    (train_source, where), (test_source, _) = (
        place(each, device) for each in (train_set, test_set)
    )
    if team.leads:
        tqdm.write(f"{where}, batches of {recipe.batch_size} in {config['precision']}")

    def save_state(epoch: int) -> None:
        if team.leads:
            save(
                run / "last.pt",
                epoch=epoch,
                config=config,
                model=trainee.tested.state_dict(),
                inputs=statistics,
                training=_training_state(trainee, totals),
            )

    def test_all() -> tuple[Totals, Tensor]:
        own = torch.arange(len(test_set))[team.rank :: team.size].split(recipe.batch_size)
        return test(
            trainee.tested, test_source.batches(own, device), len(test_set), device, **common
        )

    clips, probabilities = len(train_set), None
    sizes = batch_sizes(clips, recipe.batch_size)
    steps = len(sizes)
    saved = time.monotonic()
    scalars = Scalars(run, len(lines)) if team.leads else None
    bar = tqdm(
        total=recipe.epochs * clips,
        initial=len(lines) * clips + totals.clips,
        unit="clip",
        mininterval=0.5,
        disable=not team.leads,
    )
    for epoch in range(len(lines) + 1, recipe.epochs + 1):
        started, before = time.perf_counter(), totals.clips
        if before == 0:
            torch.manual_seed(seed_of(seed, epoch, DROPOUT) + team.rank)
        bar.set_description(f"fold {config['fold']}, epoch {epoch}/{recipe.epochs}")
        order = torch.randperm(clips, generator=generator(seed, epoch, ORDER))
        split = order[before:].split(sizes[before // recipe.batch_size :])
        batches = train_source.batches([team.share(batch) for batch in split], device)
        train = partial(
            train_epoch,
            call,
            trainee.optimizer,
            changes=Changes(recipe, seed, epoch, clips),
            rate_at=lambda step, done=(epoch - 1) * steps: learning_rate(
                recipe, (done + step) / (recipe.epochs * steps)
            ),
            **common,
        )
        try:
            train(
                _counted(batches, split, bar),
                totals,
                after_step=trainee.average,
                stop=stop,
            )
        except torch.OutOfMemoryError as exc:
            bar.close()
            trainee.optimizer.zero_grad()
            advice = advise_batch(
                lambda size, train=train, order=order: train(
                    train_source.batches([order[:size]], device), Totals.zero(device)
                ),
                recipe.batch_size,
            )
            raise TrainingError(
                f"{describe(device)} has not the memory for batches of {recipe.batch_size}. "
                f"{advice}"
            ) from exc
        if totals.clips < clips:
            save_state(epoch - 1)
            bar.close()
            raise Stopped(f"stopped in epoch {epoch}: saved, go on with --resume")
        train_seconds = time.perf_counter() - started
        test_totals, probabilities = test_all()
        lines.append(
            {
                "epoch": epoch,
                "train_loss": totals.mean_loss,
                "train_accuracy": totals.accuracy,
                "test_loss": test_totals.mean_loss,
                "test_accuracy": test_totals.accuracy,
                "learning_rate": trainee.optimizer.param_groups[0]["lr"],
                "clips_per_second": (clips - before) / train_seconds,
                "seconds": time.perf_counter() - started,
            }
        )
        totals = Totals.zero(device)
        stopping = team.any(stop(), device)
        # Metrics first: a checkpoint then never knows of an epoch that they do not.
        if team.leads:
            write_lines(run, lines)
            scalars.add(lines[-1])
        if epoch == recipe.epochs or stopping or time.monotonic() - saved >= save_every_s:
            save_state(epoch)
            saved = time.monotonic()
        bar.set_postfix_str(
            f"loss {lines[-1]['train_loss']:.3f}, train {lines[-1]['train_accuracy']:.1%}, "
            f"test {lines[-1]['test_accuracy']:.1%}"
        )
        if stopping and epoch < recipe.epochs:
            bar.close()
            raise Stopped(f"stopped after epoch {epoch}: saved, go on with --resume")
    bar.close()
    if probabilities is None:  # stopped after the last epoch, before its predictions
        _, probabilities = test_all()
    if team.leads:
        scalars.close()
        write_predictions(run, test_clips, probabilities)
        (run / PREVIOUS).unlink(missing_ok=True)
    return lines


def _build(
    config: Mapping[str, Any], starts: Mapping[str, Start], device: torch.device, team: Team
) -> nn.Module:
    """The network with its first weights: drawn from the run's seed, or of files to start from."""
    torch.manual_seed(seed_of(config["seed"], 0, WEIGHTS))
    net = model.build(config["model"], config["preset"])
    for part, start in starts.items():
        try:
            said = load_encoder(net, part, start.state)
        except WeightsError as exc:
            raise WeightsError(f"--init-{part} {start.record['file']}: {exc}") from exc
        if team.leads:
            tqdm.write(said)
    net.to(device)
    if "frames" in model.inputs(config["model"]):
        net.to(memory_format=torch.channels_last_3d)
    return net


def advise_batch(try_batch: Callable[[int], None], too_many: int) -> str:
    """What to do about a batch of `too_many` clips that memory does not hold.

    Args:
        try_batch: trains on so many clips, or raises torch.OutOfMemoryError.
    """
    size = too_many // 2
    while size:
        try:
            try_batch(size)
        except torch.OutOfMemoryError:
            size //= 2
        else:
            return f"Batches of {size} fit: --batch-size {size}, in another --runs"
    return "Not even one clip fits: take another GPU, or --preset tiny"


def make_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Adam with weight decay apart from the gradient, of matrices and kernels; without it, Adam."""
    decayed = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() <= 1]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        fused=True,
    )


def _ema(decay: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A running mean that forgets faster at first, so that it does not hold on to the start."""

    def average(mean: Tensor, value: Tensor, updates: Tensor) -> Tensor:
        if not mean.is_floating_point():  # batch norm's counter
            return value
        # A tensor on the device: as a number, each weight would wait for the GPU.
        kept = ((1 + updates) / (10 + updates)).clamp(max=decay)
        return torch.lerp(mean, value, (1 - kept).to(mean.dtype))

    return average


def _counted(batches: Iterable[Batch], split: Sequence[Tensor], bar: tqdm) -> Iterator[Batch]:
    """The same batches; the whole batch that each is a share of is shown when it is done."""
    for batch, whole in zip(batches, split, strict=True):
        yield batch
        bar.update(len(whole))


def _training_state(trainee: Trainee, totals: Totals) -> dict[str, Any]:
    """What a run needs to go on, besides the weights that are tested."""
    device, averaged = totals.loss.device, trainee.averaged
    return {
        "net": trainee.net.state_dict() if averaged else None,
        "updates": int(averaged.n_averaged) if averaged else 0,
        "optimizer": trainee.optimizer.state_dict(),
        "clips": totals.clips,
        "loss": totals.loss,
        "correct": totals.correct,
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _restore(
    run: Path,
    config: Mapping[str, Any],
    trainee: Trainee,
    device: torch.device,
) -> tuple[Totals, list[dict[str, Any]]]:
    """Load the last checkpoint, or the one before it if that one is damaged or missing.

    Returns:
        Totals of the epoch that was left in its middle, and the metrics of those before.

    Raises:
        CheckpointError: if the checkpoint is of another run, or does not fit its metrics.
    """
    totals = Totals.zero(device)
    paths = [path for path in (run / "last.pt", run / PREVIOUS) if path.is_file()]
    if not paths:
        return totals, []
    path = paths[0]
    try:
        state = load(path, device)
    except CheckpointError as exc:
        if len(paths) == 1:
            raise
        path = paths[1]
        print(f"warning: {exc}; going on from {path.name}", file=sys.stderr)
        state = load(path, device)
    check_same(path, state["config"], config)
    epoch, training = state["epoch"], state["training"]
    lines = [] if epoch == 0 else read_lines(run)
    if not isinstance(epoch, int) or not 0 <= epoch <= min(config["epochs"], len(lines)):
        raise CheckpointError(
            f"{path}: is of epoch {epoch!r}, metrics.jsonl has {len(lines)} of {config['epochs']}. "
            "They do not belong together: remove that folder"
        )
    try:
        trainee.tested.load_state_dict(state["model"])
        if trainee.averaged:
            trainee.averaged.n_averaged.fill_(training["updates"])
            trainee.net.load_state_dict(training["net"])
        trainee.optimizer.load_state_dict(training["optimizer"])
        if training["clips"]:
            totals = Totals(training["loss"], training["correct"], training["clips"])
            torch.set_rng_state(training["random"].cpu())
            if device.type == "cuda" and training["random_cuda"] is not None:
                torch.cuda.set_rng_state(training["random_cuda"].cpu(), device)
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as exc:
        raise CheckpointError(f"{path}: does not fit the network ({exc})") from exc
    return totals, lines[:epoch]
