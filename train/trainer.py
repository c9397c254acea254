"""Training of one fold: its epochs, and what happens in each step.

Read `Trainer.fit` first, then `train_step`.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

import model
from cache.command import FailedError
from cache.ravdess import EMOTIONS, Clip
from cache.reader import Cache
from model.cfn_sr import CfnSr
from model.device import describe
from model.inference import classify
from model.inputs import Prepare
from model.weights import (
    PARTS,
    WeightsError,
    classifier_of,
    find_encoder,
    has_classifier,
    load_encoder,
    load_weights,
)
from train.augment import Augmentation, mfcc_statistics, mfcc_styles, to_targets
from train.distributed import World
from train.landmarks import mean_faces
from train.log import Log
from train.recipe import Recipe, learning_rate
from train.record import (
    Checkpoint,
    EpochMetrics,
    RunConfig,
    RunError,
    remove_start,
    save_checkpoint,
    write_config,
    write_predictions,
)
from train.seeds import DROPOUT, ORDER, WEIGHTS, generator, seed_of
from train.start import Start
from train.stream import Batch, Clips, place


class TrainingError(FailedError):
    """Training cannot continue; the message says why and what to do."""


@dataclass
class Totals:
    """Sums over the clips of a pass; tensors on the device, so that no step waits for them."""

    loss: Tensor
    correct: Tensor
    clips: int = 0

    @classmethod
    def zero(cls, device: torch.device) -> "Totals":
        return cls(torch.zeros((), device=device), torch.zeros((), device=device))

    def add(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: losses (B,), logits (B, 8), labels (B,)."""
        self.loss += losses.detach().sum()
        self.correct += (logits.argmax(dim=1) == labels).sum()

    @property
    def mean_loss(self) -> float:
        return self.loss.item() / self.clips

    @property
    def accuracy(self) -> float:
        return self.correct.item() / self.clips


