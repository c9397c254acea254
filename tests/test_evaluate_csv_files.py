"""CSV for programs, LaTeX and Markdown for papers: complete, and literal whatever they contain."""

from pathlib import Path

import pytest
from fake_runs import evaluate, make_run, origin, rows_of, summary_of, write

from cache.ravdess import EMOTIONS
from evaluate.report.write import latex_text, markdown_text


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("csv")
    msaf = {"model": "msaf", "best": 0.8, "parameters": 25_940_724}
    for fold in range(5):
        write(base / "runs", make_run(fold, 180), make_run(fold, 150, **msaf))
    noise = origin("50 % noise_a & b | c")
    write(base / "runs", make_run(5, 240))
    write(base / "runs", make_run(0, 120, model="mmtm", preset="tiny", cache=noise))
    assert evaluate(base / "runs", base / "out") == 0
    return base / "out"


def test_csv_lines_end_in_cr_lf_and_are_all_as_long_as_the_header(out):
    files = [*out.glob("*.csv")]
    assert len(files) == 7
    for file in files:
        content = file.read_bytes()
        assert content.endswith(b"\r\n")
        assert content.count(b"\n") == content.count(b"\r\n")
        rows_of(file)  # fails if a row has another length


def test_folds_are_those_of_the_result(out):
    rows = rows_of(out / "folds.csv")
    assert [(row["model"], row["fold"]) for row in rows] == [
        ("mmtm", "0"),
        *(("msaf", str(fold)) for fold in range(5)),
        *(("cfn_sr", str(fold)) for fold in range(5)),
    ]
    assert rows[0]["test_actors"] == "1 2 3 4"
    assert (rows[1]["right"], rows[1]["clips"], rows[1]["accuracy"]) == ("150", "240", "0.625")
    assert (rows[1]["accuracy_best_on_test"], rows[1]["best_epoch"]) == ("0.8", "2")


def test_the_csv_files_contain_the_figures_of_the_summary(out):
    models = summary_of(out)["models"]
    cells = {
        (row["model"], row["true"], row["predicted"]): (row["clips"], row["share_of_true"])
        for row in rows_of(out / "confusion.csv")
    }
    assert len(cells) == 3 * 8 * 8
    calm = models["msaf"]["confusion"][1]
    assert calm[2] > 0
    assert cells["msaf", "calm", "happy"] == (f"{calm[2]}", f"{round(calm[2] / sum(calm), 6)}")
    for part, name, rows in (("actor", "actors", 44), ("emotion", "emotions", 24)):
        found = rows_of(out / f"{name}.csv")
        assert len(found) == rows
        for model, figures in models.items():
            counted = [int(row["right"]) for row in found if row["model"] == model]
            assert counted == [row["right"] for row in figures[f"per_{part}"]]
    assert len(rows_of(out / "intensities.csv")) == 3 * 19


def test_comparisons_have_one_row_per_pair_with_the_same_clips(out):
    (row,) = rows_of(out / "comparisons.csv")
    assert (row["first"], row["second"], row["difference"]) == ("cfn_sr", "msaf", "0.125")
    assert float(row["interval_low"]) < 0.125 < float(row["interval_high"])
    assert float(row["p_holm_all_pairs"]) == float(row["p"]) < 1e-40


def test_the_markdown_table_has_ours_the_interval_and_the_papers(out):
    lines = (out / "table_1.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 11
    assert rows[1] == "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert "| MSAF | Model | 62.50 | 41.62 to 79.58 | 80.00 | 74.86 | 25,940,724 |" in rows[10]
    assert rows[4] == "| Averaging | Late | not trained |  |  | 68.82 |  | 25.92M |"
    assert rows[9].startswith("| MMTM \\[mmtm\\] | Model | 50.00 | 2.47 to 97.53 |")
    note = "\\[mmtm\\]: 1 of 5 folds, 50 % noise\\_a &amp; b \\| c, preset tiny; not comparable"
    assert lines[-1].startswith(note)


def test_the_latex_table_is_balanced_and_escaped(out):
    text = (out / "table_1.tex").read_text()
    for name in ("table", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") == 1
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert len(body) == 11
    assert all(line.count(" & ") == 7 and line.endswith(r" \\") for line in body)
    assert r"MSAF & Model & 62.50 & 41.62--79.58 & 80.00 & 74.86 & 25,940,724 & 25.94M" in body[8]
    assert r"50 \% noise\_a \& b \textbar{} c, preset tiny" in text
    assert "CFN-SR, A-\\textgreater{}V" in text
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")


def test_latex_and_markdown_set_every_special_character_literally():
    assert latex_text(r"a\b{c}~^#$%&_<>|") == (
        r"a\textbackslash{}b\{c\}\textasciitilde{}\textasciicircum{}\#\$\%\&\_"
        r"\textless{}\textgreater{}\textbar{}"
    )
    assert markdown_text("<b>*x*_y_`z`|&#[a](b)") == (r"&lt;b\>\*x\*\_y\_\`z\`\|&amp;#\[a\](b)")
    assert all(markdown_text(emotion) == emotion for emotion in EMOTIONS)
