"""The documents for people who extend the project, followed to the letter on small caches."""

import importlib
import json
import re
import shlex
import shutil
from glob import glob
from pathlib import Path

from finished import clips_with_sound
from noise import change_manifest, write_noise_cache
from processes import ROOT, run
from test_evaluate_weights import SETTINGS, arrays_of

from cache.ravdess import expected_clips

# In a checkout that is set up. What make and the shell would run by Python is printed, and run
# afterwards in this process, which has loaded torch.
PRINT = '#!/bin/bash\necho python "${@@Q}"\n'
SHELL = 'set -e; python() { $RUN "$@"; }; make() { command make -o .venv/.ready RUN=$RUN "$@"; }'


def blocks_of(name: str, language: str) -> list[str]:
    """The code of a document in this language, block by block."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / name).read_text(), re.S)


def test_extend_leads_from_a_file_to_the_report_and_what_is_made_of_it(
    sample_clips, tmp_path, capsys
):
    clips = [clip for actor in range(1, 9) for clip in expected_clips(actor)[:12:6]]
    write_noise_cache(tmp_path / "cache", clips, arrays_of)
    change_manifest(tmp_path / "cache", lambda found: found.update(config=SETTINGS.config()))
    (code,), (train, _, use) = blocks_of("extend.md", "python"), blocks_of("extend.md", "sh")
    (tmp_path / "fusion").mkdir()
    (tmp_path / "fusion" / "my_fusion.py").write_text(code)
    script = "\n".join([SHELL, train, use])
    for old, new in (
        ("data/landmark-cache", tmp_path / "cache"),
        ("runs-landmarks", tmp_path / "runs"),
        ("report-landmarks", tmp_path / "report"),
        ("my_clip.mp4", sample_clips / "Actor_05/01-01-01-01-01-01-05.mp4"),
    ):
        script = script.replace(old, str(new))
    printer = tmp_path / "print"
    printer.write_text(PRINT)
    printer.chmod(0o755)
    done = run("bash", "-c", script, HOME=tmp_path, FOLDS=0, EPOCHS=1, RUN=printer)
    for line in re.findall("^python .*", done.stdout, re.M):
        _, first, *words = shlex.split(line)  # python, and `-m NAME` or `train.py`
        name = words.pop(0) if first == "-m" else Path(first).stem
        words = [each for word in words for each in glob(word) or [word]]  # of runs by now
        main = importlib.import_module("model.__main__" if name == "model" else f"{name}.cli").main
        assert main(words) == 0
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    compared = [(pair["first"], pair["second"]) for pair in summary["comparisons"]["pairs"]]
    assert ("cfn_sr", "GatedFusion") in compared
    folder = tmp_path / "runs" / "GatedFusion" / "fold_0"
    config = json.loads((folder / "config.json").read_text())
    assert (config["recipe"], sorted(config["init"])) == ("fusion", ["audio", "video"])
    assert '"model": "GatedFusion", "predicted": ' in capsys.readouterr().out
    assert (folder / "robustness.json").exists()
    made = sorted(path.name for path in (tmp_path / "report").glob("gated*/*"))
    assert made == ["README.md", "fold_0.safetensors", "model.py"]
    card = (tmp_path / "report" / "gated.md").read_text()  # exporting compared it with torch
    assert "| `landmarks` (input) | float32 | (N, 30, 68, 2) | x, y of 68 facial points" in card


def test_python_is_run_block_by_block_as_in_a_notebook(sample_clips, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clips_with_sound(tmp_path / "demo/cache", actors=(1, 2, 5, 6))
    shutil.copy(sample_clips / "Actor_05/01-01-01-01-01-01-05.mp4", "my_clip.mp4")
    names: dict = {}
    for block in blocks_of("python.md", "python"):
        exec(block, names)
    assert names["logits"].shape == names["probabilities"].shape == (2, 8)
    assert names["voices"].shape == (4, 13, 212)
    assert (names["status"], names["run"].fold) == (0, 0)
    assert sum(names["prediction"].by_emotion.values()) > 0.999
    assert "8 (30, 224, 224, 3) float32" in capsys.readouterr().out
    assert names["main"](["--no-such-option"]) == 2  # and no SystemExit
