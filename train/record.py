"""The files of a run, written and read here: config.json, metrics.jsonl, predictions.csv, last.pt.

Also what is published of a finished run: its weights as .safetensors, without the trainer's state.

A run is one fold of one network, in `RUNS/<model>/fold_<k>` (`validation_<k>` with --validate).
Runs are passed on, so what is read is checked: types, the actors of the fold, the number of
epochs, and predictions against the accuracy of the last epoch.

    run = read_run("runs/cfn_sr/fold_0")
    run.config.seed, run.metrics[-1].test_accuracy, run.predictions.probabilities
"""

import csv
import errno
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import model
from cache.diff import settings_apart
from cache.files import atomic_path, sha256_file, write_json, write_text
from cache.ravdess import EMOTIONS, Clip, actors_of
from model.inference import TrainedNetwork
from model.weights import WeightsError, read_data, read_metadata
from train.recipe import RECIPES, Recipe

CHECKPOINT_VERSION = 5

CONFIG, METRICS = "config.json", "metrics.jsonl"
PREDICTIONS, CHECKPOINT = "predictions.csv", "last.pt"
SOURCE = "model.py"  # a copy of the file of a network that is not ours
_COLUMNS = ["clip_id", "label", "predicted", *(f"p_{emotion}" for emotion in EMOTIONS)]
_CHECKPOINT_KEYS = {"checkpoint_version", "epoch", "config", "model", "inputs", "training"}
# Published weights: the entry of the metadata that describes them, as JSON, and its keys.
_METADATA = "cfn_sr"
_PUBLISHED_KEYS = {"checkpoint_version", "epoch", "accuracy", "config", "about"}
_STATISTICS = ("mfcc_mean", "mfcc_std")
_MODEL_NAME = re.compile(r"\w+", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NOT_IN_BOTH = re.compile(r"init\.\S+\.(changed|cache): (None and |.* and None$)")
_DECIMALS_TOLERANCE = 1e-3  # the sum of eight probabilities written with six decimals
_MOST_STARTS = 10  # runs that started from runs that started from ...

# Settings that a resumed run may change: the device, library versions and command line.
_MAY_DIFFER = {"device", "versions", "command"}
# What `RunConfig.init` records of the run that wrote a file of starting weights; further `changed`,
# the settings that are not those of its recipe, and `dataset` and `fingerprint` of its `cache`.
START_SETTINGS = (
    *("model", "preset", "split", "fold", "validation", "epochs", "recipe", "seed", "init"),
)
_START_ADDED = {"changed": dict[str, Any], "cache": dict[str, str]}  # earlier runs have neither


class RunError(ValueError):
    """A run cannot be read, contradicts itself, or is not the run that was asked for."""


class UnfinishedRunError(RunError):
    """A run has not reached its last epoch."""


# Configuration. --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunConfig:
    """How a run was trained, and on which actors: the content of config.json."""

    model: str  # the name of the network
    preset: str  # its size
    attention: str  # the softmax of its cross-modal block, see `model.build`
    parameters: int  # how many it has
    split: str
    fold: int
    validation: bool  # whether validation actors were held out, not the fold's test actors
    train_actors: tuple[int, ...]  # those that the cache had clips of
    test_actors: tuple[int, ...]  # those held out, likewise
    train_clips: int  # the number of clips of the training actors
    test_clips: int
    recipe: str  # its name
    settings: Recipe  # the recipe with the settings that were changed; flat in config.json
    seed: int
    precision: str  # "float32" or "bfloat16"
    deterministic: bool  # whether --deterministic was used
    compiled: bool  # whether --compile was used
    # What the encoders "video" and "audio" started from: `file`, `sha256`, and `run`, the settings
    # of the run that wrote the file, or None where that is unknown.
    init: dict[str, Any]
    # Its `dataset`, `config`, `fingerprint` and `schema_version`, and `contents`, the SHA-256 over
    # its shards, which earlier runs did not record.
    cache: dict[str, Any]
    command: tuple[str, ...]  # the command line as typed
    device: str  # in words
    versions: dict[str, str]  # of the program and the libraries
    # `file` and `sha256` of the code of a network from a file; earlier runs have no such entry.
    source: dict[str, str] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """The length of the schedule."""
        return self.settings.epochs

    @property
    def changed(self) -> dict[str, tuple[Any, Any]]:
        """The settings that are not those of the named recipe, by name: this and the recipe's."""
        named = asdict(RECIPES.get(self.recipe, self.settings))
        own = asdict(self.settings)
        return {name: (own[name], named[name]) for name in own if own[name] != named[name]}

    @property
    def folder(self) -> Path:
        """Where the run is kept below the folder of all runs, such as `cfn_sr/fold_0`."""
        return Path(self.model, f"{'validation' if self.validation else 'fold'}_{self.fold}")

    @property
    def starts_from_unknown(self) -> bool:
        """Whether weights come from a file of unknown actors, directly or through another run."""
        return any(map(is_unknown, self.init.values()))

    @property
    def seen_actors(self) -> set[int]:
        """The actors that the run, or a run that it started from, was trained on."""
        return set(self.train_actors).union(*map(_actors_of_start, self.init.values()))

    def as_start(self) -> dict[str, Any]:
        """What `init` of another run records of this one, if that starts from its weights."""
        return {
            **{name: getattr(self, name) for name in START_SETTINGS},
            "changed": {name: own for name, (own, _) in self.changed.items()},
            "cache": {name: self.cache[name] for name in ("dataset", "fingerprint")},
        }

    def to_json(self) -> dict[str, Any]:
        """The content of config.json, with the settings of the recipe beside the others."""
        content = {each.name: getattr(self, each.name) for each in fields(self)}
        settings = asdict(content.pop("settings"))
        lists = {name: list(value) for name, value in content.items() if type(value) is tuple}
        return content | lists | settings

    @classmethod
    def from_json(cls, content: Any) -> "RunConfig":
        """The inverse of `to_json`.

        RunError if a setting is missing, unknown, of another type, or contradicts the split.
        """
        if isinstance(content, dict):
            content = {"source": {}} | content
        values = _typed(content, _types(Recipe) | _types(cls))
        settings = Recipe(**{name: values.pop(name) for name in _types(Recipe)})
        config = cls(**values, settings=settings)
        config._check()
        return config

    def _check(self) -> None:
        """Raise RunError if the settings contradict each other or the rules of the split."""
        if not _MODEL_NAME.fullmatch(self.model):  # it becomes a folder, and ids of the report
            raise RunError(f"model is {_shown(self.model)}, expected letters, digits and _")
        try:
            trained, tested = actors_of(self.split, self.fold, validate=self.validation)
        except ValueError as exc:
            raise RunError(str(exc)) from exc
        for name, expected in (("train_actors", trained), ("test_actors", tested)):
            found = getattr(self, name)  # all of the fold, or those that the cache had
            if not found or found != tuple(actor for actor in expected if actor in found):
                raise RunError(
                    f"{name} are {list(found)}, expected {list(expected)} for fold {self.fold} of "
                    f"split {self.split!r}"
                )
        least = {"parameters": 1, "train_clips": 1, "test_clips": 1, "epochs": 1, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if not low <= value < 2**63:
                raise RunError(f"{name} is {value}, expected {low} or more")
        kinds = {"dataset": str, "config": dict, "fingerprint": str, "schema_version": int}
        known = {"contents": str} if "contents" in self.cache else {}
        if {name: type(value) for name, value in self.cache.items()} != kinds | known:
            raise RunError(f"cache is {_shown(self.cache)}, expected {', '.join(kinds)}")
        if not self.cache["dataset"].isprintable():
            raise RunError("cache.dataset is not printable text")
        for name in ("fingerprint", *known):
            if not _SHA256.fullmatch(self.cache[name]):
                raise RunError(f"cache.{name} is not a SHA-256")
        if self.source and not _SHA256.fullmatch(self.source.get("sha256", "")):
            raise RunError("source.sha256 is not a SHA-256")
        _check_init(self.init)

    def differences(self, other: "RunConfig") -> list[str]:
        """One line per setting in which `other` is another run.

        Names of files may differ, and what one of the two did not record, as earlier runs.
        """
        mine, its = (
            {name: value for name, value in config.to_json().items() if name not in _MAY_DIFFER}
            for config in (self, other)
        )
        lines = settings_apart("", mine, its)
        recorded = "contents" in self.cache and "contents" in other.cache
        ignored = (".file",) if recorded else (".file", "cache.contents")
        kept = [line for line in lines if not line.partition(":")[0].endswith(ignored)]
        return [f"{line:.160}" for line in kept if not _NOT_IN_BOTH.match(line)]


def _types(kind: type) -> dict[str, Any]:
    """The declared types of a dataclass's fields; the settings of a recipe are flat in JSON."""
    return {each.name: each.type for each in fields(kind) if each.type != Recipe}


def _typed(content: Any, types: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a JSON object that has these names, no others, and each of its type."""
    _check_names(content, set(types))
    return {name: _value(name, content[name], expected) for name, expected in types.items()}


def _check_names(content: Any, names: set[str]) -> None:
    if not isinstance(content, dict):
        raise RunError(f"{_shown(content)}, expected a JSON object")
    if odd := names ^ set(content):
        named = ", ".join(sorted(str(name)[:40] for name in odd)[:5])
        raise RunError(f"{named}: missing or unknown, so another version wrote this run")


def _value(name: str, value: Any, expected: Any) -> Any:
    """A value from JSON, of the type that is declared for it."""
    if expected is float and type(value) is int and abs(value) < 2**63:
        value = float(value)
    if expected in (tuple[int, ...], tuple[str, ...]) and type(value) is list:
        value = tuple(value)
    base = getattr(expected, "__origin__", expected)
    items = value if type(value) is tuple else ()
    if expected == dict[str, str] and type(value) is dict:
        items = (*value, *value.values())
    right = type(value) is base and all(type(item) is expected.__args__[0] for item in items)
    if not right or (base is float and not math.isfinite(value)):
        raise RunError(f"{name} is {_shown(value)}, expected {base.__name__}")
    if base is str and not (value.strip() and value.isprintable()):
        raise RunError(f"{name} is {_shown(value)}, expected printable text")
    return value


def _check_init(init: Any, depth: int = 0) -> None:
    """Raise RunError unless `init` says what each encoder started from."""
    if depth == _MOST_STARTS or not isinstance(init, dict) or set(init) - {"video", "audio"}:
        raise RunError(f"init is {_shown(init)}, expected the start of 'video' and 'audio'")
    for start in init.values():
        if not isinstance(start, dict) or set(start) != {"file", "sha256", "run"}:
            raise RunError(f"init has {_shown(start)}, expected file, sha256 and run")
        if start["run"] is not None:
            types = _types(Recipe) | _types(RunConfig)
            found = start["run"]
            if isinstance(found, dict):
                found = {name: {} for name in _START_ADDED} | found
            run = _typed(found, {name: types[name] for name in START_SETTINGS} | _START_ADDED)
            _typed(run["changed"], {n: t for n, t in _types(Recipe).items() if n in run["changed"]})
            origin = run["cache"]
            if origin and set(origin) != {"dataset", "fingerprint"}:
                raise RunError(f"init has {_shown(origin)}, expected dataset and fingerprint")
            if not all(map(str.isprintable, origin.values())):
                raise RunError(f"init has {_shown(origin)}, expected printable text")
            try:
                actors_of(run["split"], run["fold"], validate=run["validation"])
            except ValueError as exc:
                raise RunError(f"init: {exc}") from exc
            _check_init(run["init"], depth + 1)


def is_unknown(start: Mapping[str, Any]) -> bool:
    """Whether an entry of `init` is a file of unknown actors, or started from one."""
    return start["run"] is None or any(map(is_unknown, start["run"]["init"].values()))


def _actors_of_start(start: Mapping[str, Any]) -> set[int]:
    """The actors of the run of an entry of `init`, and of those that it started from."""
    run = start["run"]
    if run is None:
        return set()
    trained, _ = actors_of(run["split"], run["fold"], validate=run["validation"])
    return set(trained).union(*map(_actors_of_start, run["init"].values()))


# Metrics and predictions. ----------------------------------------------------------------------


@dataclass(frozen=True)
class EpochMetrics:
    """One line of metrics.jsonl."""

    epoch: int  # from 1
    train_loss: float  # the mean over the clips, which are augmented
    train_accuracy: float  # the share of them, 0..1
    test_loss: float
    test_accuracy: float
    learning_rate: float  # of the last step
    clips_per_second: float  # training clips
    seconds: float  # of training and testing


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run predicts after its last epoch for its N held-out clips."""

    clips: tuple[Clip, ...]  # sorted
    probabilities: np.ndarray  # float64 (N, 8), 0..1; rows sum to 1 within the decimals written
    predicted: np.ndarray  # int64 (N,), the most probable class 0..7

    @property
    def labels(self) -> np.ndarray:
        """The true classes 0..7, int64 (N,)."""
        return np.array([clip.label for clip in self.clips], dtype=np.int64)

    @property
    def accuracy(self) -> float:
        """The share of clips that are predicted correctly, 0..1."""
        return float(np.mean(self.labels == self.predicted))


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, read and checked."""

    folder: Path
    config: RunConfig
    metrics: tuple[EpochMetrics, ...]
    predictions: Predictions

    @property
    def model(self) -> str:
        return self.config.model

    @property
    def fold(self) -> int:
        return self.config.fold

    @property
    def name(self) -> str:
        """The name of the run, such as `cfn_sr/fold_0`."""
        return self.config.folder.as_posix()


def read_run(folder: Path | str) -> Run:
    """Read a finished run and check it against its split and against itself.

    Raises:
        UnfinishedRunError: if epochs or predictions are still missing.
        RunError: if a file is damaged or contradicts another.
    """
    folder = Path(folder)
    config = read_config(folder)
    copy = folder / SOURCE
    if config.source and (not copy.is_file() or sha256_file(copy) != config.source["sha256"]):
        raise RunError(f"{SOURCE} is missing or has changed since the run. {_AGAIN}")
    metrics = read_metrics(folder)
    if len(metrics) > config.epochs:
        raise RunError(f"{METRICS} has {len(metrics)} epochs, {CONFIG} says {config.epochs}")
    if len(metrics) < config.epochs or not (folder / PREDICTIONS).is_file():
        done = f"{len(metrics)} of {config.epochs} epochs are done"
        raise UnfinishedRunError(f"{done}. Finish it with --resume")
    predictions = read_predictions(folder, config)
    recorded = metrics[-1].test_accuracy
    if abs(recorded - predictions.accuracy) > 1e-6:
        raise RunError(
            f"{PREDICTIONS} gives an accuracy of {predictions.accuracy:.6f}, the last line of "
            f"{METRICS} says {recorded:.6f}, so they belong to different runs. {_AGAIN}"
        )
    return Run(folder, config, tuple(metrics), predictions)


_AGAIN = "Remove the run and train it again"


def read_config(folder: Path | str) -> RunConfig:
    """Read config.json; RunError if it is damaged, or belongs to another folder."""
    folder = Path(folder)
    try:
        config = RunConfig.from_json(_parse(_read_text(folder / CONFIG)))
    except RunError as exc:
        raise RunError(f"{CONFIG}: {exc}. {_AGAIN}") from exc
    if config.folder.parts != folder.absolute().parts[-2:]:
        advice = f"but the folder is {folder.name}. Rename the folder"
        raise RunError(f"{CONFIG} belongs to {config.folder}, {advice}")
    return config


def write_config(folder: Path, config: RunConfig) -> None:
    """Write config.json, and beside it a copy of the network's code if it is from a file."""
    if config.source:
        with atomic_path(folder / SOURCE) as temporary:
            temporary.write_bytes(model.code_of(config.model))
    write_json(folder / CONFIG, config.to_json())


def remove_start(folder: Path) -> None:
    """Remove what a run that has no finished epoch has written."""
    for name in (CONFIG, SOURCE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def read_metrics(folder: Path | str) -> list[EpochMetrics]:
    """Read metrics.jsonl, one line per epoch from 1 on; empty if there is none.

    RunError if it is damaged.
    """
    folder = Path(folder)
    if not (folder / METRICS).is_file():
        return []
    metrics = []
    for number, line in enumerate(_read_text(folder / METRICS).splitlines(), start=1):
        try:
            metrics.append(EpochMetrics(**_typed(_parse(line), _types(EpochMetrics))))
            if metrics[-1].epoch != number:
                raise RunError(f"epoch is {metrics[-1].epoch}, expected {number}")
            for name in ("train_accuracy", "test_accuracy"):
                if not 0 <= (share := getattr(metrics[-1], name)) <= 1:
                    raise RunError(f"{name} is {share}, expected 0..1")
        except RunError as exc:
            raise RunError(f"{METRICS}, line {number}: {exc}. {_AGAIN}") from exc
    return metrics


def write_metrics(folder: Path, metrics: Sequence[EpochMetrics]) -> None:
    """Write metrics.jsonl."""
    lines = [json.dumps(asdict(each)) + "\n" for each in metrics]
    write_text(folder / METRICS, "".join(lines))


def read_predictions(folder: Path, config: RunConfig) -> Predictions:
    """Read predictions.csv; RunError if it is damaged, or has other clips than `config` says."""
    rows, predicted = {}, []
    try:
        lines = list(csv.reader(_read_text(folder / PREDICTIONS).splitlines()))
    except csv.Error as exc:
        raise RunError(f"{PREDICTIONS}: not CSV ({exc}). {_AGAIN}") from exc
    if not lines or lines[0] != _COLUMNS:
        raise RunError(f"{PREDICTIONS}: the columns are not {', '.join(_COLUMNS)}. {_AGAIN}")
    for number, line in enumerate(lines[1:], start=2):
        try:
            clip, guess, shares = _parse_prediction(line)
            if clip.actor not in config.test_actors or clip in rows:
                raise ValueError(f"{clip.clip_id} is not one of the test clips, or appears twice")
        except ValueError as exc:
            raise RunError(f"{PREDICTIONS}, line {number}: {exc}. {_AGAIN}") from exc
        rows[clip] = shares
        predicted.append(guess)
    if len(rows) != config.test_clips:
        expected = f"{CONFIG} says {config.test_clips}"
        raise RunError(f"{PREDICTIONS} has {len(rows)} clips, {expected}. {_AGAIN}")
    return Predictions(tuple(rows), np.array(list(rows.values())), np.array(predicted))


def _parse_prediction(row: list[str]) -> tuple[Clip, int, list[float]]:
    """Clip, predicted class and probabilities of one row; ValueError says what is wrong."""
    if len(row) != len(_COLUMNS):
        raise ValueError(f"{len(row)} columns, expected {len(_COLUMNS)}")
    clip_id, label, predicted, *written = row
    clip, shares = Clip.parse(clip_id), [float(text) for text in written]
    if label != str(clip.label):
        raise ValueError(f"label is {label!r:.20}, {clip_id} has label {clip.label}")
    if predicted not in map(str, range(len(EMOTIONS))):
        raise ValueError(f"predicted is {predicted!r:.20}, expected 0..{len(EMOTIONS) - 1}")
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError("a probability is outside 0..1")
    if abs(sum(shares) - 1) > _DECIMALS_TOLERANCE:
        raise ValueError(f"probabilities sum to {sum(shares):.4f}, expected 1")
    if shares[int(predicted)] < max(shares) - _DECIMALS_TOLERANCE:
        raise ValueError(f"predicted is {predicted}, which is not the most probable class")
    return clip, int(predicted), shares


def write_predictions(folder: Path, clips: Sequence[Clip], probabilities: Tensor) -> None:
    """Write predictions.csv: the N held-out clips and their probabilities, float (N, 8), CPU."""
    with (
        atomic_path(folder / PREDICTIONS) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as opened,
    ):
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for clip, row in zip(clips, probabilities, strict=True):
            shares = [f"{share:.6f}" for share in row.tolist()]
            writer.writerow([clip.clip_id, clip.label, int(row.argmax()), *shares])


# Checkpoints. ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """The content of last.pt, or of published weights."""

    path: Path
    epoch: int  # the number of finished epochs
    config: RunConfig
    weights: dict[str, Tensor]  # the state of the evaluated network
    statistics: dict[str, Tensor]  # `mfcc_mean` and `mfcc_std`, float32 (13, 1), or nothing
    training: dict[str, Any] = field(repr=False)  # the state of the trainer, to resume from
    accuracy: float | None = None  # of published weights, on the held-out clips, 0..1

    def network(
        self, device: torch.device | str = "cpu", allow_code: bool | Path = False
    ) -> TrainedNetwork:
        """The trained network, ready for use; RunError if the weights do not match it.

        The code of a network from a file runs only with `allow_code`: True is for the copy beside
        the checkpoint, a path for the file itself, which must be the one of the run.
        """
        name, source = self.config.model, self.config.source
        if source.get("sha256") != model.source_of(name).get("sha256"):
            if not allow_code:
                code = (
                    f"defined by code in {source.get('file')}. If you trust it, pass --allow-code"
                )
                raise RunError(f"{self.path}: its network is {code}")
            file = self.path.with_name(SOURCE) if allow_code is True else allow_code
            model.add_file(f"{file}:{name}", source.get("sha256", ""))
        try:
            return TrainedNetwork.build(
                self.config.model,
                self.config.preset,
                attention=self.config.attention,
                weights=self.weights,
                statistics=self.statistics,
                precision=self.config.precision,
                device=device,
            )
        except (ValueError, AttributeError, TypeError, RuntimeError) as exc:
            reason = " ".join(str(exc).split())[:300]
            raise RunError(f"{self.path}: incomplete or damaged checkpoint ({reason})") from exc


def save_checkpoint(
    folder: Path,
    config: RunConfig,
    *,
    epoch: int,
    weights: Mapping[str, Tensor],
    statistics: Mapping[str, Tensor],
    training: Mapping[str, Any],
) -> None:
    """Write last.pt, whole or not at all; the arguments are the attributes of `Checkpoint`.

    The file contains only tensors, numbers and text, so `torch.load(weights_only=True)` reads it.
    OSError if it cannot be written.
    """
    state = {
        "checkpoint_version": CHECKPOINT_VERSION,
        "epoch": epoch,
        "config": config.to_json(),
        "model": dict(weights),
        "inputs": dict(statistics),
        "training": dict(training),
    }
    path = folder / CHECKPOINT
    try:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
    except RuntimeError as exc:  # torch raises this when a write fails
        raise OSError(errno.EIO, f"{path} cannot be written: {str(exc).splitlines()[0]}") from exc


def load_checkpoint(path: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Read last.pt or published weights; code in the file is refused.

    Raises:
        RunError: if the file is damaged, is not a checkpoint, or has another version.
        FileNotFoundError: if the file does not exist.
    """
    path = Path(path)
    try:
        found = read_saved(path, device)
    except WeightsError as exc:
        raise RunError(str(exc)) from exc
    if not isinstance(found, Checkpoint):
        raise RunError(f"{path}: not a checkpoint of this program")
    return found


def save_published(
    path: Path, checkpoint: Checkpoint, *, accuracy: float, about: Mapping[str, str], half: bool
) -> None:
    """Write the evaluated weights of a finished run as .safetensors, whole or not at all.

    The tensors are those of the network by name, and `mfcc_mean` and `mfcc_std` if it has them. The
    metadata is one text, so that the same run gives the same bytes: JSON with the config of the
    run, without its command line, which names folders of the machine.
    `accuracy` is that of the last epoch, 0..1; `about` are texts for people, not read back; `half`
    stores matrices and kernels as float16, not the small variances of batch norms.
    """
    from safetensors.torch import save  # of the extra `weights`

    content = {
        "checkpoint_version": CHECKPOINT_VERSION,
        "epoch": checkpoint.epoch,
        "accuracy": accuracy,
        "config": replace(checkpoint.config, command=()).to_json(),
        "about": dict(about),
    }
    weights = checkpoint.weights
    if half:
        weights = {n: t.half() if t.dim() > 1 else t for n, t in weights.items()}
    tensors = {n: t.contiguous() for n, t in (weights | checkpoint.statistics).items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, {_METADATA: json.dumps(content)}))


def read_saved(path: Path, device: torch.device | str = "cpu") -> Any:
    """A `Checkpoint`, or what else a file contains, as from `model.weights.read_data`.

    RunError if a checkpoint or published weights are not as they were written.
    """
    data = read_data(path, device)
    about = read_metadata(path).get(_METADATA) if path.suffix.lower() == ".safetensors" else None
    if about is not None:
        try:
            content = _parse(about)
            _check_names(content, _PUBLISHED_KEYS)
        except RunError as exc:
            raise RunError(f"{path}: metadata: {exc}") from exc
        del content["about"]
        data = {n: t.float() if t.dtype == torch.float16 else t for n, t in data.items()}
        statistics = {name: data.pop(name) for name in _STATISTICS if name in data}
        data = {**content, "model": data, "inputs": statistics, "training": {}}
    is_checkpoint = isinstance(data, dict) and "checkpoint_version" in data
    return _parse_checkpoint(path, data) if is_checkpoint else data


def _parse_checkpoint(path: Path, data: Mapping[str, Any]) -> Checkpoint:
    version = data["checkpoint_version"]
    if type(version) is not int or version != CHECKPOINT_VERSION:
        raise RunError(
            f"{path}: checkpoint version {_shown(version)}, expected {CHECKPOINT_VERSION}. "
            "Train that run again, in a new folder"
        )
    if set(data) - {"accuracy"} != _CHECKPOINT_KEYS:
        raise RunError(f"{path}: incomplete or damaged checkpoint")
    try:
        config = RunConfig.from_json(data["config"])
        json.dumps(data["config"])  # as that of a run, also inside of settings
    except RunError as exc:
        raise RunError(f"{path}: {exc}") from exc
    except (TypeError, ValueError, RecursionError) as exc:
        cure = "Save it again with plain numbers and text, such as float(x) or x.tolist()"
        raise RunError(f"{path}: not a config ({exc}). {cure}") from exc
    epoch = data["epoch"]
    if type(epoch) is not int or not 1 <= epoch <= config.epochs:
        raise RunError(f"{path}: epoch is {_shown(epoch)}, expected 1..{config.epochs}")
    for name in ("model", "inputs", "training"):
        if not isinstance(data[name], dict):
            raise RunError(f"{path}: {name} is {_shown(data[name])}, expected a dictionary")
    accuracy = data.get("accuracy")
    if "accuracy" in data and not (type(accuracy) is float and 0 <= accuracy <= 1):
        raise RunError(f"{path}: accuracy is {_shown(accuracy)}, expected 0..1")
    parts = data["model"], data["inputs"], data["training"]
    return Checkpoint(path, epoch, config, *parts, accuracy)


# Text from others. -----------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise RunError(f"{path.name} is missing") from exc
    except UnicodeDecodeError as exc:
        raise RunError(f"{path.name} is not UTF-8 text ({exc.reason})") from exc


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise RunError(f"not JSON ({exc})") from exc


def _shown(value: Any) -> str:
    """A value on one line, safe to print, cut where it is long."""
    text = " ".join(ascii(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