class Trainer:
    """Trains one fold of one network for a fixed number of epochs; the last one is the result.

    Every step draws its random numbers from the seed, the epoch and its own number, so a run that
    is resumed after any epoch is, on the CPU, the run that was never stopped, to the bit.

        trainer = Trainer(config, cache, train_clips, test_clips, device=device)
        metrics = trainer.fit("runs/cfn_sr/fold_0")

    Args:
        config: the settings of the run.
        cache: the cache that the clips are in.
        train_clips, test_clips: the clips of the fold.
        device: the device to train on.
        world: the processes that train together; by default only this one.
        starts: the weights that the encoders "video" and "audio" start from; others are random.

    Attributes:
        net: the network that is trained.
        averaged: the exponential moving average (EMA) of its weights, if the recipe has one.
        epoch: the number of finished epochs.
        metrics: one entry per finished epoch.

    Raises:
        WeightsError: if a start does not match the network.
    """

    def __init__(
        self,
        config: RunConfig,
        cache: Cache,
        train_clips: list[Clip],
        test_clips: list[Clip],
        *,
        device: torch.device,
        world: World | None = None,
        starts: Mapping[str, Start] | None = None,
    ):
        self.config = config
        self.recipe = recipe = config.settings
        self.device = device
        self.world = world or World()
        self.epoch = 0
        self.metrics: list[EpochMetrics] = []

        # The network, its average and the optimizer. `call` is the network as it is called in
        # training: the same weights, wrapped for several processes and compiled if asked for.
        self.net = build_network(config, starts or {}, device)
        self.started = started_parts(config, self.net, starts or {})
        settle(self.started, recipe.started_rate)  # before processes agree on what is trained
        self.call = self.world.wrap(self.net, device)
        self.averaged = make_average(self.net, recipe.ema) if recipe.ema else None
        self.optimizer = make_optimizer(self.net, recipe, self.started)
        self.loss = model.loss(config.model)
        self.precision = getattr(torch, config.precision)
        if config.compiled:
            self.call = torch.compile(self.call)

        # The clips. Only the fields that the network looks at are read.
        frames, size = model.input_size(config.preset)
        fields = model.inputs(config.model, config.preset)
        self.train_set = Clips(cache, train_clips, fields, frames)
        self.test_set = Clips(cache, test_clips, fields, frames)
        self.batch_sizes = batch_sizes(len(train_clips), recipe.batch_size)

        # Statistics of the MFCCs of the training clips, for normalization and augmentation.
        self.styles, self.statistics = None, {}
        if "mfcc" in fields and (recipe.mfcc_normalize or recipe.mfcc_style):
            self.styles = mfcc_styles(self.train_set)
            if recipe.mfcc_normalize:
                mean, std = mfcc_statistics(self.styles)
                self.statistics = {"mfcc_mean": mean.to(device), "mfcc_std": std.to(device)}
        self.faces = mean_faces(self.train_set) if "landmarks" in fields else None
        self.prepare = Prepare(frames, size, **self.statistics)

        self.train_source, where = place(self.train_set, device)
        self.test_source, _ = place(self.test_set, device)
        self.where = f"{where}, batch size {recipe.batch_size}, {config.precision}"

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated and saved: the average of the weights if there is one."""
        return self.averaged.module if self.averaged else self.net

    def fit(self, folder: Path | str) -> list[EpochMetrics]:
        """Train from the last finished epoch to the end, and write the run's files to `folder`.

        Returns:
            The metrics of all epochs.

        Raises:
            TrainingError: if a loss is not finite, or memory runs out.
            OSError: if a file cannot be read or written.
        """
        folder = Path(folder)
        log = Log(folder, self.config, self.epoch) if self.world.is_main else None
        if log:
            tqdm.write(self.where)
            write_config(folder, self.config)
        predictions = None
        try:
            while self.epoch < self.config.epochs:
                started = time.perf_counter()
                trained = self.train_epoch(log)
                train_seconds = time.perf_counter() - started
                tested, predictions = self.evaluate()
                self.epoch += 1
                self.metrics.append(
                    EpochMetrics(
                        epoch=self.epoch,
                        train_loss=trained.mean_loss,
                        train_accuracy=trained.accuracy,
                        test_loss=tested.mean_loss,
                        test_accuracy=tested.accuracy,
                        learning_rate=self.optimizer.param_groups[0]["lr"],
                        clips_per_second=trained.clips / train_seconds,
                        seconds=time.perf_counter() - started,
                    )
                )
                if log:
                    # Metrics first: a checkpoint is then never ahead of them.
                    log.end_epoch(self.metrics)
                    self.save(folder)
        except RuntimeError as exc:
            self._explain(exc)
            raise
        finally:
            if log:
                log.close()
                if not self.epoch:  # a failed start leaves nothing behind
                    remove_start(folder)
        if predictions is None:  # the run was stopped between its last checkpoint and this point
            _, predictions = self.evaluate()
        if log:
            write_predictions(folder, self.test_set.clips, predictions)
        return self.metrics

    def _explain(self, exc: RuntimeError) -> None:
        """Raise a TrainingError if what torch raised has a cure."""
        if isinstance(exc, torch.OutOfMemoryError):
            raise TrainingError(
                f"out of memory on {describe(self.device)} with batch size "
                f"{self.recipe.batch_size}. Lower --batch-size, or use --preset tiny"
            ) from exc
        if type(exc).__module__.startswith(("torch._inductor", "torch._dynamo")):
            reason = f"{type(exc).__name__}: {exc}".splitlines()[0]
            raise TrainingError(
                f"--compile failed ({reason}). Install a C++ compiler such as g++, or train "
                "without --compile"
            ) from exc

    def train_epoch(self, log: Log | None = None) -> Totals:
        """Pass once over the training clips, in an order drawn from the seed and the epoch.

        Returns:
            The totals over all processes.
        """
        epoch = self.epoch + 1
        if log:
            log.begin_epoch(epoch)
        self.call.train()
        settle(self.started, self.recipe.started_rate)  # the line above put all in training mode
        augment = Augmentation(
            *(self.recipe, self.config.seed, epoch, len(self.train_set)),
            styles=self.styles,
            faces=self.faces,
        )
        order = torch.randperm(
            len(self.train_set), generator=generator(self.config.seed, epoch, ORDER)
        )
        split = order.split(self.batch_sizes)
        batches = self.train_source.batches(
            [self.world.local_batch(batch) for batch in split], self.device
        )
        totals = Totals.zero(self.device)
        for step, batch in enumerate(batches):
            self.train_step(step, batch, augment, totals)
            if log:
                log.advance(len(split[step]))
        self.world.all_reduce(totals.loss)
        self.world.all_reduce(totals.correct)
        _check_finite(totals.mean_loss, f"the training loss of epoch {epoch}")
        return totals

    def train_step(self, step: int, batch: Batch, augment: "Augmentation", totals: Totals) -> None:
        """One optimizer step on this process's part of a batch.

        Args:
            step: the number of the batch in this epoch, from 0.
            batch: positions, fields and labels of the local clips.
            augment: the random changes of this epoch.
            totals: the sums that the batch is added to.
        """
        positions, fields, labels = batch
        batch_size = self.batch_sizes[step]
        num_local = self.world.num_local(batch_size)

        # The learning rate follows the schedule; dropout is seeded by step, so that a resumed run
        # draws the same numbers as an uninterrupted run.
        steps = len(self.batch_sizes)
        done = (self.epoch * steps + step) / (self.recipe.epochs * steps)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, done) * group["relative_rate"]
        torch.manual_seed(seed_of(self.config.seed, self.epoch + 1, DROPOUT, step, self.world.rank))

        # Crop and augment: each clip once, the same for all of its frames. Person and voice change
        # before the inputs are normalized; spans are hidden and clips mixed after.
        fields = augment.change_person(positions, fields)
        frames, sound = self.prepare(fields, augment.crops[positions])
        frames, sound = augment.change_inputs(step, positions, frames, sound)
        targets = augment.targets(step, labels)

        # Forward: logits in float32, whatever the precision inside the network.
        logits = classify(self.call, (frames, sound), self.precision)
        losses = self.loss(logits, targets)  # (B,)

        # Backward, from the mean over the whole batch. Gradients are averaged over the processes,
        # so each counts its own clips and scales by the number of processes.
        counted = losses[:num_local].sum() if num_local else 0 * losses.sum()
        self.optimizer.zero_grad(set_to_none=True)
        (counted * (self.world.size / batch_size)).backward()

        # Optimizer, then the average of the weights.
        self.optimizer.step()
        if self.averaged:
            self.averaged.update_parameters(self.net)

        totals.add(losses[:num_local], logits[:num_local], labels[:num_local])
        totals.clips += batch_size

    @torch.no_grad()  # not inference_mode, in which the buffers of a stream would be made too
    def evaluate(self) -> tuple[Totals, Tensor]:
        """Pass once over the held-out clips, without augmentation.

        Returns:
            The totals, and probabilities float32 (N, 8) on the CPU, in the order of the clips.
        """
        net = self.evaluated.eval()
        for buffer in net.buffers():  # batch statistics, which CPU processes collect separately
            self.world.broadcast(buffer)
        num_clips = len(self.test_set)
        probabilities = torch.zeros(num_clips, len(EMOTIONS), device=self.device)
        totals = Totals.zero(self.device)
        local = torch.arange(num_clips)[self.world.rank :: self.world.size]
        split = local.split(self.recipe.batch_size)
        for positions, fields, labels in self.test_source.batches(split, self.device):
            logits = classify(net, self.prepare(fields), self.precision)
            totals.add(self.loss(logits, to_targets(labels)), logits, labels)
            probabilities[positions.to(self.device)] = logits.softmax(dim=1)
        for tensor in (totals.loss, totals.correct, probabilities):
            self.world.all_reduce(tensor)
        totals.clips = num_clips
        _check_finite(totals.mean_loss, "the loss on the held-out clips")
        return totals, probabilities.cpu()

    def save(self, folder: Path) -> None:
        """Write last.pt: the evaluated weights, and all that training needs to resume."""
        save_checkpoint(
            folder,
            self.config,
            epoch=self.epoch,
            weights=self.evaluated.state_dict(),
            statistics=self.statistics,
            training={
                "net": self.net.state_dict() if self.averaged else None,
                "updates": int(self.averaged.n_averaged) if self.averaged else 0,
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def restore(self, checkpoint: Checkpoint, metrics: list[EpochMetrics]) -> None:
        """Continue from a checkpoint.

        Args:
            checkpoint: the checkpoint of this run, on the device.
            metrics: the metrics of the run; those of later epochs are dropped.

        Raises:
            RunError: if the checkpoint is of another run, or does not fit the metrics.
        """
        differences = checkpoint.config.differences(self.config)
        if differences:
            raise RunError(
                f"{checkpoint.path}: from a run with other settings (recorded and current: "
                f"{'; '.join(differences)}). Remove that folder"
            )
        if len(metrics) < checkpoint.epoch:
            raise RunError(
                f"{checkpoint.path}: epoch {checkpoint.epoch}, but metrics.jsonl has "
                f"{len(metrics)} epochs. They do not belong together: remove that folder"
            )
        state = checkpoint.training
        try:
            load_weights(self.evaluated, checkpoint.weights)
            if self.averaged:
                self.averaged.n_averaged.fill_(state["updates"])
                load_weights(self.net, state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as exc:
            raise RunError(
                f"{checkpoint.path}: does not match the network ({str(exc).splitlines()[0]})"
            ) from exc
        self.epoch = checkpoint.epoch
        self.metrics = metrics[: checkpoint.epoch]


def build_network(
    config: RunConfig, starts: Mapping[str, Start], device: torch.device
) -> nn.Module:
    """The network with its first weights: drawn from the seed, or loaded from files.

    Raises:
        WeightsError: if a file does not match the network.
    """
    torch.manual_seed(seed_of(config.seed, 0, WEIGHTS))
    net = model.build(config.model, config.preset, attention=config.attention)
    for part, start in starts.items():
        try:
            loaded = load_encoder(net, part, start.state)
        except WeightsError as exc:
            raise WeightsError(f"--init-{part} {start.record['file']}: {exc}") from exc
        print(loaded)
    if config.settings.product_start and isinstance(net, CfnSr) and len(starts) < len(PARTS):
        print("classifier: starts from random weights, since not both encoders have a start")
    if starts_at_product(config, net, starts):
        classifiers = [classifier_of(part, starts[part].state) for part in PARTS]
        net.start_at_product(*classifiers)
        print("classifier: starts from those of the unimodal networks")
    net.to(device)
    if "frames" in model.inputs(config.model, config.preset):
        net.to(memory_format=torch.channels_last_3d)
    return net


def starts_at_product(config: RunConfig, net: nn.Module, starts: Mapping[str, Start]) -> bool:
    """Whether the classifier of a fusion network starts from those of the unimodal networks."""
    both = starts.keys() == set(PARTS)
    return config.settings.product_start and both and isinstance(net, CfnSr)


def started_parts(
    config: RunConfig, net: nn.Module, starts: Mapping[str, Start]
) -> list[nn.Module]:
    """The encoders of a network that start from weights, and the classifiers that do too."""
    parts = [net.head] if starts_at_product(config, net, starts) else []
    for part, start in starts.items():
        encoder, classifier = find_encoder(net, part)
        parts.append(encoder)
        if classifier is not None and has_classifier(part, classifier, start.state):
            parts.append(classifier)
    return parts


def make_optimizer(
    net: nn.Module, recipe: Recipe, started: Sequence[nn.Module] = ()
) -> torch.optim.Optimizer:
    """AdamW, which without weight decay is Adam; only matrices and kernels decay.

    Args:
        net: the network.
        recipe: the learning rate, weight decay, and relative rate of started encoders.
        started: the encoders that start from weights; at rate 0 they are not trained.
    """
    slow = {parameter for encoder in started for parameter in encoder.parameters()}
    groups = []
    for rate, chosen in ((1.0, set(net.parameters()) - slow), (recipe.started_rate, slow)):
        # In the order of the network, so that a checkpoint of the optimizer fits.
        trained = [p for p in net.parameters() if p in chosen and rate]
        decayed = [p for p in trained if p.dim() > 1]
        others = [p for p in trained if p.dim() <= 1]
        for params, decay in ((decayed, recipe.weight_decay), (others, 0.0)):
            if params:
                groups.append({"params": params, "weight_decay": decay, "relative_rate": rate})
    if not groups:
        raise ValueError(
            "started_rate is 0, but every part starts from weights, so there is nothing to train. "
            "Use a rate above 0"
        )
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def settle(started: Sequence[nn.Module], rate: float) -> None:
    """Keep what encoders that start from weights know, as `Recipe.started_rate` says.

    Args:
        started: the encoders, in training mode.
        rate: their relative learning rate. Below 1, batch norms use and keep the statistics that
            they start with; at 0 the encoder is as in evaluation, without dropout.
    """
    for encoder in started:
        encoder.requires_grad_(rate > 0)
        for module in encoder.modules():
            if rate == 0 or (rate < 1 and isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d)):
                module.eval()


def make_average(net: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a network's weights and buffers.

    The decay grows to `decay` over the first steps, (1 + n) / (10 + n) after n of them, so that
    the average forgets its start.
    """
    return AveragedModel(net, avg_fn=_average(decay), use_buffers=True)


def _average(decay: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def average(mean: Tensor, value: Tensor, updates: Tensor) -> Tensor:
        if not mean.is_floating_point():  # the batch counter of batch norm
            return value
        # A tensor on the device: as a Python number, each weight would wait for the GPU.
        kept = ((1 + updates) / (10 + updates)).clamp(max=decay)
        return torch.lerp(mean, value, (1 - kept).to(mean.dtype))

    return average


def batch_sizes(num_clips: int, batch_size: int) -> list[int]:
    """The size of each batch of an epoch; the last takes what is left.

    A last batch of a single clip is joined to the one before, since batch norm cannot learn from
    one value.
    """
    full, rest = divmod(num_clips, batch_size)
    sizes = [batch_size] * full + [rest] * (rest > 0)
    if len(sizes) > 1 and rest == 1:
        sizes[-2:] = [batch_size + 1]
    return sizes


def _check_finite(loss: float, what: str) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"{what} is {loss}, so training has diverged. The last checkpoint is kept; train again "
            "with a smaller --lr"
        )
