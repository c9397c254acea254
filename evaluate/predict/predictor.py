"""What trained networks say about any video, window by window."""

import bisect
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from cache.ravdess import EMOTIONS, Clip, is_recordings
from cache.schema import DURATION_S, FRAME_COUNT
from evaluate.shipped import BEST, files_of
from model.cross_modal import CrossModalBlock
from model.inference import TrainedNetwork
from preprocess.clip import window_arrays
from preprocess.decode import open_video
from preprocess.face import crop
from preprocess.limits import ClipError
from preprocess.settings import Settings, from_config
from preprocess.windows import SILENT, Plan, plan, read_windows
from train.record import RunConfig, load_checkpoint

# A picture shows the faces of this many windows; nothing is kept of the pictures of others.
SHOWN_WINDOWS = 6
MIDDLE = FRAME_COUNT // 2
_SHOWN_NOTES = 3
_CLIP_NAME = re.compile(r"(\d\d-){6}\d\d", re.ASCII)


@dataclass(frozen=True)
class Predictor:
    """Trained networks whose mean is the prediction, and what readers should know about them."""

    networks: tuple[TrainedNetwork, ...]  # one or more
    settings: Settings  # how the features of a video are made for them
    warnings: tuple[str, ...] = ()  # what readers should know
    configs: tuple[RunConfig, ...] = ()  # the settings of the run of each network
    shipped: bool = False  # whether they are the folds that come with the project

    @property
    def name(self) -> str:
        """The names of the networks, each once."""
        return ", ".join(dict.fromkeys(network.name for network in self.networks))

    @property
    def fields(self) -> frozenset[str]:
        """The fields of the cache that the networks use."""
        return frozenset().union(*(network.fields for network in self.networks))

    @property
    def sees(self) -> bool:
        return bool({"frames", "landmarks"} & self.fields)

    @property
    def hears(self) -> bool:
        return bool({"mfcc", "waveform"} & self.fields)

    def __call__(self, path: Path | str) -> "Prediction":
        """Predict one file, `load()("clip.mp4").by_emotion`; ClipError if it cannot be used."""
        chosen, seen = self.for_file(Path(path))
        windows = list(predict(chosen, Path(path), plan(Path(path))))
        prediction = Prediction(windows, (*self.warnings, *seen))
        if not prediction.usable:
            raise ClipError(f"{path}: {prediction.problem}")
        return prediction

    def for_file(self, path: Path | str) -> tuple["Predictor", tuple[str, ...]]:
        """The networks for one file, and a warning if some were trained on its actor.

        The actor is known if the file's name contains that of a recording of RAVDESS. Shipped
        networks that were trained on the actor are excluded, if others are left.
        """
        try:
            actor = Clip.parse(_CLIP_NAME.search(Path(path).stem)[0]).actor
        except (TypeError, ValueError):
            return self, ()
        kept = [
            (network, config)
            for network, config in zip(self.networks, self.configs, strict=True)
            if actor not in config.seen_actors or not is_recordings(config.cache["dataset"])
        ]
        seen = len(self.networks) - len(kept)
        if not seen:
            return self, ()
        warning = f"{seen} of {len(self.networks)} networks were trained on RAVDESS's actor {actor}"
        if not self.shipped or not kept:
            return self, (f"{warning}: not a prediction for an unseen person",)
        networks, configs = zip(*kept, strict=True)
        folds = ", ".join(str(config.fold) for config in configs)
        warning += f": predicted by fold {folds}, which did not see that actor"
        return replace(self, networks=networks, configs=configs), (warning,)


