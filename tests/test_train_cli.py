"""What train.py decides before it trains: what is done, what may be trained on, and how."""

import pytest
import torch
from test_train_run import AUDIO, FAST, train

import model
from cache.files import locked
from cache.ravdess import expected_clips


def test_a_finished_run_is_nothing_to_do_while_another_process_holds_it(
    fold_cache, tmp_path, capsys
):
    assert train(fold_cache, tmp_path, *FAST) == 0
    with locked(tmp_path / AUDIO / "fold_0"):
        assert train(fold_cache, tmp_path, *FAST) == 0
        assert "1 epochs are trained already, nothing to do" in capsys.readouterr().out
        assert train(fold_cache, tmp_path, *FAST, "--seed", 5) == 2
    assert "holds a run with other settings (seed was 0, now 5)" in capsys.readouterr().err


@pytest.mark.parametrize("more", [(), ("--resume",)])
def test_a_run_that_lost_its_weights_is_not_done_nor_overwritten(
    fold_cache, tmp_path, capsys, more
):
    assert train(fold_cache, tmp_path, *FAST) == 0
    run = tmp_path / AUDIO / "fold_0"
    before = (run / "predictions.csv").read_bytes()
    (run / "last.pt").unlink()
    assert train(fold_cache, tmp_path, *FAST, *more) == 2
    assert (
        f"error: {run}: holds predictions.csv, but last.pt is missing. Put it back, or remove that "
        "folder to train it again\n"
    ) in capsys.readouterr().err
    assert (run / "predictions.csv").read_bytes() == before
    assert not (run / "last.pt").exists()


def test_a_shard_that_is_not_the_manifests_is_not_trained_on(noise_cache, tmp_path, capsys):
    cache = noise_cache([expected_clips(actor)[0] for actor in (1, 5)])
    content = bytearray((cache / "actor_05.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (cache / "actor_05.h5").write_bytes(content)
    assert train(cache, tmp_path / "runs", *FAST) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "actor_05.h5: sha256 " in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_computes_in_its_precision_in_training_and_in_test(
    fold_cache, tmp_path, monkeypatch, precision
):
    computed_in = set()
    original = model.build

    def watched(name, preset):
        net = original(name, preset)
        net.audio.conv1.register_forward_hook(
            lambda layer, inputs, output: computed_in.add((net.training, output.dtype))
        )
        return net

    monkeypatch.setattr(model, "build", watched)
    assert train(fold_cache, tmp_path, *FAST, "--precision", precision) == 0
    dtype = getattr(torch, precision)
    assert computed_in == {(True, dtype), (False, dtype)}
