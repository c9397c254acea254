"""Comparisons: only of models with the same clips, each pair once, adjusted for their number."""

from dataclasses import replace

import numpy as np
import pytest
from fake_runs import make_run

from evaluate.measures.comparisons import compare, main_model
from evaluate.measures.statistics import mcnemar
from evaluate.runs.run import Run


def five(model: str, right: int, **settings) -> list[Run]:
    return [make_run(fold, right, model=model, **settings) for fold in range(5)]


def test_a_pair_is_compared_clip_by_clip():
    (pair,) = compare({"cfn_sr": five("cfn_sr", 180), "msaf": five("msaf", 150)})["pairs"]
    assert (pair["first"], pair["second"], pair["clips"]) == ("cfn_sr", "msaf", 1200)
    # The first 180 of 240 clips are right, and the first 150: the 30 between tell them apart.
    assert (pair["only_first_right"], pair["only_second_right"]) == (150, 0)
    assert (pair["accuracy_first"], pair["accuracy_second"]) == (0.75, 0.625)
    assert pair["difference"] == 0.125
    assert pair["p"] == pytest.approx(mcnemar(150, 0), rel=1e-3)
    # One actor in four differs, by 1/2: the quantiles of Binomial(20, 1/4) are 2 and 9 actors.
    assert pair["interval"] == [0.05, 0.225]


def test_rows_in_another_order_are_compared_the_same():
    first, second = five("cfn_sr", 180), five("msaf", 150)
    turned = [
        replace(
            run,
            clip_ids=run.clip_ids[::-1],
            labels=run.labels[::-1],
            predicted=run.predicted[::-1],
            probabilities=run.probabilities[::-1],
        )
        for run in second
    ]
    assert compare({"cfn_sr": first, "msaf": second}) == compare({"cfn_sr": first, "msaf": turned})


def test_every_pair_is_there_once_those_with_the_main_model_first():
    models = {
        name: five(name, right) for name, right in (("msaf", 150), ("cfn_sr", 180), ("x", 200))
    }
    found = compare(models)
    pairs = found["pairs"]
    assert [(pair["first"], pair["second"]) for pair in pairs] == [
        ("cfn_sr", "msaf"),
        ("cfn_sr", "x"),
        ("msaf", "x"),
    ]
    assert found["with_main"] == 2
    assert [pair["difference"] for pair in pairs] == pytest.approx([0.125, -0.083333, -0.208333])
    assert pairs[1]["p_holm_with_main"] == pytest.approx(pairs[1]["p"], rel=1e-3)  # the larger
    assert pairs[0]["p_holm_with_main"] == pytest.approx(2 * pairs[0]["p"], rel=1e-3)
    assert pairs[2]["p_holm_with_main"] is None
    assert pairs[2]["p_holm_all_pairs"] == pytest.approx(3 * pairs[2]["p"], rel=1e-3)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ([make_run(fold, 150, model="msaf") for fold in range(4)], "different folds"),
        (
            five(
                "msaf",
                150,
                cache={"dataset": "synthetic", "fingerprint": "0f" * 32, "schema_version": 1},
            ),
            "different datasets",
        ),
        (five("msaf", 150, split="luna5"), "different splits"),
    ],
)
def test_models_with_other_clips_are_not_compared_and_it_is_said_why(other, reason):
    found = compare({"cfn_sr": five("cfn_sr", 180), "msaf": other})
    assert found["pairs"] == []
    assert found["not_compared"] == [{"first": "cfn_sr", "second": "msaf", "reason": reason}]


def test_one_missing_clip_is_enough():
    last = make_run(4, 150, model="msaf")
    fewer = {
        name: getattr(last, name)[1:]
        for name in ("clip_ids", "labels", "predicted", "probabilities")
    }
    other = [*five("msaf", 150)[:4], replace(last, **fewer)]
    found = compare({"cfn_sr": five("cfn_sr", 180), "msaf": other})
    assert found["not_compared"][0]["reason"] == "different clips"


def test_settings_that_differ_are_named_beside_the_difference():
    models = {"cfn_sr": five("cfn_sr", 180), "msaf": five("msaf", 150, preset="tiny", mixup=0.2)}
    assert compare(models)["pairs"][0]["differ_in"] == ["preset"]  # the other recorded no mixup


def test_one_actor_gives_a_difference_without_an_interval():
    def alone(model: str, right: int) -> Run:
        run = make_run(0, right, model=model)
        own = np.array([clip_id.endswith("-01") for clip_id in run.clip_ids])
        return replace(
            run,
            clip_ids=tuple(np.array(run.clip_ids)[own].tolist()),
            labels=run.labels[own],
            predicted=run.predicted[own],
            probabilities=run.probabilities[own],
        )

    (pair,) = compare({"a": [alone("a", 30)], "b": [alone("b", 15)]})["pairs"]
    assert (pair["difference"], pair["interval"]) == (0.25, None)


def test_one_model_is_compared_with_nothing():
    assert compare({"x": five("x", 1)}) == {"pairs": [], "not_compared": [], "with_main": 0}


def test_the_main_model_is_cfn_sr_or_the_first_but_never_the_best():
    assert main_model({"msaf": 1, "cfn_sr": 2}) == "cfn_sr"
    assert main_model({"msaf": 1, "erann": 2}) == "msaf"
