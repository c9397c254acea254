"""What training changes, from its first weights on: to disk and back."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

import model
from model.checkpoint import CheckpointError, load, load_weights
from model.weights import WeightsError, load_encoder
from train.checkpoint import PREVIOUS
from train.inputs import batch_sizes
from train.loop import Totals
from train.parallel import Team
from train.recipe import Recipe
from train.run_files import check_same, read_lines
from train.seeds import WEIGHTS, seed_of
from train.start import Start


@dataclass(frozen=True)
class Trainee:
    """What training changes: a network, the running mean of its weights, its optimiser's state."""

    net: nn.Module
    averaged: AveragedModel | None
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(cls, net: nn.Module, recipe: Recipe) -> "Trainee":
        averaged = None
        if recipe.ema:
            averaged = AveragedModel(net, avg_fn=_ema(recipe.ema), use_buffers=True)
        return cls(net, averaged, make_optimizer(net, recipe))

    @property
    def tested(self) -> nn.Module:
        """The network that is tested and used: the mean of the weights where there is one."""
        return self.averaged.module if self.averaged else self.net

    def average(self) -> None:
        """Take the weights after a step into their mean."""
        if self.averaged:
            self.averaged.update_parameters(self.net)


def build(
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


def training_state(trainee: Trainee, totals: Totals) -> dict[str, Any]:
    """What a run needs to go on, besides the weights that are tested."""
    averaged = trainee.averaged
    return {
        "net": trainee.net.state_dict() if averaged else None,
        "updates": int(averaged.n_averaged) if averaged else 0,
        "optimizer": trainee.optimizer.state_dict(),
        "clips": totals.clips,
        "loss": totals.loss,
        "correct": totals.correct,
    }


def restore(
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
        _check_place(training, config)
        load_weights(trainee.tested, state["model"])
        if trainee.averaged:
            trainee.averaged.n_averaged.fill_(training["updates"])
            load_weights(trainee.net, training["net"])
        _load_optimizer(trainee.optimizer, training["optimizer"], begun=epoch or training["clips"])
        if training["clips"]:
            totals = Totals(training["loss"], training["correct"], training["clips"])
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as exc:
        problem = (str(exc) or type(exc).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: does not fit the network ({problem})") from exc
    return totals, lines[:epoch]


def _check_place(training: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise ValueError unless a run stands between two batches, after a number of steps."""
    clips, updates = training["clips"], training["updates"]
    ends = {0, *accumulate(batch_sizes(config["train_clips"], config["batch_size"])[:-1])}
    if type(clips) is not int or clips not in ends:
        raise ValueError(f"it stands after {clips!r:.80} clips, where no batch ends")
    if type(updates) is not int or updates < 0:
        raise ValueError(f"updates are {updates!r:.80}, expected 0 or more")


def _load_optimizer(optimizer: torch.optim.Optimizer, state: Any, *, begun: bool) -> None:
    """Load an optimiser's state.

    Args:
        optimizer: as a new run has it.
        state: of the same parameters.
        begun: whether steps were made.

    Raises:
        ValueError: if its settings or the sizes of its moments are others, or not finite.
    """

    def settings() -> list[dict[str, Any]]:
        return [
            {name: value for name, value in group.items() if name not in ("params", "lr")}
            for group in optimizer.param_groups
        ]

    before = settings()
    optimizer.load_state_dict(state)
    if settings() != before:
        raise ValueError("the settings of its optimiser are others")
    if begun and not optimizer.state:
        raise ValueError("its optimiser knows of no step")
    for parameter, moments in optimizer.state.items():
        for name, tensor in moments.items():
            expected = torch.Size() if name == "step" else parameter.shape
            if tensor.shape != expected or not tensor.isfinite().all():
                raise ValueError(f"{name} of its optimiser is damaged")