@dataclass(frozen=True)
class WindowPrediction:
    """What was found in 2.45 s of a file; None for what the networks do not use."""

    start_s: float  # in seconds from the start of the file
    probabilities: np.ndarray | None = None  # float32 (8,); None where `problem` says why
    problem: str | None = None  # such as that no face was found
    boxes: np.ndarray | None = None  # float32 (30, 4), x1, y1, x2, y2 in pixels
    points: np.ndarray | None = None  # facial points, float32 (30, 68, 2), x, y in pixels
    # How much the networks look at each part of each face crop, float32 (30, h, w), or at each of
    # `model.landmarks.PLACES` and the pose, (30, 9); as multiples of the mean.
    attention: np.ndarray | None = None
    # Of the first windows of a file: face crops, uint8 RGB (30, 224, 224, 3); frame 15 as decoded.
    crops: np.ndarray | None = None
    frame: av.VideoFrame | None = None
    notes: tuple[str, ...] = ()  # what was padded, repeated or unusual

    @property
    def end_s(self) -> float:
        return self.start_s + DURATION_S

    @property
    def middle_s(self) -> float:
        return self.start_s + DURATION_S / 2


@dataclass(frozen=True)
class Prediction:
    """All windows of one file, in the order of time."""

    windows: Sequence[WindowPrediction]
    warnings: tuple[str, ...] = ()  # what readers should know

    @cached_property
    def usable(self) -> list[WindowPrediction]:
        """The windows with probabilities."""
        return [window for window in self.windows if window.probabilities is not None]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """The mean over the windows that have probabilities, float (8,)."""
        return np.mean([window.probabilities for window in self.usable], axis=0)

    @property
    def by_emotion(self) -> dict[str, float]:
        """The probability of each emotion, 0..1."""
        return dict(zip(EMOTIONS, self.probabilities.tolist(), strict=True))

    @property
    def notes(self) -> list[str]:
        """What was padded, repeated or unusual in windows with probabilities, one line each."""
        counted = Counter(note for window in self.usable for note in dict.fromkeys(window.notes))
        lines, windows = list(counted), len(self.windows)
        if windows > 1:
            lines = [f"{note} ({count} of {windows} windows)" for note, count in counted.items()]
        more = len(lines) - _SHOWN_NOTES
        return lines[:_SHOWN_NOTES] + [f"{more} more notes, see windows"] * (more > 0)

    @property
    def problem(self) -> str | None:
        """How many windows have no probabilities, and the first reason; None if all have."""
        without = [window for window in self.windows if window.problem is not None]
        if not without:
            return None
        count = f"{len(without)} of {len(self.windows)} windows without probabilities"
        return f"{count}: {without[0].problem} (at {without[0].start_s:.2f} s)"

    def at(self, time_s: float) -> tuple[WindowPrediction, float] | None:
        """The window whose middle is nearest to a moment, and the number of its frame, 0..29.

        The number is fractional between two frames. None if no usable window contains the moment.
        """
        after = bisect.bisect(self.usable, time_s, key=lambda window: window.middle_s)
        near = self.usable[max(0, after - 1) : after + 1]
        window = min(near, key=lambda each: abs(each.middle_s - time_s))
        if not window.start_s <= time_s <= window.end_s:
            return None
        number = (time_s - window.start_s) / DURATION_S * FRAME_COUNT - 0.5
        return window, min(max(number, 0.0), FRAME_COUNT - 1.0)


