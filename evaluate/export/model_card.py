"""What an exported network says of itself to people."""

from pathlib import Path
from typing import Any

from cache.ravdess import EMOTIONS, is_recordings
from cache.schema import FIELDS
from evaluate.export.agreement import TOLERANCE, Agreement
from evaluate.export.graph import Standalone
from evaluate.origin import Result, licence
from evaluate.runs.config import UNKNOWN_START, start_of
from model import SYSTEMS, count_parameters
from model.checkpoint import Trained

_INPUTS = {
    "frames": (
        "30 crops of the face, RGB, 0..255, evenly spaced over the 2.45 s from 0.5 s on; one "
        "square that does not jump, a little wider than the face"
    ),
    "mfcc": (
        "13 MFCCs of the same 2.45 s of mono sound at 44.1 kHz, in dB, as librosa gives them "
        "(n_fft 2048, hop_length 512, 128 mel bands), not normalised"
    ),
    "waveform": "the same 2.45 s of mono sound at 44.1 kHz, 16-bit samples",
}


def card(
    file: Path,
    standalone: Standalone,
    trained: Trained,
    *,
    sha256: str,
    result: Result | None,
    agreement: Agreement,
    checked_on: str,
) -> str:
    """The model card, Markdown.

    Args:
        file: the exported file, for its name.
        standalone, trained: the network.
        sha256: of its checkpoint.
        result: what its run reached, if that is known.
        agreement: with torch.
        checked_on: on what, in words.
    """
    config = trained.config
    dataset = config["cache"]["dataset"]
    return f"""# {config["model"]}: emotion from {_sees(standalone)}

{SYSTEMS[config["model"]].label}, preset `{config["preset"]}`, {count_parameters(trained.net):,}
parameters, of fold {config["fold"]} of split `{config["split"]}`, as the ONNX file `{file.name}`.
It gives the probability of eight acted emotions: {", ".join(EMOTIONS)}.
It is **not for decisions about people**.

## Inputs and outputs

N is the number of clips, which is free.

| name | type | shape | meaning |
|---|---|---|---|
{_rows(standalone)}
| `probabilities` (output) | float32 | (N, 8) | of the emotions in the order above, 0..1, sum 1 |
| `logits` (output) | float32 | (N, 8) | what the probabilities are the softmax of |

Inputs are as they lie in a feature cache of CFN-SR. Choosing frames, resizing them and
normalising are inside the file. The features must be made as those that it was trained on, by
`python -m preprocess` (cache fingerprint `{config["cache"]["fingerprint"][:12]}`): of other crops
or other sound its output means little.

## Run it

```python
{snippet(file, standalone)}
```

## What it was trained on

- Data: {dataset}.{_of_sample(dataset)}
- Actors in training: {_actors(config["train_actors"])}, {config["train_clips"]} clips.
- Actors held out for testing: {_actors(config["test_actors"])}, {config["test_clips"]} clips.
- Recipe `{config["recipe"]}`: {config["epochs"]} epochs, batches of {config["batch_size"]},
  learning rate {config["learning_rate"]:g}, seed {config["seed"]}. The weights are those after the
  last epoch of this fixed schedule, not those of the epoch that did best on the test clips.
- Start: {_start(config)}.
- Checkpoint: sha256 `{sha256}`.

## What it reached

{_reached(result)}
{_precision(trained)}
## Checked

Against torch in float32, in batches of 1 and 3, on {checked_on}:
probabilities differ by {agreement.probabilities:.1e} at most, logits by {agreement.logits:.1e} of
the clip's greatest (or of 1, where that is less). Allowed is {TOLERANCE:g} each.

## Limits

{_limits(config, dataset)}

## Licence

The weights were {licence(dataset)}. The code of CFN-SR is under the MIT licence.
"""


