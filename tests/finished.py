"""Finished runs of networks that were never trained, and a small cache to test them on."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import unusual_statistics
from noise import noise_arrays, write_noise_cache
from torch.nn import functional
from training import fields_of, make_config

import model
from cache.ravdess import Clip, actors_of, expected_clips
from cache.reader import Cache
from cache.schema import FIELDS, MFCC_COUNT, SAMPLE_COUNT
from preprocess.audio import mfcc
from train import record


def clips_with_sound(directory: Path, actors: Iterable[int] = (1, 2, 3, 4)) -> Path:
    """A cache of smooth pictures and hoarse tones with waveforms, two clips per actor."""
    count, height, width, channels = FIELDS["frames"].shape
    others = noise_arrays(0)

    def arrays(clip: Clip) -> dict[str, np.ndarray]:
        random = np.random.default_rng(clip.label + 8 * clip.actor)
        coarse = torch.from_numpy(255 * random.random((count, channels, 7, 7), np.float32))
        pictures = functional.interpolate(coarse, (height, width), mode="bilinear")
        tone = np.sin(np.arange(SAMPLE_COUNT) * random.uniform(0.01, 0.3))
        waveform = (6_000 * tone + random.normal(0, 500, SAMPLE_COUNT)).astype(np.int16)
        return others | {
            "frames": pictures.permute(0, 2, 3, 1).round().byte().numpy(),
            "mfcc": mfcc(waveform.astype(np.float32) / 32_768),
            "waveform": waveform,
        }

    clips = [clip for actor in actors for clip in expected_clips(actor)[:12:6]]
    return write_noise_cache(directory, clips, arrays)


def finished_run(runs: Path, directory: Path, name: str = "cfn_sr", fold=0, **changes: Any) -> Path:
    """All files of a run of two epochs of a tiny network; returns the folder of the run.

    It predicts the clips that the cache has of the fold's test actors. `changes` replace settings
    of config.json.
    """
    cache, (trained, tested) = Cache(directory), actors_of("paper", fold)
    clips = cache.of_actors(tested)
    origin = {key: cache.manifest[key] for key in ("dataset", "fingerprint", "schema_version")}
    settings = {
        **{"fold": fold, "train_actors": list(trained), "test_actors": list(tested)},
        **{"test_clips": len(clips), "cache": origin | {"config": {}}},
    }
    config = make_config(name, **(settings | changes))
    folder = runs / config.folder
    folder.mkdir(parents=True)
    record.write_config(folder, config)

    torch.manual_seed(fold)
    weights = unusual_statistics(model.build(name, config.preset)).state_dict()
    mean, std = torch.linspace(-300, 10, MFCC_COUNT), torch.linspace(90, 5, MFCC_COUNT)
    statistics = {"mfcc_mean": mean[:, None], "mfcc_std": std[:, None]}
    if "mfcc" not in model.inputs(name, config.preset):
        statistics = {}
    state = {"weights": weights, "statistics": statistics, "training": {}}
    record.save_checkpoint(folder, config, epoch=2, **state)

    network = record.load_checkpoint(folder / record.CHECKPOINT).network()
    rows = [network.probabilities(read(cache, clip, network.fields)) for clip in clips]
    probabilities = torch.cat(rows)
    labels = torch.tensor([clip.label for clip in clips])
    accuracy = (probabilities.argmax(dim=1) == labels).double().mean().item()
    metrics = [
        record.EpochMetrics(epoch, 2.0, 0.2, 2.0, test_accuracy, 0.001, 40.0, 30.0)
        for epoch, test_accuracy in ((1, 1.0), (2, accuracy))
    ]
    record.write_metrics(folder, metrics)
    record.write_predictions(folder, clips, probabilities)
    return folder


def read(cache: Cache, clip: Clip, fields: Iterable[str]) -> dict[str, torch.Tensor]:
    """Fields of one clip, each with B = 1 in front."""
    return fields_of(cache, [clip], fields)
