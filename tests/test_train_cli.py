"""What train.py decides before it trains: what is finished, what may be resumed, what is wrong."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from training import AUDIO, sigterm_after_step, train

from cache.files import locked
from cache.ravdess import expected_clips


@pytest.fixture(scope="module")
def runs(fold_cache, tmp_path_factory):
    """A finished run of fold 0, and unfinished ones of fold 0 and 1: two epochs of three."""
    base = tmp_path_factory.mktemp("runs")
    assert train(fold_cache, base / "finished") == 0
    for name, fold in (("unfinished", 0), ("other", 1)):
        with sigterm_after_step(5):
            assert train(fold_cache, base / name, "--epochs", 3, "--fold", fold) == 1
    return base


@pytest.fixture
def finished(runs, tmp_path) -> Path:
    """The folder of runs with a copy of a finished run of one epoch."""
    return Path(shutil.copytree(runs / "finished", tmp_path / "runs"))


@pytest.fixture
def unfinished(runs, tmp_path) -> Path:
    """The folder of runs with a copy of a run of which two of three epochs are done."""
    return Path(shutil.copytree(runs / "unfinished", tmp_path / "runs"))


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def error_of(capsys) -> str:
    """The only error on stderr, which is the last line."""
    *others, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert not any(line.startswith(("error: ", "Traceback")) for line in others)
    return error


def test_a_second_run_changes_nothing_and_says_so(fold_cache, finished, capsys):
    before = contents_of(finished / AUDIO / "fold_0")
    with locked(finished / AUDIO / "fold_0"):  # even while another process is at work there
        for more in ((), ("--resume",)):
            assert train(fold_cache, finished, *more) == 0
            assert "all 1 epochs are trained already, nothing to do" in capsys.readouterr().out
    assert contents_of(finished / AUDIO / "fold_0") == before


@pytest.mark.parametrize("which", ["finished", "unfinished"])
def test_a_run_with_other_settings_is_not_overwritten(which, fold_cache, request, capsys):
    runs = request.getfixturevalue(which)
    before = contents_of(runs / AUDIO / "fold_0")
    epochs = 1 if which == "finished" else 3
    assert train(fold_cache, runs, "--epochs", epochs, "--seed", 5, "--resume") == 2
    assert "contains a run with other settings (seed was 0, is now 5)" in error_of(capsys)
    assert contents_of(runs / AUDIO / "fold_0") == before


def test_an_unfinished_run_is_resumed_only_with_resume(fold_cache, unfinished, capsys):
    assert train(fold_cache, unfinished, "--epochs", 3) == 2
    assert "contains an unfinished run. Resume with --resume" in error_of(capsys)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("last.pt", "last.pt is missing beside predictions.csv. Put it back, or remove"),
        ("config.json", "config.json is missing. Remove that folder to train it again"),
        ("metrics.jsonl", "last.pt: epoch 1, but metrics.jsonl has 0 epochs"),
    ],
)
def test_a_run_that_lost_a_file_is_neither_finished_nor_overwritten(
    missing, message, fold_cache, finished, capsys
):
    folder = finished / AUDIO / "fold_0"
    (folder / missing).unlink()
    before = contents_of(folder)
    assert train(fold_cache, finished) == 2
    capsys.readouterr()
    assert train(fold_cache, finished, "--resume") == 2
    assert message in error_of(capsys)
    assert contents_of(folder) == before


def test_a_run_stopped_before_its_predictions_writes_them(fold_cache, finished):
    folder = finished / AUDIO / "fold_0"
    before = contents_of(folder)
    (folder / "predictions.csv").unlink()
    assert train(fold_cache, finished) == 2  # an unfinished run
    assert train(fold_cache, finished, "--resume") == 0
    after = contents_of(folder)
    for name in ("predictions.csv", "last.pt", "metrics.jsonl"):
        assert after[name] == before[name], name


def test_a_checkpoint_of_another_run_is_not_resumed(fold_cache, runs, unfinished, capsys):
    other = runs / "other" / AUDIO / "fold_1" / "last.pt"
    shutil.copy(other, unfinished / AUDIO / "fold_0" / "last.pt")
    assert train(fold_cache, unfinished, "--epochs", 3, "--resume") == 2
    assert "last.pt: of a run with other settings (fold was 1, is now 0" in error_of(capsys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:1], "epoch 2, but metrics.jsonl has 1 epochs. They do not belong"),
        (lambda lines: lines[1:], "metrics.jsonl, line 1: expected epoch 1"),
        (lambda lines: ["{"], "metrics.jsonl, line 1: damaged"),
    ],
)
def test_metrics_that_do_not_belong_to_the_checkpoint_are_refused(
    change, message, fold_cache, unfinished, capsys
):
    path = unfinished / AUDIO / "fold_0" / "metrics.jsonl"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    assert train(fold_cache, unfinished, "--epochs", 3, "--resume") == 2
    assert message in error_of(capsys)


@pytest.mark.parametrize("change", [{"optimizer": {}}, {"optimizer": 3}, None])
def test_a_state_that_does_not_fit_is_not_resumed(change, fold_cache, unfinished, capsys):
    path = unfinished / AUDIO / "fold_0" / "last.pt"
    state = torch.load(path, weights_only=True)
    if change is None:
        del state["training"]["optimizer"]
    else:
        state["training"] |= change
    torch.save(state, path)
    assert train(fold_cache, unfinished, "--epochs", 3, "--resume") == 2
    assert "last.pt: does not fit the network (" in error_of(capsys)


def test_files_that_a_killed_process_left_half_written_are_removed(fold_cache, tmp_path):
    leftover = tmp_path / AUDIO / "fold_0" / ".last.pt.01234567.tmp"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half a checkpoint")
    assert train(fold_cache, tmp_path) == 0
    assert not leftover.exists()


def test_two_processes_do_not_train_in_one_folder(fold_cache, tmp_path, capsys):
    with locked(tmp_path / AUDIO / "fold_0"):
        assert train(fold_cache, tmp_path) == 2
        assert (tmp_path / AUDIO / "fold_0").is_dir()  # the other's, though still empty
    assert "another run is at work there" in error_of(capsys)


def test_sigterm_is_handled_only_while_a_run_lasts(fold_cache, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    assert train(fold_cache, tmp_path) == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--fold", "6"], "fold is 6, expected 0..5"),
        (["--fold", "2"], "no clips of the held-out actors 9, 10, 11, 12 of this fold"),
        (["--fold", "1", "--validate"], "no clips of the held-out actors 9, 10, 11, 12"),
        (["--cache", "nowhere"], "nowhere: no manifest.json"),
        (["--seed", "-1"], "--seed is -1, expected 0 or more"),
        (["--epochs", "0"], "epochs is 0, expected 1 or more"),
        (["--batch-size", "1"], "batch_size is 1, expected 2 or more, since batch norm cannot"),
        (["--lr", "0"], "learning_rate is 0.0, expected a number above 0"),
        (["--lr", "nan"], "learning_rate is nan"),
        (["--warmup", "1"], "warmup is 1.0, expected 0 or more, below 1"),
        (["--ema", "1"], "ema is 1.0, expected 0 or more, below 1"),
        (["--mfcc-style", "nan"], "mfcc_style is nan, expected 0 to 100"),
        (["--mixup", "-1"], "mixup is -1.0, expected 0 or more"),
        (["--mfcc-mask-coefficients", "13"], "mfcc_mask_coefficients is 13, expected 0 to 12"),
        (["--modality-dropout", "2"], "modality_dropout is 2.0, expected 0 to 1"),
        (["--model", "erann"], "has no waveform, which erann requires. Build the cache with --wav"),
    ],
)
def test_wrong_use_is_one_clear_line(more, message, fold_cache, tmp_path, capsys):
    assert train(fold_cache, tmp_path, *more) == 2
    assert message in error_of(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(fold_cache, tmp_path, capsys):
    assert train(fold_cache, tmp_path, "--device", "cuda") == 2
    assert "--device is cuda, but torch finds no GPU" in error_of(capsys)


@pytest.mark.parametrize("change", ["cut", "swapped", "missing"])
def test_a_shard_that_is_not_the_manifests_is_not_trained_on(change, noise_cache, tmp_path, capsys):
    cache = noise_cache([expected_clips(actor)[0] for actor in (1, 5, 6)])
    shard, other = cache / "actor_05.h5", cache / "actor_06.h5"
    if change == "cut":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif change == "swapped":
        shard.write_bytes(other.read_bytes())
    else:
        shard.unlink()
    assert train(cache, tmp_path / "runs") == 2
    assert "actor_05.h5: " in error_of(capsys)
    assert not (tmp_path / "runs").exists()


def test_a_fold_with_missing_actors_is_trained_with_a_warning(fold_cache, tmp_path, capsys):
    assert train(fold_cache, tmp_path, "--preset", "tiny") == 0
    printed = capsys.readouterr()
    assert "has no clips of training actors 9, 10, 11" in printed.err
    assert "this is not the full fold" in printed.err
    assert "8 training clips, 8 held-out clips" in printed.out
    config = json.loads((tmp_path / AUDIO / "fold_0" / "config.json").read_text())
    assert config["train_actors"] == list(range(5, 25))
