"""The report: known means, honest words, the same bytes again, and the command's exit status."""

import json
import re
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from fake_runs import Tags, evaluate, make_run, page_text, write, write_robustness

from cache.ravdess import EMOTIONS
from evaluate.measures.breakdowns import best_on_test
from evaluate.report.summary import summarise_model
from evaluate.report.write import NAMES


def test_the_mean_is_over_the_headline_folds_and_of_the_last_epoch():
    rights = [184, 167, 157, 132, 158]
    summary = summarise_model([make_run(fold, right) for fold, right in enumerate(rights)])
    last = summary["accuracy_last"]
    assert last["per_fold"] == [round(right / 240, 6) for right in rights]
    assert last["mean"] == pytest.approx(0.665, abs=1e-6)  # the authors' log, last epoch
    assert last["binomial_standard_error"] == pytest.approx(0.013625, abs=1e-6)
    assert last["standard_deviation_over_folds"] == pytest.approx(0.078539, abs=1e-6)
    assert summary["accuracy_best_on_test"] == {
        "mean": 0.9,
        "per_fold": [0.9] * 5,
        "epoch": [2] * 5,
    }
    assert (summary["folds"], summary["clips"]) == ([0, 1, 2, 3, 4], 1200)
    assert np.sum(summary["confusion"]) == 1200
    assert np.trace(summary["confusion"]) == sum(rights)
    assert list(summary["recall"]) == list(EMOTIONS)


def test_the_interval_is_of_the_mean_over_folds_where_these_differ_in_size():
    # Actor 1 alone makes half of the mean, 5..8 the other half, and these are 1, 1, 1/2, 0 right.
    first = make_run(0, 60)
    own = np.array([clip_id.endswith("-01") for clip_id in first.clip_ids])
    first = replace(
        first,
        clip_ids=tuple(np.array(first.clip_ids)[own].tolist()),
        labels=first.labels[own],
        predicted=(first.labels[own] + np.arange(60) % 4) % 8,  # a quarter right
        probabilities=first.probabilities[own],
    )
    last = summarise_model([first, make_run(1, 150)])["accuracy_last"]
    assert last["mean"] == pytest.approx((1 / 4 + 5 / 8) / 2, abs=1e-6)
    mass, share = np.array([4, 1, 1, 1, 1]) / 8, np.array([1 / 4, 1, 1, 1 / 2, 0])
    drawn = [list(actors) for actors in product(range(5), repeat=5)]
    exact = np.sort([mass[each] @ share[each] / mass[each].sum() for each in drawn])
    for bound, level in zip(last["interval"], (0.025, 0.975), strict=True):
        below, above = np.quantile(exact, [level - 0.005, level + 0.005], method="inverted_cdf")
        assert below - 1e-6 <= bound <= above + 1e-6


def test_the_sixth_rotation_is_shown_but_changes_no_mean():
    five = [make_run(fold, 120) for fold in range(5)]
    without, with_sixth = summarise_model(five), summarise_model([*five, make_run(5, 240)])
    outside = with_sixth.pop("outside_mean")
    assert without.pop("outside_mean") == []
    assert without == with_sixth
    assert outside == [
        {"fold": 5, "accuracy_last": 1.0, "accuracy_best_on_test": 1.0, "epoch": 3},
    ]


def test_best_on_test_is_the_first_of_equal_epochs():
    assert best_on_test(make_run(0, right=216, best=0.9)) == (0.9, 2)


def test_one_fold_has_no_standard_deviation():
    summary = summarise_model([make_run(0, 120)])
    assert summary["accuracy_last"]["standard_deviation_over_folds"] is None


def test_all_good_runs_give_status_0_a_line_a_model_and_all_files(tmp_path, capsys):
    for fold in range(5):
        write(tmp_path / "runs", make_run(fold, 180))
    assert evaluate(tmp_path / "runs", tmp_path / "new" / "out") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines() == [
        "cfn_sr: 75.00 % (standard deviation over 5 folds 0.00) at the last epoch "
        "(best-on-test 90.00 %, not the result)",
        str(tmp_path / "new" / "out" / "report.html"),
    ]
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(NAMES)
    summary = json.loads((tmp_path / "new" / "out" / "summary.json").read_text())
    assert summary["schema_version"] == 2
    assert summary["models"]["cfn_sr"]["accuracy_last"]["mean"] == 0.75
    assert summary["left_out"] == []


