"""The command: known figures, honest words, the same bytes again, and exit statuses."""

import re
import shutil

import numpy as np
import pytest
from fake_runs import (
    SAMPLE,
    evaluate,
    make_run,
    origin,
    page_text,
    report_of,
    start,
    summary_of,
    write,
    write_robustness,
)

from cache.ravdess import EMOTIONS, expected_clips
from evaluate.export.model_card import weights_card
from evaluate.report.figures import compute

FILES = {
    *("report.html", "summary.json", "folds.csv", "actors.csv", "emotions.csv", "intensities.csv"),
    *("confusion.csv", "comparisons.csv", "robustness.csv"),
    *("table_1.tex", "table_1.md", "table_2.tex", "table_2.md"),
}


def test_the_mean_is_over_the_headline_folds_and_of_the_last_epoch():
    rights = [184, 167, 157, 132, 158]
    figures = compute([make_run(fold, right) for fold, right in enumerate(rights)]).figures
    last, best = figures["accuracy_last"], figures["accuracy_best_on_test"]
    assert last["per_fold"] == [right / 240 for right in rights]
    assert last["mean"] == pytest.approx(0.665)  # the authors' log, last epoch
    assert last["binomial_standard_error"] == pytest.approx(0.013625, abs=1e-6)
    assert last["standard_deviation_over_folds"] == pytest.approx(0.078539, abs=1e-6)
    assert best["mean"] == pytest.approx(0.9)
    assert (best["per_fold"], best["epoch"]) == ([0.9] * 5, [2] * 5)
    assert (figures["folds"], figures["clips"], figures["actors"]) == ([0, 1, 2, 3, 4], 1200, 20)
    assert np.sum(figures["confusion"]) == 1200
    assert np.trace(figures["confusion"]) == sum(rights)
    assert list(figures["recall"]) == list(EMOTIONS)


def test_the_sixth_rotation_is_listed_with_the_mean_of_all_six_and_changes_no_other_figure():
    five = [make_run(fold, 120) for fold in range(5)]
    without, with_sixth = (compute(runs).figures for runs in (five, [*five, make_run(5, 240)]))
    assert without["outside_mean"] == []
    sixth = {"fold": 5, "seed": 0, "accuracy_last": 1.0, "epoch": 70, "accuracy_best_on_test": 1.0}
    assert with_sixth["outside_mean"] == [sixth]
    with_sixth["outside_mean"].clear()
    assert with_sixth.pop("accuracy_all_folds") == pytest.approx((5 * 0.5 + 1) / 6)
    assert without.pop("accuracy_all_folds") is None
    assert without["never_tested"] == [21, 22, 23, 24]
    assert without == with_sixth


def test_best_on_test_is_the_first_of_equal_epochs_and_one_fold_has_no_deviation():
    figures = compute([make_run(0, right=216, best=0.9)]).figures
    assert figures["accuracy_best_on_test"]["epoch"] == [2]
    assert figures["accuracy_last"]["standard_deviation_over_folds"] is None


def test_the_same_runs_give_the_same_bytes_wherever_they_are(tmp_path, capsys):
    write(tmp_path / "runs", make_run(0, 180))
    evaluate(tmp_path / "runs", tmp_path / "a")
    shutil.copytree(tmp_path / "runs", tmp_path / "elsewhere")
    evaluate(tmp_path / "elsewhere", tmp_path / "b")
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    capsys.readouterr()
    evaluate(tmp_path / "runs", tmp_path / "a")
    assert capsys.readouterr().out.endswith("report.html (unchanged)\n")


def test_an_unfinished_run_is_named_and_excluded_from_the_mean(tmp_path, capsys):
    (write(tmp_path / "runs", make_run(1, 240)) / "predictions.csv").unlink()
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 1
    assert "no run is usable, so no report was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    write(tmp_path / "runs", make_run(0, 180))
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 1
    for shown in (capsys.readouterr().err, page_text(tmp_path / "out")):
        assert "cfn_sr/fold_1 is unfinished: 70 of 70" in shown
    summary = summary_of(tmp_path / "out")
    assert summary["models"]["cfn_sr"]["folds"] == [0]
    assert summary["models"]["cfn_sr"]["accuracy_last"]["mean"] == 0.75
    assert [each["state"] for each in summary["left_out"]] == ["unfinished"]


@pytest.mark.parametrize(
    ("runs", "out", "words"),
    [
        ("nowhere", "out", ".*nowhere' is not a folder, expected one with <model>/fold_<k>/"),
        ("empty", "out", ".* contains no runs, expected folders <model>/fold_<k>"),
        ("runs", "file", "out is .* cannot be a folder"),
    ],
)
def test_wrong_use_is_status_2_and_one_line(runs, out, words, tmp_path, capsys):
    write(tmp_path / "runs", make_run(0, 180))
    (tmp_path / "empty" / "cfn_sr" / "validation_0").mkdir(parents=True)  # not for a report
    (tmp_path / "file").touch()
    assert evaluate(tmp_path / runs, tmp_path / out) == 2
    assert re.fullmatch(f"error: {words}.*\n", capsys.readouterr().err)


