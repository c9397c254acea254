"""Comparisons: only of models with the same clips, each pair once, adjusted for their number."""

import pytest
from fake_runs import SAMPLE, make_run, report_of

from cache.ravdess import expected_clips
from evaluate.measures import mcnemar
from evaluate.report.report import Report
from train.record import Run


def five(model: str, right: int, **settings) -> list[Run]:
    return [make_run(fold, right, model=model, **settings) for fold in range(5)]


def report(**models: list[Run]) -> Report:
    return Report.of(models)


def test_a_pair_is_compared_clip_by_clip_and_the_summary_keeps_four_digits_of_a_tiny_p():
    found = report(cfn_sr=five("cfn_sr", 180), msaf=five("msaf", 150, preset="tiny"))
    (pair,) = found.pairs
    assert (pair["first"], pair["second"], pair["clips"]) == ("cfn_sr", "msaf", 1200)
    # Of 240 clips, the first 180 are right and the first 150: the 30 between distinguish them.
    assert (pair["only_first_right"], pair["only_second_right"]) == (150, 0)
    assert (pair["accuracy_first"], pair["accuracy_second"]) == (0.75, 0.625)
    assert pair["difference"] == pytest.approx(0.125)
    assert pair["p"] == mcnemar(150, 0)
    # One actor in four differs, by 1/2; the bounds are not symmetric, on the logit scale.
    assert pair["interval"] == pytest.approx((0.020044, 0.227231), abs=1e-6)
    (written,) = found.to_json()["comparisons"]["pairs"]
    assert written["p"] == pytest.approx(pair["p"], rel=1e-3)
    assert 0 < written["p"] < 1e-40
    assert (written["interval"], written["differ_in"]) == ([0.020044, 0.227231], ["preset"])


def test_every_pair_is_there_once_those_with_the_main_model_first():
    found = report(msaf=five("msaf", 150), cfn_sr=five("cfn_sr", 180), x=five("x", 200))
    pairs = found.pairs
    assert found.main == "cfn_sr"  # though x is better
    assert [(pair["first"], pair["second"]) for pair in pairs] == [
        *(("cfn_sr", "msaf"), ("cfn_sr", "x"), ("msaf", "x"))
    ]
    assert found.with_main == 2
    assert [pair["difference"] for pair in pairs] == pytest.approx([1 / 8, -1 / 12, -5 / 24])
    assert pairs[1]["p_holm_with_main"] == pairs[1]["p"]  # the larger of the two
    assert pairs[0]["p_holm_with_main"] == 2 * pairs[0]["p"]
    assert pairs[2]["p_holm_with_main"] is None
    assert pairs[2]["p_holm_all_pairs"] == 3 * pairs[2]["p"]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (five("msaf", 150)[:4], "different folds"),
        (five("msaf", 150, cache=SAMPLE), "different datasets"),
        (five("msaf", 150, split="luna5"), "different splits"),
        (
            [*five("msaf", 150)[:4], make_run(4, 99, model="msaf", clips=expected_clips(17))],
            "different clips",
        ),
    ],
)
def test_models_with_other_clips_are_not_compared_and_the_reason_is_given(other, reason):
    found = report(cfn_sr=five("cfn_sr", 180), msaf=other)
    assert found.pairs == []
    assert found.not_compared == [{"first": "cfn_sr", "second": "msaf", "reason": reason}]


def test_the_page_says_how_many_comparisons_are_made(tmp_path):
    rights = {"cfn_sr": 180, "msaf": 150, "mmtm": 170}
    runs = [make_run(0, right, model=model) for model, right in rights.items()]
    text = report_of(tmp_path, *runs, make_run(1, 99, model="x"))
    assert "2 comparisons are made here, and p is adjusted for that number" in text
    assert "comparisons.csv has all 3 pairs, adjusted for 3." in text
    assert (
        "msaf 1 of 5 folds: not the full result 62.50 % +12.50 \N{MINUS SIGN}27.15 to +48.52"
        in text
    )
    assert " 30 0 < 0.0001 < 0.0001" in text
    assert "Not compared, because they were not tested on the same clips: x: different f" in text
