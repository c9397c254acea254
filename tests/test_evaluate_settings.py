"""Settings side by side, the commands that made the runs, and what makes models incomparable."""

from dataclasses import asdict

import pytest
from fake_runs import evaluate, make_run, origin, page_text, report_of, start, write

from evaluate.report.report import Report
from evaluate.runs import differing
from train.recipe import RECIPES
from train.record import Run

RECIPE = {"mixup": 0.2, "ema": 0.99, "cosine": True}


def rows(**models: list[Run]) -> dict[str, dict]:
    """The rows of the table of settings, by title."""
    return {row["title"]: row for row in Report.of(models).settings}


def test_every_setting_and_version_has_a_row():
    found = rows(cfn_sr=[make_run(0, 180, init={}, **RECIPE)])
    assert list(found)[:4] == ["preset", "split", "recipe", "epochs"]
    for title, text in (
        *(("mixup", "0.2"), ("cosine", "yes"), ("compiled", "no"), ("mfcc shift", "0")),
        *(("precision", "float32"), ("starting weights", "random weights"), ("torch", "2.15.0")),
    ):
        assert (found[title]["of_models"], found[title]["same"]) == ([text], True), title
    assert not {"model", "fold", "command", "parameters"} & set(found)


def test_rows_in_which_models_differ_are_marked_and_folds_show_all_values():
    versions = {"torch": "2.15.0", "numpy": "2.4.6"}
    found = rows(
        cfn_sr=[make_run(0, 180, device="cpu"), make_run(1, 180, device="cuda")],
        msaf=[make_run(0, 180, model="msaf", mixup=0.4, versions=versions)],
    )
    assert found["mixup"] == {"title": "mixup", "of_models": ["0.0", "0.4"], "same": False}
    assert found["device"]["of_models"] == ["cpu, cuda", "cpu"]
    assert found["numpy"]["of_models"] == ["not recorded", "2.4.6"]
    assert found["epochs"]["same"]


@pytest.mark.parametrize(
    ("other", "titles"),
    [
        ({"mixup": 0.0}, ["mixup"]),
        ({"mixup": 0.2, "batch_size": 8, "learning_rate": 0.1}, ["batch size", "learning rate"]),
        ({"mixup": 0.2, "seed": 3, "device": "cuda", "precision": "bfloat16"}, []),
        ({"mixup": 0.2, "parameters": 3, "command": ("train.py",)}, []),
        ({"mixup": 0.2, "init": {"audio": start()}}, ["starting weights"]),
    ],
)
def test_settings_because_of_which_models_do_not_compare_are_named(other, titles):
    other = make_run(0, 180, model="msaf", **other)
    assert differing([make_run(0, 180, mixup=0.2).config, other.config]) == titles


def test_the_chain_of_the_paper_is_no_difference_but_another_start_of_a_fusion_is():
    voice = make_run(0, 180, model="audio_mfcc_cnn").config
    fused, random = (make_run(0, 180, init=init).config for init in ({"audio": start({})}, {}))
    assert differing([fused, voice]) == differing([random, voice]) == []
    assert differing([fused, voice, random]) == ["starting weights"]
    settings = asdict(RECIPES["modern"]) | {"recipe": "modern", "ema": 0.5, "init": {}}
    other = make_run(0, 180, **settings).config
    assert differing([random, other]) == ["recipe", "ema"]  # not all that follows from the recipe


def test_the_page_marks_differing_settings_and_shows_the_command_of_the_first_fold(tmp_path):
    runs = [make_run(fold, 180, mixup=0.2) for fold in (1, 3, 4)]
    text = report_of(tmp_path, *runs, make_run(1, 180, model="msaf", mixup=0.4))
    assert "the models differ in mixup (see settings)" in text
    assert "mixup differs, see below" in text
    assert "model mixup msaf 0.4 cfn_sr 0.2" in text
    typed = "train.py --cache 'my cache' --fold 1"
    assert f"cfn_sr fold 1; also trained: 3, 4 {typed}" in text


def test_hostile_text_of_runs_is_shown_as_text(tmp_path):
    evil = "<script>x</script>"
    run = make_run(
        *(0, 180),
        command=("train.py", evil, "not UTF-8", "a\nb", "$(reboot)"),
        **{"versions": {evil: "\x1b[2J"}, "device": evil, "cache": origin(evil)},
    )
    config = write(tmp_path / "runs", run) / "config.json"
    config.write_text(config.read_text().replace("not UTF-8", "\\udcff"))
    folder = write(tmp_path / "runs", make_run(1, 180, model="x")).parent
    folder.rename(tmp_path / "runs" / "<img src=x>")
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 1
    page = (tmp_path / "out" / "report.html").read_text()
    for raw in ("<script", "<img src=x>", "\x1b"):
        assert raw not in page
    text = page_text(tmp_path / "out")
    for shown in (f"'{evil}'", "<img src=x>", r"\udcff", r"a\nb", "'$(reboot)'", r"\x1b[2J"):
        assert shown in text