def load(
    *paths: Path | str,
    device: torch.device | str = "cpu",
    shipped: bool = False,
    allow_code: bool | Path = False,
) -> Predictor:
    """Read checkpoints or published weights; by default the best that come with the project.

    `allow_code` is as for `Checkpoint.network`. ValueError if one cannot be used, or their features
    or inputs differ; ModuleNotFoundError if networks of landmarks require dlib; FileNotFoundError
    if one is missing.
    """
    paths, shipped = dict.fromkeys(paths or files_of(BEST)), shipped or not paths
    checkpoints = [load_checkpoint(Path(path), device) for path in paths]
    configs = tuple(checkpoint.config for checkpoint in checkpoints)
    networks = tuple(checkpoint.network(device, allow_code) for checkpoint in checkpoints)
    settings, warnings = from_config(configs[0].cache["config"]), []
    for checkpoint, config in zip(checkpoints, configs, strict=True):
        if from_config(config.cache["config"]) != settings:
            first = checkpoints[0].path
            raise ValueError(f"{checkpoint.path} was trained on other features than {first}")
        if not is_recordings(dataset := config.cache["dataset"]):
            warnings.append(f"trained on {dataset}: its predictions for people are meaningless")
        if checkpoint.epoch != config.epochs:
            progress = f"{checkpoint.epoch} of {config.epochs} epochs"
            warnings.append(f"trained for {progress}: finish that run with train.py --resume")
        if config.starts_from_unknown:
            warnings.append("starting weights saw unknown actors, maybe the person of this file")
    fields = {name for network in networks for name in network.fields}
    if {"frames", "landmarks"} <= fields:
        raise ValueError("networks of frames and of landmarks, expected one kind. Predict by each")
    if "frames" in fields and settings.faces == "landmarks":
        warnings.append(
            "trained on crops from published landmarks, but a face detector is used here"
        )
    if "landmarks" in fields:
        if settings.landmarks == "csv":
            sources = "tables of landmarks" + " and recordings" * (settings.audio == "wav")
            warnings.append(
                f"trained on {sources}; here dlib finds the points: predictions may differ slightly"
            )
        of_video = {"faces": "mtcnn", "audio": "mp4", "landmarks": "dlib"}
        settings = replace(settings, modality="landmarks", **of_video)
        settings.versions()  # dlib is installed
    return Predictor(networks, settings, tuple(dict.fromkeys(warnings)), configs, shipped)


def predict(predictor: Predictor, path: Path | str, plan: Plan) -> Iterator[WindowPrediction]:
    """Yield the mean prediction of the networks for each window of a file, and their attention.

    ClipError if the file cannot be read, or lacks a track that the networks need.
    """
    shown = 0
    with open_video(path, picture=predictor.sees, sound=predictor.hears) as video:
        for window in read_windows(video, plan):
            try:
                if window.problem:
                    raise ClipError(window.problem)
                if not predictor.sees and SILENT in window.notes:
                    raise ClipError(SILENT)
                arrays, notes = window_arrays(window, predictor.settings)  # as for training
                found = [_classify(network, arrays) for network in predictor.networks]
            except ClipError as exc:
                yield WindowPrediction(window.start_s, problem=str(exc), notes=window.notes)
                continue
            maps = [attention for _, attention in found if attention is not None]
            same = len({attention.shape for attention in maps}) == 1  # of the same preset
            crops = frame = None
            if predictor.sees and shown < SHOWN_WINDOWS:
                shown += 1
                frame, crops = window.frames[MIDDLE], arrays.get("frames")
                if crops is None:
                    crops = crop(window.frames, arrays["face_box"])
            yield WindowPrediction(
                window.start_s,
                probabilities=np.mean([probabilities for probabilities, _ in found], axis=0),
                boxes=arrays.get("face_box"),
                points=arrays.get("landmarks"),
                attention=np.mean(maps, axis=0) if same else None,
                crops=crops,
                frame=frame,
                notes=(*window.notes, *notes),
            )


def _classify(
    trained: TrainedNetwork, arrays: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities (8,) of one window, and the attention of sound over the picture, if any."""
    device = next(trained.net.parameters()).device
    fields = {name: torch.from_numpy(arrays[name])[None].to(device) for name in trained.fields}
    maps: list[Tensor] = []
    hook = nullcontext()
    block = getattr(trained.net, "cross_modal", None)
    if isinstance(block, CrossModalBlock) and block.guided == "video":
        hook = block.register_forward_hook(lambda *call: maps.append(call[-1][1]))
    with hook:
        probabilities = trained.probabilities(fields)
    if not probabilities.isfinite().all():
        raise ClipError("the network returns NaN or Inf: its weights are damaged")
    attention = None
    if maps:
        # Multiples of the mean, for each frame.
        relative = maps[0].float() / maps[0].float().mean()
        # (1, S, ...) -> (30, ...): each of S parts of time has its own frames.
        parts = torch.arange(FRAME_COUNT, device=device) * relative.shape[1] // FRAME_COUNT
        attention = relative[0, parts].cpu().numpy()
    return probabilities[0].cpu().numpy(), attention
