"""What tests of training share: quick runs, and ways to look at them and to interrupt them."""

import itertools
import json
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

import model
from cache.ravdess import Clip, actors_of
from cache.reader import Cache
from train.cli import main
from train.distributed import World
from train.recipe import Recipe
from train.record import Checkpoint, Run, RunConfig, load_checkpoint, read_metrics, read_run
from train.stream import Clips, Resident, Streamed
from train.trainer import Trainer

AUDIO = "audio_mfcc_cnn"  # the fastest network
CPU = torch.device("cpu")
ONE = World()  # process


def arguments(cache: Path, runs: Path, *more: Any) -> list[str]:
    """Those of train.py for fold 0, one epoch of two steps; arguments in `more` override these."""
    quick = ["--model", AUDIO, "--fold", 0, "--preset", "tiny", "--device", "cpu"]
    quick += ["--epochs", 1, "--batch-size", 4]
    return [str(each) for each in ("--cache", cache, "--runs", runs, *quick, *more)]


def train(cache: Path, runs: Path, *more: Any) -> int:
    """Run train.py with these arguments."""
    return main(arguments(cache, runs, *more))


def checkpoint_of(runs: Path, name: str = AUDIO) -> Checkpoint:
    return load_checkpoint(runs / name / "fold_0" / "last.pt")


def fields_of(cache: Cache, clips: Iterable[Clip], names: Iterable[str]) -> dict[str, Tensor]:
    """The fields of some clips, each stacked along a first dimension."""
    arrays = {name: [cache.read(clip.clip_id, name) for clip in clips] for name in names}
    return {name: torch.from_numpy(np.stack(each)) for name, each in arrays.items()}


def assert_predictions_of_checkpoint(runs: Path, directory: Path, name: str = AUDIO) -> Run:
    """Fail unless the test clips of fold 0 have the probabilities of the checkpoint's network."""
    run, trained = read_run(runs / name / "fold_0"), checkpoint_of(runs, name).network()
    cache = Cache(directory)
    assert list(run.predictions.clips) == cache.of_actors((1, 2, 3, 4))
    expected = trained.probabilities(fields_of(cache, run.predictions.clips, trained.fields))
    np.testing.assert_allclose(run.predictions.probabilities, expected.numpy(), atol=2e-6)
    return run


def assert_clips_of_batches(source: Resident | Streamed, clips: Clips, device: Any) -> None:
    """Fail unless each clip comes once, in the order asked for, as it is in the cache."""
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0))
    seen = []
    for positions, fields, labels in source.batches(order.split(5), device):
        own = [clips.clips[position] for position in positions]
        assert labels.tolist() == [clip.label for clip in own]
        for name, expected in fields_of(clips.cache, own, ("frames", "mfcc")).items():
            assert (fields[name].device, fields[name].dtype) == (labels.device, expected.dtype)
            assert torch.equal(fields[name].cpu(), expected)
        assert labels.device == device
        seen += positions.tolist()
    assert seen == order.tolist()


def results_of(runs: Path, name: str = AUDIO) -> list[dict[str, float]]:
    """The metrics of a run without those that a clock gives."""
    timed = ("clips_per_second", "seconds")
    metrics = [asdict(each) for each in read_metrics(runs / name / "fold_0")]
    return [{key: each[key] for key in each if key not in timed} for each in metrics]


def same_state(one: Any, two: Any) -> bool:
    """Whether two nested states of tensors and numbers are equal to the bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same_state(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same_state, one, two))
    return one == two


def assert_same_run(one: Path, two: Path, name: str = AUDIO) -> None:
    """Fail unless two runs have the same weights, optimizer state, metrics and predictions."""
    first, second = checkpoint_of(one, name), checkpoint_of(two, name)
    assert first.epoch == second.epoch
    assert not first.config.differences(second.config)
    for part in ("weights", "statistics", "training"):
        assert same_state(getattr(first, part), getattr(second, part)), part
    assert results_of(one, name) == results_of(two, name)
    predictions = [runs / name / "fold_0" / "predictions.csv" for runs in (one, two)]
    assert predictions[0].read_bytes() == predictions[1].read_bytes()


@contextmanager
def sigterm_after_step(number: int) -> Iterator[None]:
    """Let SIGTERM arrive after optimizer step `number`, counted from 1."""
    steps = itertools.count(1)

    def interrupt(*_: Any) -> None:
        if next(steps) == number:
            signal.raise_signal(signal.SIGTERM)

    with register_optimizer_step_post_hook(interrupt):
        yield


def make_config(name: str = AUDIO, **changes: Any) -> RunConfig:
    """The config of a tiny run on fold 0; `changes` are settings as they are in config.json."""
    trained, tested = actors_of("paper", 0)
    if "parameters" not in changes:
        changes["parameters"] = model.count_parameters(model.build(name, "tiny"))
    content = {
        **{"model": name, "preset": "tiny", "attention": "mean", "split": "paper", "seed": 0},
        **{"fold": 0, "validation": False, "recipe": "paper"},
        **{"train_actors": list(trained), "test_actors": list(tested)},
        **{"train_clips": 8, "test_clips": 8, "precision": "float32", "init": {}},
        **{"deterministic": False, "compiled": False, "command": ["train.py"], "device": "cpu"},
        "cache": {"dataset": "noise", "config": {}, "fingerprint": "0f" * 32, "schema_version": 2},
        "versions": {"torch": "2.15.0"},
        **asdict(Recipe(epochs=2, batch_size=4)),
    }
    return RunConfig.from_json(json.loads(json.dumps(content | changes)))


def make_trainer(directory: Path, name: str = AUDIO, world: World = ONE, **changes: Any) -> Trainer:
    """A trainer of the tiny network on fold 0 of a cache, with settings as for `make_config`."""
    cache, config = Cache(directory), make_config(name, **changes)
    clips = [cache.of_actors(actors) for actors in (config.train_actors, config.test_actors)]
    return Trainer(config, cache, *clips, device=CPU, world=world)
