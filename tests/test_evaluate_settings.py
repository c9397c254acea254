"""Settings side by side, and commands that train.py takes."""

import shlex
from dataclasses import asdict, fields

import pytest
from fake_runs import evaluate, make_run, page_text, write

from evaluate.runs import settings
from evaluate.runs.run import Run
from train.cli import _parser
from train.recipe import Recipe

RECIPE = {"mixup": 0.2, "ema": 0.99, "weight_decay": 0.3, "cosine": True, "mfcc_shift": 20}


def row(models: dict[str, list[Run]], title: str) -> dict:
    (found,) = [each for each in settings.rows(models) if each["title"] == title]
    return found


def test_every_recorded_setting_has_a_row():
    models = {"cfn_sr": [make_run(0, 180, **RECIPE, precision="float32")]}
    titles = [each["title"] for each in settings.rows(models)]
    for title in ("mixup", "ema", "weight decay", "cosine", "mfcc shift", "precision", "torch"):
        assert title in titles
    assert "model" not in titles
    assert row(models, "cosine")["of_models"] == ["yes"]
    assert row(models, "mixup")["of_models"] == ["0.2"]


def test_the_command_to_train_again_repeats_every_setting_of_the_recipe():
    recipe = {**asdict(Recipe()), "mfcc_style": 0.3, "cosine": True}
    run = make_run(0, 180, **recipe, recipe="paper", compiled=True)
    words = shlex.split(settings.command([run]).replace("\\\n", " "))
    for each in fields(Recipe):
        flag = "--lr" if each.name == "learning_rate" else f"--{each.name.replace('_', '-')}"
        assert flag in words or f"--no-{flag[2:]}" in words, flag
    assert words[words.index("--mfcc-style") + 1] == "0.3"
    assert "--compile" in words


def test_rows_in_which_models_differ_are_marked():
    models = {
        "cfn_sr": [make_run(0, 180, mixup=0.2, ema=0.9), make_run(1, 180, mixup=0.2, ema=0.9)],
        "msaf": [make_run(0, 180, model="msaf", mixup=0.0, device="cuda")],
    }
    mixup, ema = row(models, "mixup"), row(models, "ema")
    assert (mixup["of_models"], mixup["same"], mixup["differ"]) == (["0.2", "0.0"], False, True)
    # What an older run did not record may have been the same.
    assert (ema["of_models"], ema["same"], ema["differ"]) == (
        ["0.9", "not recorded"],
        False,
        False,
    )
    assert row(models, "epochs")["same"]


def test_values_that_differ_between_folds_are_all_shown():
    models = {"cfn_sr": [make_run(0, 180, device="cpu"), make_run(1, 180, device="cuda")]}
    assert row(models, "device")["of_models"] == ["cpu, cuda"]


@pytest.mark.parametrize(
    ("other", "titles"),
    [
        ({"mixup": 0.0}, ["mixup"]),
        ({"mixup": 0.2, "batch_size": 8, "learning_rate": 0.1}, ["batch size", "learning rate"]),
        ({"mixup": 0.2, "seed": 3, "device": "cuda", "precision": "bfloat16"}, []),
        ({"ema": 0.99}, []),
        ({"mixup": 0.2, "init": {"audio": {"run": None}}}, ["starting weights"]),
    ],
)
def test_settings_that_change_the_question_are_named(other, titles):
    models = {
        "cfn_sr": [make_run(0, 180, mixup=0.2, precision="float32")],
        "msaf": [make_run(0, 180, model="msaf", **other)],
    }
    assert settings.differing(models) == titles


def test_the_page_marks_differing_settings_and_names_them_at_the_models(tmp_path):
    write(tmp_path / "runs", make_run(0, 180, mixup=0.2))
    write(tmp_path / "runs", make_run(0, 180, model="msaf", mixup=0.4))
    evaluate(tmp_path / "runs", tmp_path / "out")
    text = page_text(tmp_path / "out")
    assert "the models differ in mixup (see settings)" in text
    assert "mixup differs, see below" in text
    assert "model mixup msaf 0.4 cfn_sr 0.2" in text


def words_of(command: str) -> list[str]:
    """The words of the training command in a loop over folds, with fold 0 put in."""
    loop = command.replace("\\\n", " ").split("do\n")[1].split("\ndone")[0]
    return shlex.split(loop.replace("$fold", "0"))


@pytest.mark.parametrize("recipe", [{}, RECIPE, {"cosine": False, "deterministic": True}])
def test_the_command_is_one_that_the_trainer_takes_with_the_same_settings(recipe):
    run = {"model": "audio_mfcc_cnn", "split": "paper", "fold": 0, "epochs": 70}
    init = {"audio": {"run": run}, "video": {"run": None}}
    runs = [make_run(fold, 180, init=init, **recipe) for fold in (0, 3)]
    command = settings.command(runs)
    assert command.startswith("for fold in 0 3; do\n")
    python, script, *arguments = words_of(command)
    assert (python, script) == ("python", "train.py")
    parsed = vars(_parser().parse_args(arguments))
    for name, value in {**recipe, "model": "cfn_sr", "learning_rate": 0.001, "epochs": 3}.items():
        assert parsed[name] == value, name
    assert str(parsed["init_audio"]) == "RUNS/audio_mfcc_cnn/fold_0/last.pt"
    assert str(parsed["init_video"]) == "FILE"


def test_a_command_made_of_hostile_settings_stays_one_command():
    evil = "x; rm -rf ~ $(reboot) 'y' \"z\" `w`"
    run = {"model": evil, "epochs": 1}
    command = settings.command(
        [make_run(0, 180, recipe=evil, precision="\ud800", init={"audio": {"run": run}})]
    )
    words = words_of(command)
    assert words[words.index("--recipe") + 1] == evil
    assert words[words.index("--init-audio") + 1] == f"RUNS/{evil}/fold_0/last.pt"
    assert "--precision" not in words


def test_hostile_names_and_values_of_settings_are_shown_as_text(tmp_path, capsys):
    evil = {"<script>x</script>": "<b>", "\ud800": ["\ud800"], "long" * 30: "v" * 500, "": None}
    evil |= {"nested": {"a": [1, {"b": "<i>"}]}, "epochs.x": 1, "dot.ted": 1}
    for fold in range(2):
        write(tmp_path / "runs", make_run(fold, 180, **evil))
    write(tmp_path / "runs", make_run(0, 180, model="msaf", dot=1))
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 0, capsys.readouterr().err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "v" * 100 not in page
