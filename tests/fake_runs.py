"""Made-up finished runs, written by the trainer's own writers, and the reports made from them."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training import make_config

from cache.files import sha256_file
from cache.ravdess import FULL_AV_ORIGIN, Clip, actors_of, expected_clips, sample_origin
from cache.reader import Cache
from evaluate.cli import main
from evaluate.robustness.conditions import CONDITIONS
from evaluate.robustness.table import Measured, Outcome
from model.registry import NAMES, inputs
from train import record
from train.record import EpochMetrics, Predictions, Run


def origin(dataset: str = FULL_AV_ORIGIN["dataset"], fingerprint: str = "0f" * 32) -> dict:
    """What config.json records of a cache."""
    return {"dataset": dataset, "config": {}, "fingerprint": fingerprint, "schema_version": 2}


SAMPLE = origin(sample_origin(seed=0)["dataset"])


def origin_of(cache: Path) -> dict:
    """What config.json records of an existing cache."""
    manifest = Cache(cache).manifest
    return {name: manifest[name] for name in origin()}


def start(run: dict | None = None) -> dict:
    """What `init` records of one encoder: a file of unknown actors, or the run that wrote it."""
    audio = {
        **{"model": "audio_mfcc_cnn", "preset": "paper", "split": "paper", "fold": 0},
        **{"validation": False, "epochs": 70, "recipe": "paper", "seed": 0, "init": {}},
    }
    return {"file": "a.pt", "sha256": "0" * 64, "run": None if run is None else audio | run}


def make_run(
    fold: int,
    right: int = 0,
    best: float = 0.9,
    model: str = "cfn_sr",
    *,
    clips: Sequence[Clip] | None = None,
    predicted: np.ndarray | None = None,
    **settings: Any,
) -> Run:
    """A run of 70 epochs, with test accuracy `best` in the second.

    Its `clips` are by default those of the fold's first actor, then those of the next, and so on;
    the first `right` of them are right after the last epoch, and the others are predicted as the
    next emotion, unless `predicted` gives the classes. `settings` are some of config.json.
    """
    validation = settings.get("validation", False)
    trained, tested = actors_of(settings.get("split", "paper"), fold, validate=validation)
    clips = clips or [clip for actor in tested for clip in expected_clips(actor)]
    labels = np.array([clip.label for clip in clips])
    if predicted is None:
        predicted = np.where(np.arange(len(clips)) < right, labels, (labels + 1) % 8)
    both = model in NAMES and len(inputs(model)) == 2
    same = {name: settings[name] for name in ("preset", "split", "seed") if name in settings}
    parts = {"video": same | {"model": "video_resnext50"}, "audio": same}
    init = {part: start(run) for part, run in parts.items()} if both else {}
    defaults = {
        **{
            "init": init,
            "preset": "paper",
            "parameters": 26301417,
            "cache": origin(),
            "fold": fold,
        },
        **{"train_actors": trained, "test_actors": tested, "test_clips": len(clips)},
        **{"command": ("train.py", "--cache", "my cache", "--fold", str(fold))},
        **{"train_clips": 1200, "epochs": 70, "batch_size": 16},
    }
    config = make_config(settings.pop("model", model), **(defaults | settings))
    others = [0.1] * (config.epochs - 3)
    accuracies = (0.1, best, *others, float(np.mean(predicted == labels)))
    metrics = tuple(
        EpochMetrics(epoch, 2 / epoch, 0.3, 1.5, accuracy, 0.001, 40.0, 30.0)
        for epoch, accuracy in enumerate(accuracies, start=1)
    )
    shares = np.where(np.arange(8) == predicted[:, None], 0.65, 0.05)
    return Run(config.folder, config, metrics, Predictions(tuple(clips), shares, predicted))


def write(runs: Path, *made: Run) -> Path:
    """Write runs as the trainer does; returns the folder of the last one."""
    for run in made:
        folder = runs / run.config.folder
        folder.mkdir(parents=True)
        record.write_config(folder, run.config)
        record.write_metrics(folder, run.metrics)
        tested = run.predictions
        record.write_predictions(folder, tested.clips, torch.from_numpy(tested.probabilities))
    return folder


def write_robustness(folder: Path, accuracy: float) -> None:
    """Write robustness.json: `accuracy` as cached, then in steps of 0.01 less, and none at last."""
    outcomes = [
        Outcome(each.name, each.modality, round(accuracy - 0.01 * number, 2), 240, None)
        for number, each in enumerate(CONDITIONS)
    ]
    outcomes[-1] = replace(outcomes[-1], accuracy=None, reason="the network uses no light")
    predictions = sha256_file(folder / record.PREDICTIONS)
    Measured("0" * 64, predictions, "cpu", tuple(outcomes)).write(folder)


def evaluate(runs: Path, out: Path, *more: object) -> int:
    return main(list(map(str, ["--runs", runs, "--out", out, *more])))


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, all as long as its header."""
    with path.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened, strict=True))
    assert all(None not in row and None not in row.values() for row in rows)
    return rows


def summary_of(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


class Tags(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def page_text(out: Path) -> str:
    """The words of the page, with single spaces."""
    return " ".join("".join(Tags((out / "report.html").read_text()).text).split())


def report_of(base: Path, *made: Run) -> str:
    """Write runs and their report, in `base / "out"`; returns the words of the page."""
    write(base / "runs", *made)
    assert evaluate(base / "runs", base / "out") == 0
    return page_text(base / "out")
