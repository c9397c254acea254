"""What an exported network says about itself: its metadata for programs, its card for people."""

from pathlib import Path

import numpy as np

import model
from cache import ravdess, schema
from cache.files import load_template
from evaluate.export.agreement import BATCHES
from evaluate.measures import interval_over_actors
from evaluate.origin import license_terms
from evaluate.runs import start_in_words
from model.paper import ROWS
from train.record import Run, RunConfig


def properties(config: RunConfig, checkpoint_sha256: str) -> dict[str, str]:
    """The metadata of an exported file, by name: where its network comes from."""
    settings = ("model", "preset", "attention", "split", "fold", "recipe", "epochs", "seed")
    return {
        "emotions": ",".join(ravdess.EMOTIONS),
        "checkpoint_sha256": checkpoint_sha256,
        **{name: str(getattr(config, name)) for name in settings},
        "test_actors": ",".join(map(str, config.test_actors)),
        "dataset": config.cache["dataset"],
        "cache_fingerprint": config.cache["fingerprint"],
        "licence": license_terms(config.cache["dataset"]),
        "use": "for research; not for decisions about people",
    }


def label_of(name: str) -> str:
    """What the paper calls a network; its own name if it is not in the paper."""
    return ROWS[name].label if name in ROWS else name


def card(file: str, config: RunConfig, sha256: str, run: Run | None, checked: str) -> str:
    """The model card, Markdown.

    Args:
        file: the name of the exported file.
        config: the settings of the run that it was made from.
        sha256: the hash of its checkpoint.
        run: the run with its metrics and predictions, if they are known.
        checked: the clips that it was compared with torch on, and the differences, in words.
    """
    interval = None
    if run:
        right = run.predictions.labels == run.predictions.predicted
        actors = np.array([clip.actor for clip in run.predictions.clips])
        interval = interval_over_actors(right.astype(float), np.ones(len(right)), actors)
    return load_template(Path(__file__).with_name("model_card.md.j2")).render(
        file=file,
        config=config,
        sha256=sha256,
        label=label_of(config.model),
        fields={name: schema.FIELDS[name] for name in model.inputs(config.model, config.preset)},
        ravdess=ravdess,
        schema=schema,
        terms=license_terms(config.cache["dataset"]),
        start=start_in_words(config.init),
        run=run,
        interval=interval,
        batches=BATCHES,
        checked=checked,
        recordings=ravdess.is_recordings(config.cache["dataset"]),
        subject="This is the network of one fold",
    )