def test_the_same_runs_give_the_same_bytes_wherever_they_lie(tmp_path, capsys):
    write(tmp_path / "runs", make_run(0, 180))
    evaluate(tmp_path / "runs", tmp_path / "a")
    shutil.copytree(tmp_path / "runs", tmp_path / "elsewhere")
    evaluate(tmp_path / "elsewhere", tmp_path / "b")
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name
    capsys.readouterr()
    evaluate(tmp_path / "runs", tmp_path / "a")
    assert capsys.readouterr().out.endswith("report.html (unchanged)\n")


def test_the_page_names_the_headline_and_says_why_best_on_test_is_not_it(tmp_path):
    for fold in range(5):
        write(tmp_path / "runs", make_run(fold, 180))
    evaluate(tmp_path / "runs", tmp_path / "out")
    text = page_text(tmp_path / "out")
    assert "last epoch 75.00 %" in text
    assert "best-on-test, not the result 90.00 %" in text
    assert "it chooses the epoch by looking at the test actors" in text
    assert "75.67 % best-on-test against 66.50 % at the last epoch" in text
    assert "the paper's (best epoch on the test fold) 75.76 %" in text
    assert "Binomial standard error on the 1,200 pooled clips: 1.25 points" in text
    assert "synthetic" not in text
    assert "not the full result" not in text
    assert "every run found is in this report" in text


def test_missing_folds_are_said_plainly(tmp_path, capsys):
    for fold in (0, 1, 4):
        write(tmp_path / "runs", make_run(fold, 180))
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 0
    assert "3 of 5 folds: not the full result" in page_text(tmp_path / "out")
    assert "3 of 5 folds: not the full result" in capsys.readouterr().out


def test_the_synthetic_sample_is_never_shown_as_people_or_beside_the_paper(tmp_path, capsys):
    cache = {"dataset": "synthetic sample, seed 0", "fingerprint": "a" * 64, "schema_version": 1}
    write(tmp_path / "runs", make_run(0, 180, cache=cache))
    evaluate(tmp_path / "runs", tmp_path / "out")
    text = page_text(tmp_path / "out")
    assert "All figures here are made from the synthetic sample. They say nothing about" in text
    assert "not comparable with the paper's number" in text
    assert "75.76" not in text
    assert (
        "made from synthetic sample, seed 0, says nothing about people" in capsys.readouterr().out
    )


@pytest.mark.parametrize("settings", [{"preset": "tiny"}, {"model": "video"}])
def test_the_papers_number_stands_only_beside_the_papers_network(tmp_path, settings):
    write(tmp_path / "runs", make_run(0, 180, **settings))
    evaluate(tmp_path / "runs", tmp_path / "out")
    assert "75.76" not in page_text(tmp_path / "out")


def table_rows(out: Path, title: str) -> dict[str, dict]:
    tables = json.loads((out / "summary.json").read_text())["tables"]
    (table,) = [each for each in tables if each["title"] == title]
    return {row["model"]: row for row in table["rows"]}


def test_the_papers_tables_are_filled_beside_its_figures(tmp_path, capsys):
    for fold in range(5):
        write(tmp_path / "runs", make_run(fold, 180))
        write(tmp_path / "runs", make_run(fold, 150, model="msaf", best=0.8, parameters=25_940_724))
    write(tmp_path / "runs", make_run(0, 120, model="averaging", parameters=25_916_080))
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 0
    rows = table_rows(tmp_path / "out", "Table 1")
    assert rows["msaf"] == {
        **{"model": "msaf", "label": "MSAF", "stage": "Model"},
        **{"accuracy_last": 0.625, "accuracy_best_on_test": 0.8, "parameters": 25_940_724},
        **{"folds": 5, "headline_folds": 5, "unlike_paper": [], "interval": [0.45, 0.8]},
        **{"paper_accuracy": 0.7486, "paper_parameters": "25.94M"},
    }
    assert rows["cfn_sr"]["accuracy_last"] == 0.75
    assert rows["mmtm"]["accuracy_last"] is None
    assert rows["mmtm"]["paper_accuracy"] == 0.7312
    text = page_text(tmp_path / "out")
    assert "MSAF msaf Model 62.50 % 45.0 to 80.0 % 80.00 % 74.86 % 25,940,724 25.94M" in text
    assert (
        "Averaging averaging, 1 of 5 folds Late 50.00 % 0.0 to 100.0 % 90.00 % 68.82 % 25,916,080"
        in text
    )
    assert "MMTM mmtm Model not trained 73.12 % 31.97M" in text
    assert "Rows in grey" not in text
    assert "Table 2 of the paper" not in text  # of its rows CFN-SR alone was trained
    # Models in the order of the tables, not of the alphabet or of their accuracy.
    named = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert named == ["averaging", "msaf", "cfn_sr"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "tiny"}, "preset tiny"),
        (
            {
                "cache": {
                    **{"dataset": "synthetic sample, seed 0", "fingerprint": "a" * 64},
                    "schema_version": 1,
                }
            },
            "synthetic sample, seed 0",
        ),
    ],
)
def test_a_table_of_something_else_says_that_it_does_not_compare(settings, words, tmp_path):
    for name in ("cfn_sr", "cfn_sr_no_residual"):
        write(tmp_path / "runs", make_run(0, 180, model=name, **settings))
    evaluate(tmp_path / "runs", tmp_path / "out")
    text = page_text(tmp_path / "out")
    assert "Table 2 of the paper" in text
    assert "Rows in grey are of something else than the paper's" in text
    assert f"w/o residual cfn_sr_no_residual, 1 of 5 folds, {words} Model" in text


