"""One run: the epochs of one fold, from the first weights to the last predictions."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import model
from cache.files import sweep, write_json
from cache.ravdess import Clip
from cache.reader import Cache
from model.device import describe
from model.prepare import Prepare
from train.checkpoint import PREVIOUS, save
from train.inputs import Changes, batch_sizes, mfcc_statistics, mfcc_styles
from train.loop import Totals, TrainingError, test, train_epoch
from train.parallel import ALONE, Team
from train.recipe import Recipe, learning_rate
from train.run_files import (
    check_folder,
    is_done,
    read_lines,
    write_lines,
    write_predictions,
)
from train.seeds import ORDER, generator
from train.start import Start
from train.stream import Batch, Clips, place
from train.trainee import Trainee, build, restore, training_state
from train.watch import Scalars


class Stopped(Exception):
    """The run was asked to stop, and its state is saved."""


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

    Every step draws its random numbers from seed, epoch and its own number, so a run that goes on
    from a checkpoint is the run that was never stopped.

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

    net = build(config, starts, device, team)
    call = team.wrap(net, device)
    trainee = Trainee.of(net, recipe)
    statistics, styles = {}, None
    if "mfcc" in model.inputs(name) and (recipe.mfcc_normalise or recipe.mfcc_style):
        styles = mfcc_styles(train_set)
        if recipe.mfcc_normalise:
            mean, std = mfcc_statistics(styles)
            statistics = {"mfcc_mean": mean.to(device), "mfcc_std": std.to(device)}

    totals, lines = Totals.zero(device), []
    if resume:
        totals, lines = restore(run, config, trainee, device)
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
                training=training_state(trainee, totals),
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
        **({} if team.leads else {"disable": True}),  # else TQDM_DISABLE decides
    )
    for epoch in range(len(lines) + 1, recipe.epochs + 1):
        started, before = time.perf_counter(), totals.clips
        bar.set_description(f"fold {config['fold']}, epoch {epoch}/{recipe.epochs}")
        order = torch.randperm(clips, generator=generator(seed, epoch, ORDER))
        split = order[before:].split(sizes[before // recipe.batch_size :])
        batches = train_source.batches([team.share(batch) for batch in split], device)
        train = partial(
            train_epoch,
            call,
            trainee.optimizer,
            changes=Changes(recipe, seed, epoch, clips, styles),
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
            f"{'validation' if config.get('validation') else 'test'} "
            f"{lines[-1]['test_accuracy']:.1%}"
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


def _counted(batches: Iterable[Batch], split: Sequence[Tensor], bar: tqdm) -> Iterator[Batch]:
    """The same batches; the whole batch that each is a share of is shown when it is done."""
    for batch, whole in zip(batches, split, strict=True):
        yield batch
        bar.update(len(whole))
