"""Networks from files of others: what they may be, and that their code never runs unasked."""

import re

import pytest
import soundfile
from fake_runs import origin_of
from finished import clips_with_sound, finished_run
from media import tone
from training import train

import model
from evaluate.export.cli import main as export_main
from evaluate.predict.cli import main as predict_main
from evaluate.report.report import Report
from evaluate.robustness.cli import main as robustness_main
from evaluate.runs import read_runs
from model import own
from preprocess.settings import Settings
from train.record import RunError, read_run

VOICE = """
from model.unimodal import AudioNetwork

class Voice(AudioNetwork):
    inputs = ("mfcc",)

    def __init__(self, audio):
        super().__init__(audio=audio)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_voice.py"
    path.write_text(VOICE)
    return path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "FileNotFoundError"),
        ("x =", "SyntaxError: invalid syntax (my_voice.py, line 1)"),
        ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("Voice = 3", "does not name a class or function of the file"),
        ("class Voice: pass", "inputs are (), expected fields of the cache, such as"),
        (VOICE.replace('"mfcc",', '"mfcc", "waveform"'), "frames or landmarks, mfcc or waveform"),
        (VOICE.replace("audio):", "audio, width):"), "missing a required argument: 'width'"),
        (
            VOICE + "    def classify(self, x):\n        return super().classify(x)[:, :3]\n",
            "the network returns (4, 3), expected (B, 8)",
        ),
    ],
)
def test_a_file_without_a_network_is_one_clear_line(
    text, problem, file, fold_cache, tmp_path, capsys
):
    file.write_text(text) if text else file.unlink()
    assert train(fold_cache, tmp_path / "runs", "--model", f"{file}:Voice") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert problem in error
    assert not list((tmp_path / "runs").glob("*/*"))
    with pytest.raises(ValueError, match="not built in"):
        model.add_file(f"{model.own.__file__}:erann")


def test_a_run_keeps_its_code_and_is_not_resumed_with_another(file, fold_cache, tmp_path, capsys):
    given = [fold_cache, tmp_path, "--model", f"{file}:Voice", "--resume"]
    assert train(*given) == 0
    folder = tmp_path / "Voice" / "fold_0"
    run, copy = read_run(folder), folder / "model.py"
    assert copy.read_text() == VOICE
    assert run.config.source == model.source_of("Voice")
    models, _ = read_runs(tmp_path)
    (row,) = (each for each in Report.of(models).settings if each["title"] == "code of the network")
    assert row["of_models"] == [f"my_voice.py {run.config.source['sha256']}"]
    file.write_text(VOICE + "# changed\n")
    assert train(*given) == 2
    assert "settings (recorded and current: source.sha256: " in capsys.readouterr().err
    copy.write_text(VOICE + "# changed\n")
    with pytest.raises(RunError, match="is missing or has changed since the run"):
        read_run(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A cache, and a finished run of a network from a file, whose code has not run here."""
    base = tmp_path_factory.mktemp("own")
    (base / "my_voice.py").write_text(VOICE)
    cache = clips_with_sound(base / "cache")
    model.add_file(f"{base / 'my_voice.py'}:Voice")
    origin = origin_of(cache) | {"config": Settings(modality="audio").config()}
    finished_run(base / "runs", cache, "Voice", source=model.source_of("Voice"), cache=origin)
    return base


@pytest.fixture(params=["predict", "onnx", "safetensors", "robustness"])
def command(request, finished, tmp_path, monkeypatch):
    """A command that uses the run, in a process that has not run its code; returns its status."""
    monkeypatch.setattr(own, "_FILES", {})
    checkpoint = str(finished / "runs" / "Voice" / "fold_0" / "last.pt")
    sound = tmp_path / "clip.wav"
    soundfile.write(sound, tone(3.3, 44_100)[0], 44_100)
    main, *given = {
        "predict": (predict_main, str(sound), "--checkpoint", checkpoint),
        "onnx": (export_main, "--checkpoint", checkpoint, "--out", str(tmp_path / "x.onnx")),
        "safetensors": (export_main, "--checkpoint", checkpoint, "--safetensors", str(tmp_path)),
        "robustness": (
            robustness_main,
            "--runs",
            f"{finished}/runs",
            "--cache",
            f"{finished}/cache",
        ),
    }[request.param]
    return lambda *more: main([*given, *map(str, more)])


def test_the_code_of_a_run_runs_only_where_that_is_allowed(command, finished, tmp_path, capsys):
    assert command() in (1, 2)
    printed = capsys.readouterr().err
    assert "is defined by code in my_voice.py. If you trust it, pass --allow-code" in printed
    other = tmp_path / "other.py"
    other.write_text(VOICE + "# changed\n")
    assert command("--allow-code", other) in (1, 2)
    printed += capsys.readouterr().err
    assert re.search("other.py:Voice: has changed: sha256 .{12}, the run has .{12}", printed)
    assert "running" not in printed
    assert command("--allow-code") == 0
    copy = finished / "runs" / "Voice" / "fold_0" / "model.py"
    assert f"running the code of {copy}, sha256 " in capsys.readouterr().err
    assert command("--allow-code", finished / "my_voice.py") == 0
    assert (tmp_path / "model.py").exists() == (tmp_path / "README.md").exists()  # published