def test_what_the_weights_started_from_is_shown(tmp_path):
    run = {"model": "audio_mfcc_cnn", "split": "paper", "fold": 0, "epochs": 70}
    ours = {"file": "last.pt", "sha256": "0" * 64, "run": run}
    public = {"file": "public.pth", "sha256": "1" * 64, "run": None}
    write(tmp_path / "runs", make_run(0, 180, init={"audio": ours}))
    write(tmp_path / "runs", make_run(0, 180, model="msaf", init={"audio": ours, "video": public}))
    evaluate(tmp_path / "runs", tmp_path / "out")
    text = page_text(tmp_path / "out")
    assert "audio: audio_mfcc_cnn, 70 epochs" in text
    assert "video: a file of unknown actors; audio: audio_mfcc_cnn, 70 epochs" in text
    assert "the models differ in starting weights" in text
    assert "msaf started from published weights." in text


def test_weights_that_went_through_a_run_of_ours_stay_unknown(tmp_path):
    public = {"file": "public.pth", "sha256": "1" * 64, "run": None}
    run = {"model": "audio_mfcc_cnn", "epochs": 70, "init": {"audio": public}}
    laundered = {"file": "last.pt", "sha256": "0" * 64, "run": run}
    write(tmp_path / "runs", make_run(0, 180, init={"audio": laundered}))
    evaluate(tmp_path / "runs", tmp_path / "out")
    text = page_text(tmp_path / "out")
    assert "audio: audio_mfcc_cnn, 70 epochs, itself from a file of unknown actors" in text
    assert "cfn_sr started from published weights." in text


def test_only_the_rows_that_are_something_else_are_marked(tmp_path):
    write(tmp_path / "runs", make_run(0, 180))
    write(tmp_path / "runs", make_run(0, 180, model="cfn_sr_no_residual"))
    write(tmp_path / "runs", make_run(0, 180, model="erann", preset="tiny"))
    evaluate(tmp_path / "runs", tmp_path / "out")
    text = page_text(tmp_path / "out")
    one, two = text.split("Table 1 of the paper")[1].split("Table 2 of the paper")
    assert "Rows in grey" in one
    assert "ERANNs erann, 1 of 5 folds, preset tiny Model" in one
    assert "CFN-SR, A->V cfn_sr, 1 of 5 folds Model" in one
    assert "Rows in grey" not in two


def test_models_trained_differently_are_marked_as_not_comparable(tmp_path):
    write(tmp_path / "runs", make_run(0, 180))
    write(tmp_path / "runs", make_run(0, 190, model="video", preset="tiny"))
    evaluate(tmp_path / "runs", tmp_path / "out")
    assert "the models differ in preset" in page_text(tmp_path / "out")