def snippet(file: Path, standalone: Standalone) -> str:
    """Python that runs the file with onnxruntime and numpy alone, on empty inputs."""
    arrays = [
        f"{name} = np.zeros({(1, *FIELDS[name].shape)}, np.{FIELDS[name].dtype.name})"
        for name in standalone.fields
    ]
    fed = ", ".join(f'"{name}": {name}' for name in standalone.fields)
    return "\n".join(
        [
            "import numpy as np",
            "import onnxruntime",
            "",
            f'session = onnxruntime.InferenceSession("{file.name}")',
            'emotions = session.get_modelmeta().custom_metadata_map["emotions"].split(",")',
            *arrays,
            f'(probabilities,) = session.run(["probabilities"], {{{fed}}})',
            "for emotion, probability in zip(emotions, probabilities[0]):",
            '    print(f"{emotion:10} {probability:.3f}")',
        ]
    )


def _sees(standalone: Standalone) -> str:
    names = {"frames": "face", "mfcc": "voice", "waveform": "voice"}
    return " and ".join(names[name] for name in standalone.fields)


def _rows(standalone: Standalone) -> str:
    return "\n".join(
        f"| `{name}` (input) | {FIELDS[name].dtype.name} | "
        f"(N, {', '.join(map(str, FIELDS[name].shape))}) | {_INPUTS[name]} |"
        for name in standalone.fields
    )


def _actors(actors: list[int]) -> str:
    return ", ".join(map(str, actors))


def _of_sample(dataset: str) -> str:
    if is_recordings(dataset):
        return " Professional actors say two sentences in a studio."
    return " No recordings of RAVDESS: what it reached there **says nothing about people**."


def _start(config: dict[str, Any]) -> str:
    start = start_of(config)
    if UNKNOWN_START not in start:
        return start
    return (
        f"{start}. **Of such a file it is not known whom it was trained on: it may have seen the "
        "actors held out here**"
    )


def _reached(result: Result | None) -> str:
    if result is None:
        return (
            "Not known here: the files of its run were not beside the checkpoint when it was "
            "exported."
        )
    over = f"{result.clips} clips of {result.actors} held-out actors"
    interval = (
        "no interval, as there is one actor"
        if result.interval is None
        else (
            f"95 % interval {100 * result.interval[0]:.1f} to {100 * result.interval[1]:.1f} %, "
            "drawn over actors, since clips of one actor resemble each other"
        )
    )
    return (
        f"- Accuracy: **{100 * result.accuracy:.2f} %** at the last epoch on {over} ({interval}). "
        "With so few actors the interval is rough.\n"
        f"- Best on test: {100 * result.best_on_test:.2f} % at epoch {result.best_epoch}. That "
        "epoch is chosen on the test clips, so this is not the result; it stands here because "
        "papers report it."
    )


def _precision(trained: Trained) -> str:
    precision = str(trained.precision).removeprefix("torch.")
    if precision == "float32":
        return ""
    return (
        f"\nThe run was tested in {precision}, this file computes in float32: single clips that "
        "are close between two emotions can come out otherwise.\n"
    )


def _limits(config: dict[str, Any], dataset: str) -> str:
    lines = [
        "This is the network of one fold. A cross-validated accuracy is the mean over all folds, "
        "each with a network of its own, and is not that of this file.",
    ]
    if is_recordings(dataset):
        lines += [
            "Emotions are acted on demand, at one or two strengths. What people show when they "
            "feel something is another matter.",
            "24 professional actors from Toronto speak two English sentences with a North "
            "American accent, in front of a plain wall, in even light, without background noise. "
            "Other people, ages, languages, cameras and rooms were not tested.",
        ]
    else:
        lines.append(
            f"It was trained on {dataset}, not on people: use it to try out software, and for "
            "nothing else."
        )
    lines.append(
        "Probabilities are not calibrated: one of 0.9 does not mean right in nine of ten clips."
    )
    lines.append("Do not use it to judge, select, watch or treat people.")
    return "\n".join(f"- {line}" for line in lines)