def test_good_runs_give_one_line_per_model_all_files_and_a_page_that_names_the_headline(
    tmp_path, capsys
):
    text = report_of(tmp_path, *(make_run(fold, 180) for fold in range(5)))
    out, printed = tmp_path / "out", capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines() == [
        "cfn_sr: 75.00 % (standard deviation over 5 folds 0.00) at the last epoch "
        "(best-on-test 90.00 %, not the result)",
        str(out / "report.html"),
    ]
    assert {path.name for path in out.iterdir()} == FILES
    summary = summary_of(out)
    assert (summary["schema_version"], summary["main_model"]) == (3, "cfn_sr")
    assert summary["models"]["cfn_sr"]["accuracy_last"]["mean"] == 0.75
    assert summary["left_out"] == []
    assert re.search(r"last epoch 75\.00 % 95 % interval 49\.\d\d % to 90\.\d\d %", text)
    for words in (
        "best-on-test, not the result 90.00 %",
        "it chooses the epoch by looking at the test actors",
        "75.67 % best-on-test against 66.50 % at the last epoch",
        "the paper's (best epoch on the test fold) 75.76 %",
        "Binomial standard error on the 1,200 pooled clips: 1.25 points",
        "It does not show how it could change with another training",
        "a t interval over the 20 actors, with 19 degrees of freedom",
        # Of the four actors of a fold, each with 4 neutral clips, the first three are right.
        "recall, strong neutral 80 75.00 % not acted calm 80 75.00 % 80 75.00 % happy",
        "every run that was found is in this report",
    ):
        assert words in text
    assert "synthetic" not in text
    assert "not the full result" not in text


ZERO, ONE = ({"cache": origin() | {"contents": f"{digit}f" * 32}} for digit in (0, 1))


@pytest.mark.parametrize(
    ("common", "of_last", "missing", "unlike"),
    [
        ({"recipe": "modern", "epochs": 150}, {}, [], ["recipe modern"]),
        ({"epochs": 16}, {}, ["trained 16 of 70 epochs"], []),
        ({"epochs": 80, "ema": 0.9}, {}, [], ["epochs 80 instead of 70", "ema 0.9 instead of 0.0"]),
        (ZERO, ONE, ["runs of 2 different contents of the cache"], []),
        (ZERO, {"cache": origin()}, [], []),  # an earlier run did not record the contents
    ],
)
def test_runs_of_less_or_other_data_epochs_and_programs_are_no_full_result(
    common, of_last, missing, unlike
):
    runs = [make_run(fold, 180, **common | (of_last if fold == 4 else {})) for fold in range(5)]
    found = compute(runs)
    assert (found.missing, found.unlike_paper) == (missing, unlike)


def test_what_is_missing_is_said_wherever_the_figure_stands(tmp_path, capsys):
    """Folds trained on few actors count too, and nothing else in a run tells."""
    clips = [clip for actor in (1, 2, 3) for clip in expected_clips(actor)]
    first = make_run(0, 150, clips=clips, versions={"cfn-sr": "0.1.0"})
    runs = first, make_run(4, 180, train_clips=240, versions={"cfn-sr": "0.2.0"})
    text = report_of(tmp_path, *runs)
    assert "0 1, 2, 3, 4 180 of 240 83.33 %" in text
    of_runs = ["trained on 240 of 1200 clips", "tested on 180 of 240 clips"]
    of_runs += ["runs of 2 different versions of CFN-SR"]
    missing = ["2 of 5 folds", *of_runs]
    for each in (text, capsys.readouterr().out):
        assert f"{', '.join(missing)}: not the full result" in each
    summary, table = summary_of(tmp_path / "out"), (tmp_path / "out" / "table_1.md").read_text()
    [row] = [r for r in summary["tables"][0]["rows"] if r["folds"]]
    assert summary["models"]["cfn_sr"]["missing"] == row["missing"] == missing
    for each in (table, weights_card("04", runs, None, half=False, normalized=False)):
        assert ", ".join(of_runs) in each


def test_the_synthetic_sample_is_never_shown_as_people(tmp_path, capsys):
    text = report_of(tmp_path, make_run(0, 180, cache=SAMPLE))
    assert "All figures here are made from the synthetic sample. They say nothing about" in text
    assert "75.76" not in text  # the paper's number
    assert "based on synthetic sample, seed 0, not indicative of" in capsys.readouterr().out


