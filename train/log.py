"""What a run shows and writes while it trains: a progress bar, metrics.jsonl, TensorBoard."""

import re
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from train.record import EpochMetrics, RunConfig, write_metrics


class Log:
    """Shows the progress of a run and writes its metrics; only the main process has one.

    TensorBoard scalars are written where TensorBoard is installed. Those of epochs after the
    `finished` ones are dropped: an interrupted run may have written them.
    """

    def __init__(self, folder: Path, config: RunConfig, finished: int):
        self.folder = folder
        self.config = config
        done, total = (epochs * config.train_clips for epochs in (finished, config.epochs))
        self.bar = tqdm(initial=done, total=total, unit="clip", mininterval=0.5)
        self.scalars = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.scalars = SummaryWriter(str(folder / "tensorboard"), purge_step=finished + 1)

    def begin_epoch(self, epoch: int) -> None:
        """Show which epoch is trained."""
        self.bar.set_description(f"fold {self.config.fold}, epoch {epoch}/{self.config.epochs}")

    def advance(self, num_clips: int) -> None:
        """Show that a batch is done."""
        self.bar.update(num_clips)

    def end_epoch(self, metrics: list[EpochMetrics]) -> None:
        """Write metrics.jsonl, show the last epoch and add it to TensorBoard."""
        write_metrics(self.folder, metrics)
        last = metrics[-1]
        self.bar.set_postfix_str(
            f"loss {last.train_loss:.3f}, train {last.train_accuracy:.1%}, "
            f"{'validation' if self.config.validation else 'test'} {last.test_accuracy:.1%}"
        )
        if self.scalars is None:
            return
        for name, value in asdict(last).items():
            if name != "epoch":
                # train_loss and test_loss as train/loss and test/loss, under one heading each.
                title = re.sub("^(train|test)_", r"\1/", name)
                self.scalars.add_scalar(title, value, last.epoch)
        self.scalars.flush()

    def close(self) -> None:
        self.bar.close()
        if self.scalars is not None:
            self.scalars.close()