def test_unfinished_and_damaged_runs_are_listed_and_in_no_mean(tmp_path, capsys):
    write(tmp_path / "runs", make_run(0, 180))
    (write(tmp_path / "runs", make_run(1, 240)) / "predictions.csv").unlink()
    (write(tmp_path / "runs", make_run(2, 240)) / "metrics.jsonl").write_text("<b>oops</b>\n")
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 1
    errors = capsys.readouterr().err
    assert "cfn_sr/fold_1 is unfinished: predictions.csv is not there yet, 3 of 3" in errors
    assert "cfn_sr/fold_2 is damaged: metrics.jsonl line 1 is not JSON" in errors
    text = page_text(tmp_path / "out")
    assert "cfn_sr/fold_1 is unfinished" in text
    assert "cfn_sr/fold_2 is damaged" in text
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["models"]["cfn_sr"]["folds"] == [0]
    assert summary["models"]["cfn_sr"]["accuracy_last"]["mean"] == 0.75
    assert [each["state"] for each in summary["left_out"]] == ["unfinished", "damaged"]


def test_without_a_usable_run_there_is_no_report_and_status_1(tmp_path, capsys):
    (write(tmp_path / "runs", make_run(0, 180)) / "predictions.csv").unlink()
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 1
    assert not (tmp_path / "out").exists()
    assert "no run can be used, so no report was written" in capsys.readouterr().err


def test_wrong_use_is_status_2_and_one_line(tmp_path, capsys):
    assert evaluate(tmp_path / "nowhere", tmp_path / "out") == 2
    assert re.fullmatch("error: runs is .* not a folder.*\n", capsys.readouterr().err)
    (tmp_path / "empty").mkdir()
    assert evaluate(tmp_path / "empty", tmp_path / "out") == 2
    assert re.fullmatch("error: .* holds no run: .*\n", capsys.readouterr().err)
    write(tmp_path / "runs", make_run(0, 180))
    (tmp_path / "file").touch()
    assert evaluate(tmp_path / "runs", tmp_path / "file") == 2
    assert re.fullmatch("error: out is .* cannot be a folder.*\n", capsys.readouterr().err)


def test_text_from_runs_cannot_become_markup(tmp_path):
    evil = "<script>alert(1)</script>"
    cache = {"dataset": f"RAVDESS {evil}", "fingerprint": "a" * 64, "schema_version": 1}
    write(tmp_path / "runs", make_run(0, 180, cache=cache, device=evil, versions={evil: evil}))
    write(tmp_path / "runs", make_run(1, 180, model="x")).parent.rename(
        tmp_path / "runs" / "<img src=x>"
    )
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "<img src=x>" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;img src=x&gt;" in page


def test_the_page_asks_for_nothing_from_outside(tmp_path):
    write(tmp_path / "runs", make_run(0, 180))
    evaluate(tmp_path / "runs", tmp_path / "out")
    tags = Tags()
    tags.feed((tmp_path / "out" / "report.html").read_text())
    assert not {name for name, _ in tags.seen} & {"script", "link", "iframe", "object", "base"}
    for name, attributes in tags.seen:
        for key in ("src", "srcset"):
            assert attributes.get(key, "data:").startswith("data:"), (name, key)
        assert attributes.get("href", "#").startswith("#")
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.findall(r"url\((?!#)", page) == []


def test_robustness_is_shown_as_the_mean_over_the_folds_of_the_result(tmp_path):
    for fold, accuracy in ((0, 0.8), (1, 0.6)):
        write_robustness(write(tmp_path / "runs", make_run(fold, 180)), accuracy)
    write_robustness(write(tmp_path / "runs", make_run(5, 180)), 0.1)  # in no mean
    write(tmp_path / "runs", make_run(0, 180, model="msaf"))
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    rows = {row["name"]: row for row in summary["robustness"]}
    assert {row["model"] for row in rows.values()} == {"cfn_sr"}
    assert rows["as_cached"]["accuracy"] == pytest.approx(0.7)
    assert rows["sound_missing"]["accuracy"] == pytest.approx(0.65)
    assert rows["sound_missing"]["difference"] == pytest.approx(-0.05)
    assert rows["as_cached"]["folds"] == 2
    text = page_text(tmp_path / "out")
    assert re.search(r"cfn_sr 70\.0\s% 65\.0\s%", text)
    assert "Robustness" in text


def test_figures_on_changed_clips_that_belong_to_other_predictions_are_left_out(tmp_path, capsys):
    folder = write(tmp_path / "runs", make_run(0, 180))
    write_robustness(folder, 0.7)
    predictions = folder / "predictions.csv"
    predictions.write_text(predictions.read_text().replace("0.65", "0.650"))
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 1
    assert "robustness.json is of other predictions" in capsys.readouterr().err
    assert "Robustness" not in page_text(tmp_path / "out")