def test_the_papers_tables_are_filled_beside_its_figures(tmp_path, capsys):
    msaf = {"model": "msaf", "best": 0.8, "parameters": 25_940_724}
    text = report_of(
        tmp_path,
        *(make_run(fold, 180) for fold in range(5)),
        *(make_run(fold, 150, **msaf) for fold in range(5)),
        make_run(0, 120, model="averaging", parameters=25_916_080),
    )
    table = summary_of(tmp_path / "out")["tables"][0]
    rows = {row["model"]: row for row in table["rows"]}
    assert table["title"] == "Table 1"
    assert rows["msaf"] == {
        **{"model": "msaf", "label": "MSAF", "stage": "Model"},
        **{"accuracy_last": 0.625, "accuracy_best_on_test": 0.8, "parameters": 25_940_724},
        **{"folds": 5, "headline_folds": 5, "missing": [], "unlike_paper": []},
        **{"interval": [0.416165, 0.79579]},
        **{"paper_accuracy": 0.7486, "paper_parameters": "25.94M"},
    }
    assert (rows["mmtm"]["accuracy_last"], rows["mmtm"]["paper_accuracy"]) == (None, 0.7312)
    for words in (
        "MSAF msaf Model 62.50 % 41.6 to 79.6 % 80.00 % 74.86 % 25,940,724 25.94M",
        "averaging, 1 of 5 folds Late 50.00 % 2.5 to 97.5 % 90.00 % 68.82 % 25,916,080",
        "MMTM mmtm Model not trained 73.12 % 31.97M",
    ):
        assert words in text
    assert "Rows in gray" not in text
    assert "Table 2 of the paper" not in text  # of its rows, only CFN-SR was trained
    # Models in the order of the tables, not of the alphabet or of their accuracy.
    named = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert named == ["averaging", "msaf", "cfn_sr"]


def test_only_rows_that_differ_from_what_the_paper_measured_are_marked(tmp_path):
    other = make_run(0, 180, model="erann", preset="tiny", cache=SAMPLE)
    own = make_run(0, 180), make_run(0, 180, model="cfn_sr_no_residual")
    text = report_of(tmp_path, *own, other)
    one, two = text.split("Table 1 of the paper")[1].split("Table 2 of the paper")
    assert "Rows in gray" in one
    assert "ERANNs erann, 1 of 5 folds, synthetic sample, seed 0, preset tiny Model" in one
    assert "CFN-SR, A->V cfn_sr, 1 of 5 folds Model" in one
    assert "Rows in gray" not in two


def starts(run=None):
    return {"video": start({"model": "video_resnext50"}), "audio": start(run)}


@pytest.mark.parametrize(
    ("settings", "unlike"),
    [
        ({"init": {}}, ["encoders from random weights"]),
        ({"attention": "clip"}, ["attention clip"]),
        ({"init": starts()}, ["starts from weights of unknown actors"]),
        ({"init": starts({"epochs": 1})}, ["starts from runs with other settings"]),
        ({"init": starts({"recipe": "modern"})}, ["starts from runs with other settings"]),
        ({"init": starts({"changed": {"ema": 0.9}})}, ["starts from runs with other settings"]),
        ({"init": starts({})}, []),
        ({"model": "audio_mfcc_cnn"}, []),
    ],
)
def test_rows_without_the_papers_start_or_our_default_attention_are_marked(settings, unlike):
    assert compute([make_run(0, 180, **settings)]).unlike_paper == unlike


def test_a_spread_over_seeds_that_start_from_the_same_weights_is_told():
    init = starts({})
    runs = [make_run(0, 180, seed=seed, init=init) for seed in (0, 1)]
    assert "starting weights of one seed only" in compute(runs).missing
    assert "starting weights of one seed only" not in compute(runs[:1]).missing


def test_the_papers_number_is_only_beside_the_papers_network(tmp_path):
    assert "75.76" not in report_of(tmp_path, make_run(0, 180, preset="tiny"))


def test_published_weights_are_named_also_when_they_went_through_a_run_of_ours(tmp_path):
    text = report_of(
        tmp_path,
        make_run(0, 180, init={"audio": start({})}),
        make_run(0, 180, model="msaf", init={"video": start()}),
        make_run(0, 180, model="mmtm", init={"audio": start({"init": {"audio": start()}})}),
    )
    assert "mmtm, msaf started from published weights." in text
    assert "the models differ in starting weights" in text


def test_robustness_is_shown_as_the_mean_over_the_folds_of_the_result(tmp_path):
    for fold, accuracy in ((0, 0.8), (1, 0.6), (5, 0.1)):  # 5 is outside the mean
        write_robustness(write(tmp_path / "runs", make_run(fold, 180)), accuracy)
    text = report_of(tmp_path, make_run(0, 180, model="msaf"))
    rows = summary_of(tmp_path / "out")["robustness"]
    assert {(row["model"], row["folds"]) for row in rows} == {("cfn_sr", 2)}
    found = [(row["name"], row["accuracy"], row["difference"]) for row in rows]
    assert found[:2] == [("as_cached", 0.7, 0.0), ("sound_missing", 0.69, -0.01)]
    assert found[-1][1] is None
    assert re.search(r"cfn_sr 2 of 5 folds: not the full result 70\.0\s% 69\.0\s%.* - ", text)
    assert "A dash: the network uses no light." in text


def test_robustness_of_other_predictions_is_left_out_with_status_1(tmp_path, capsys):
    folder = write(tmp_path / "runs", make_run(0, 180))
    write_robustness(folder, 0.7)
    predictions = folder / "predictions.csv"
    predictions.write_text(predictions.read_text().replace("0.65", "0.650"))
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 1
    assert "cfn_sr/fold_0: robustness.json" in capsys.readouterr().err
    assert "Robustness" not in page_text(tmp_path / "out")
