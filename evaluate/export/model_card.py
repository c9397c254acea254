"""What published networks say about themselves: metadata for programs, cards for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import model
from cache import ravdess, schema
from cache.files import load_template
from evaluate.measures import interval_over_actors
from evaluate.runs import shortfalls, start_in_words
from model.paper import ROWS
from train.record import Run, RunConfig


def properties(config: RunConfig, checkpoint_sha256: str) -> dict[str, str]:
    """The metadata of a published file, by name: where its network comes from."""
    settings = ("model", "preset", "attention", "split", "fold", "recipe", "epochs", "seed")
    return {
        "emotions": ",".join(ravdess.EMOTIONS),
        "checkpoint_sha256": checkpoint_sha256,
        **{name: str(getattr(config, name)) for name in settings},
        "test_actors": ",".join(map(str, config.test_actors)),
        "dataset": config.cache["dataset"],
        "cache_fingerprint": config.cache["fingerprint"],
        "licence": _license_terms(config.cache["dataset"]),
        "use": "for research; not for decisions about people",
    }


def card(file: str, config: RunConfig, sha256: str, run: Run | None, checked: str) -> str:
    """The card of an ONNX file, Markdown.

    `sha256` is that of the checkpoint, `run` has the accuracy if the files of the run exist, and
    `checked` says how the file was compared with torch.
    """
    interval = None
    if run:
        right = run.predictions.labels == run.predictions.predicted
        actors = np.array([clip.actor for clip in run.predictions.clips])
        interval = interval_over_actors(right.astype(float), np.ones(len(right)), actors)
    return _render(
        "model_card.md.j2",
        config,
        file=file,
        sha256=sha256,
        fields={name: schema.FIELDS[name] for name in model.inputs(config.model, config.preset)},
        schema=schema,
        start=start_in_words(config),
        run=run,
        interval=interval,
        checked=checked,
        subject="This is the network of one fold",
    )


def weights_card(
    files: Sequence[str], runs: Sequence[Run], points: str | None, *, half: bool, normalized: bool
) -> str:
    """The card of the weights of several folds, one file each, Markdown.

    `points` says what found the facial points of the cache; `half` that weights are float16, and
    `normalized` that the files have a mean and a std of MFCCs.
    """
    return _render(
        "weights_card.md.j2",
        runs[0].config,
        names=files,
        runs=runs,
        mean=np.mean([run.predictions.accuracy for run in runs]),
        starts=sorted({start_in_words(run.config) for run in runs}),
        points=points,
        half=half,
        normalized=normalized,
        subject="These are the networks of single folds",
    )


def _render(template: str, config: RunConfig, runs: Sequence[Run] = (), **values: Any) -> str:
    """Fill in a card; networks have the labels of the paper, or else their own names."""
    return load_template(Path(__file__).with_name(template)).render(
        config=config,
        runs=runs,
        label=ROWS[config.model].label if config.model in ROWS else config.model,
        ravdess=ravdess,
        missing=shortfalls([run.config for run in runs] or [config]),
        recordings=ravdess.is_recordings(config.cache["dataset"]),
        terms=_license_terms(config.cache["dataset"]),
        **values,
    )


def _license_terms(dataset: str) -> str:
    """The terms of weights that were learned from a dataset, in words."""
    if not ravdess.is_recordings(dataset):
        return f"learned from {dataset}, under the terms of that dataset"
    terms = ravdess.FULL_AV_ORIGIN["license"]
    return (
        f"learned from RAVDESS, which is under {terms}: not for commercial use, and to be shared "
        "under the same terms"
    )
