"""Runs as the trainer leaves them, made up, and the report that they give, taken apart."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from cache import ravdess
from cache.files import sha256_file
from cache.ravdess import EMOTIONS, expected_clips
from evaluate.cli import main
from evaluate.robustness.conditions import CONDITIONS
from evaluate.robustness.table import FILE_NAME
from evaluate.runs.run import Run

RAVDESS = "RAVDESS speech, full audio-video"


def make_run(fold: int, right: int, best: float = 0.9, model: str = "cfn_sr", **settings) -> Run:
    """A run of three epochs: `right` of 240 clips right at the last, the rest taken for the next
    emotion; test accuracy `best` in epoch 2."""
    clips = [clip for a in ravdess.test_actors("paper", fold) for clip in expected_clips(a)]
    labels = np.array([clip.label for clip in clips])
    predicted = np.where(np.arange(len(clips)) < right, labels, (labels + 1) % 8)
    cache = {"dataset": RAVDESS, "fingerprint": "0f" * 32, "schema_version": 1}
    config = {
        **{"model": model, "preset": "paper", "split": "paper", "fold": fold, "recipe": "paper"},
        **{
            "epochs": 3,
            "batch_size": 16,
            "learning_rate": 0.001,
            "seed": 0,
            "parameters": 26301417,
        },
        "train_actors": list(ravdess.actors_of("paper", fold)[0]),
        "test_actors": list(ravdess.test_actors("paper", fold)),
        **{"train_clips": 1200, "test_clips": 240, "device": "cpu", "cache": cache},
        "versions": {"torch": "2.15.0"},
        **settings,
    }
    epochs = tuple(
        {"epoch": epoch, "train_loss": 2 / epoch, "train_accuracy": 0.3 * epoch, "test_loss": 1.5}
        | {"test_accuracy": accuracy, "clips_per_second": 40.0, "seconds": 30.0}
        for epoch, accuracy in ((1, 0.1), (2, best), (3, right / 240))
    )
    shares = np.where(np.arange(8) == predicted[:, None], 0.65, 0.05)
    names = tuple(clip.clip_id for clip in clips)
    return Run(model, fold, config, epochs, names, labels, predicted, shares)


def write(runs: Path, run: Run) -> Path:
    """Write a run as the trainer does."""
    folder = runs / run.name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(run.config))
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in run.epochs))
    rows = [",".join(["clip_id", "label", "predicted", *(f"p_{name}" for name in EMOTIONS)])]
    for clip_id, label, predicted in zip(run.clip_ids, run.labels, run.predicted, strict=True):
        shares = ["0.65" if each == predicted else "0.05" for each in range(8)]
        rows.append(",".join([clip_id, str(label), str(predicted), *shares]))
    (folder / "predictions.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_robustness(folder: Path, accuracy: float) -> None:
    """What `evaluate.robustness` leaves in a run: `accuracy` as cached, in steps of 0.05 less."""
    conditions = [
        {
            **{"name": condition.name, "modality": condition.modality, "clips": 240},
            **{"accuracy": round(accuracy - 0.05 * number, 2), "reason": None},
        }
        for number, condition in enumerate(CONDITIONS)
    ]
    conditions[-1] |= {"accuracy": None, "reason": "the network sees no light"}
    content = {
        **{"schema_version": 1, "checkpoint_sha256": "0" * 64, "device": "cpu"},
        "predictions_sha256": sha256_file(folder / "predictions.csv"),
        "conditions": conditions,
    }
    (folder / FILE_NAME).write_text(json.dumps(content))


def origin_of(cache: Path) -> dict:
    """What config.json of a run says of the cache that it was trained from."""
    manifest = json.loads((cache / "manifest.json").read_text())
    return {name: manifest[name] for name in ("dataset", "fingerprint", "schema_version")}


def evaluate(runs: Path, out: Path) -> int:
    return main(["--runs", str(runs), "--out", str(out)])


class Tags(HTMLParser):
    """Collects the page's tags and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def page_text(out: Path) -> str:
    """The page's words, with single spaces."""
    tags = Tags()
    tags.feed((out / "report.html").read_text())
    return " ".join("".join(tags.text).split())
