"""Scalars of a run for TensorBoard, where it is installed; metrics.jsonl has them all anyway."""

from pathlib import Path
from typing import Any

FOLDER = "tensorboard"  # in the run's folder


class Scalars:
    """Writes the numbers of each epoch; does nothing where TensorBoard is not installed.

    Args:
        run: folder of the run.
        epochs: that are done already; what an interrupted run wrote of later ones is dropped.
    """

    def __init__(self, run: Path, epochs: int):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.writer = None
        else:
            self.writer = SummaryWriter(str(run / FOLDER), purge_step=epochs + 1)

    def add(self, line: dict[str, Any]) -> None:
        """Write one line of metrics.jsonl: each number under its name, at its epoch."""
        if self.writer is None:
            return
        for name, value in line.items():
            if name != "epoch":
                self.writer.add_scalar(_titled(name), value, line["epoch"])
        self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def _titled(name: str) -> str:
    """Losses and accuracies of training and test under one heading each: `train/loss`."""
    part, _, rest = name.partition("_")
    return f"{part}/{rest}" if part in ("train", "test") else name
