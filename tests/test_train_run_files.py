"""When a run is done, and that it goes on as the run that it was begun as."""

import pytest

from model.checkpoint import CheckpointError
from train.run_files import check_same, is_done

BEGUN = {
    **{"model": "cfn_sr", "parameters": 9, "preset": "tiny", "split": "paper", "fold": 0},
    **{"recipe": "paper", "epochs": 2, "ema": 0.0, "precision": "float32", "compiled": False},
    **{"deterministic": False, "seed": 0, "validation": False, "train_clips": 8, "test_clips": 8},
    **{"train_actors": [5, 6], "test_actors": [1, 2]},
    "init": {"video": {"file": "a.pth", "sha256": "00", "run": None}},
    "cache": {"dataset": "noise", "config": {"hop": 512}, "fingerprint": "00"},
    **{"device": "cpu (1 thread)", "versions": {"torch": "2.15.0"}},
}


@pytest.mark.parametrize("missing", [None, "config.json", "last.pt", "predictions.csv"])
def test_a_run_is_done_with_settings_weights_and_predictions(missing, tmp_path):
    for name in {"config.json", "last.pt", "predictions.csv", "metrics.jsonl"} - {missing}:
        (tmp_path / name).touch()
    assert is_done(tmp_path) == (missing is None)


@pytest.mark.parametrize("name", sorted(BEGUN.keys() - {"device", "versions"}))
def test_no_setting_may_differ_when_a_run_goes_on(name, tmp_path):
    with pytest.raises(CheckpointError, match=rf"holds a run with other settings \({name} was "):
        check_same(tmp_path, BEGUN, {**BEGUN, name: "another"})


@pytest.mark.parametrize(
    ("name", "inner", "path"),
    [
        ("cache", {"fingerprint": "11"}, r"cache\.fingerprint"),
        ("cache", {"config": {"hop": 256}}, r"cache\.config\.hop"),
        ("init", {"video": {"file": "a.pth", "sha256": "11", "run": None}}, r"init\.video\.sha256"),
        ("init", {"audio": {"file": "b.pth"}}, r"init\.audio"),
    ],
)
def test_what_differs_within_a_setting_is_named_by_its_path(name, inner, path, tmp_path):
    with pytest.raises(CheckpointError, match=rf"\({path} was "):
        check_same(tmp_path, BEGUN, {**BEGUN, name: {**BEGUN[name], **inner}})


def test_a_run_may_go_on_on_another_machine_from_a_file_of_another_name(tmp_path):
    elsewhere = {"device": "cuda", "versions": {"torch": "2.16.0"}}
    moved = {"init": {"video": {**BEGUN["init"]["video"], "file": "b.pth"}}}
    check_same(tmp_path, BEGUN, {**BEGUN, **elsewhere, **moved})
