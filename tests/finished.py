"""Finished runs of networks that were never trained: files that belong together, in a second."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from networks import unusual_statistics
from torch.nn import functional

import model
from cache import ravdess
from cache.manifest import describe_shard, write_manifest
from cache.ravdess import Clip, expected_clips
from cache.reader import Cache
from cache.schema import COMPUTED, FRAME_COUNT, SAMPLE_COUNT, shard_name
from cache.shard import write_shard
from model.checkpoint import load_trained
from preprocess.audio import mfcc
from train.checkpoint import save
from train.run_files import write_lines, write_predictions


def write_cache(
    directory: Path, clips: Iterable[Clip], arrays: Callable[[Clip], dict[str, np.ndarray]]
) -> Path:
    """A finished cache of the arrays that are given for each clip."""
    directory.mkdir(parents=True)
    clips = sorted(clips)
    shards = []
    for actor in sorted({clip.actor for clip in clips}):
        own = [clip for clip in clips if clip.actor == actor]
        rows = [(clip, arrays(clip)) for clip in own]
        fields = tuple(name for name in COMPUTED if name in rows[0][1])
        write_shard(directory / shard_name(actor), len(own), fields, iter(rows))
        shards.append(describe_shard(directory / shard_name(actor), len(own)))
    record = {"source": "made by a test", "source_sha256": "0" * 64, "notes": []}
    write_manifest(
        directory,
        origin={"dataset": "noise", "license": "CC0 1.0", "citation": "none"},
        config={"test": 2},
        versions={},
        shards=shards,
        clips={clip.clip_id: record for clip in clips},
    )
    return directory


def clips_with_sound(directory: Path, actors: Iterable[int] = (1, 2, 3, 4)) -> Path:
    """A cache of smooth pictures and hoarse tones, two clips an actor, with waveforms."""

    def arrays(clip: Clip) -> dict[str, np.ndarray]:
        random = np.random.default_rng(clip.label + 8 * clip.actor)
        coarse = torch.from_numpy(random.uniform(0, 255, (FRAME_COUNT, 3, 7, 7)))
        pictures = functional.interpolate(coarse, (224, 224), mode="bilinear")
        tone = np.sin(np.arange(SAMPLE_COUNT) * random.uniform(0.01, 0.3))
        sound = 6_000 * tone + random.normal(0, 500, SAMPLE_COUNT)
        waveform = sound.astype(np.int16)
        return {
            "frames": pictures.permute(0, 2, 3, 1).round().byte().contiguous().numpy(),
            "frame_index": np.arange(FRAME_COUNT, dtype=np.uint16),
            "face_box": np.zeros((FRAME_COUNT, 4), np.float32),
            "face_score": np.ones(FRAME_COUNT, np.float32),
            "mfcc": mfcc(waveform.astype(np.float32) / 32_768),
            "waveform": waveform,
        }

    clips = [clip for actor in actors for clip in expected_clips(actor)[:12:6]]
    return write_cache(directory, clips, arrays)


def finished_run(
    runs: Path,
    cache_directory: Path,
    name: str = "cfn_sr",
    fold: int = 0,
    *,
    preset: str = "tiny",
    done: int = 2,
    change: Callable[[torch.nn.Module], None] = lambda net: None,
    **settings,
) -> Path:
    """A run of two epochs with config.json, metrics.jsonl, last.pt and predictions.csv.

    Args:
        runs: folder of runs.
        cache_directory: of which the fold's test clips are predicted.
        name, preset, fold: of the network.
        done: epochs that the checkpoint says are done.
        change: what to do to the network before it is saved.
        settings: in place of those of config.json.
    """
    torch.manual_seed(0)
    net = unusual_statistics(model.build(name, preset))
    change(net)
    cache = Cache(cache_directory)
    clips = cache.of_actors(ravdess.test_actors("paper", fold))
    config = {
        **{"model": name, "preset": preset, "split": "paper", "fold": fold, "recipe": "modern"},
        **{"epochs": 2, "batch_size": 16, "learning_rate": 0.001, "seed": 0},
        **{"parameters": model.count_parameters(net), "precision": "float32", "init": {}},
        "train_actors": list(ravdess.actors_of("paper", fold)[0]),
        "test_actors": list(ravdess.test_actors("paper", fold)),
        **{"train_clips": 1200, "test_clips": len(clips), "device": "cpu (1 thread)"},
        "cache": {key: cache.manifest[key] for key in ("dataset", "fingerprint", "schema_version")},
        "versions": {"torch": "2.15.0"},
        **settings,
    }
    inputs = {}
    if "mfcc" in model.inputs(name):
        inputs = {
            "mfcc_mean": torch.linspace(-300, 10, 13)[:, None],
            "mfcc_std": torch.linspace(90, 5, 13)[:, None],
        }
    folder = runs / name / f"fold_{fold}"
    folder.mkdir(parents=True)
    state = net.state_dict()
    path = folder / "last.pt"
    save(path, epoch=done, config=config, model=state, inputs=inputs, training={})
    (folder / "config.json").write_text(json.dumps(config))
    trained = load_trained(path)
    probabilities = torch.cat([trained.probabilities(read(cache, name, clip)) for clip in clips])
    right = [
        int(row.argmax()) == clip.label for row, clip in zip(probabilities, clips, strict=True)
    ]
    lines = [
        {"epoch": epoch, "train_loss": 2.0, "train_accuracy": 0.2, "test_loss": 2.0}
        | {"test_accuracy": accuracy, "clips_per_second": 40.0, "seconds": 30.0}
        for epoch, accuracy in ((1, 1.0), (2, float(np.mean(right))))
    ]
    write_lines(folder, lines)
    write_predictions(folder, clips, probabilities)
    return folder


def read(cache: Cache, name: str, clip: Clip) -> dict[str, torch.Tensor]:
    """One clip's fields that network `name` looks at, with 1 in front."""
    return {
        field: torch.from_numpy(cache.read(clip.clip_id, field))[None]
        for field in model.inputs(name)
    }
