"""What train.py decides before it trains: what is finished, what may be resumed, what is wrong."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from training import AUDIO, sigterm_after_step, train

from cache.files import locked
from cache.manifest import contents
from cache.ravdess import expected_clips
from cache.reader import Cache
from train.record import read_run


@pytest.fixture(scope="module")
def begun(fold_cache, tmp_path_factory):
    """A finished run of one epoch; of folds 0 and 1, runs with two of three epochs."""
    base = tmp_path_factory.mktemp("begun")
    assert train(fold_cache, base / "finished") == 0
    for fold in (0, 1):
        with sigterm_after_step(5):
            assert train(fold_cache, base / "unfinished", "--epochs", 3, "--fold", fold) == 1
    return base


@pytest.fixture
def run(begun, tmp_path, request) -> Path:
    """The folder of a copy of the run; it is in `tmp_path`."""
    which = getattr(request, "param", "finished")
    shutil.copytree(begun / which, tmp_path, dirs_exist_ok=True)
    return tmp_path / AUDIO / "fold_0"


unfinished = pytest.mark.parametrize("run", ["unfinished"], indirect=True)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def error_of(capsys) -> str:
    """The only error on stderr, which is the last line."""
    *others, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert not any(line.startswith(("error: ", "Traceback")) for line in others)
    return error


def test_a_second_run_changes_nothing_and_says_so(run, fold_cache, tmp_path, capsys):
    before = contents_of(run)
    with locked(run):  # even while another process works there
        assert train(fold_cache, tmp_path) == train(fold_cache, tmp_path, "--resume") == 0
    assert capsys.readouterr().out.count("all 1 epochs are trained already, nothing to do") == 2
    assert contents_of(run) == before


@pytest.mark.parametrize(("run", "epochs"), [("finished", 1), ("unfinished", 3)], indirect=["run"])
def test_a_run_with_other_settings_is_not_overwritten(run, epochs, fold_cache, tmp_path, capsys):
    before = contents_of(run)
    assert train(fold_cache, tmp_path, "--epochs", epochs, "--seed", 5, "--resume") == 2
    assert "with other settings (recorded and current: seed: 0 and 5)" in error_of(capsys)
    assert contents_of(run) == before


@unfinished
def test_an_unfinished_run_is_only_continued_with_resume(run, fold_cache, tmp_path, capsys):
    assert train(fold_cache, tmp_path, "--epochs", 3) == 2
    assert "contains an unfinished run. Resume with --resume" in error_of(capsys)
    # A run that is killed between its metrics and its checkpoint has metrics of one more epoch.
    second = (run / "metrics.jsonl").read_text().splitlines()[1]
    with (run / "metrics.jsonl").open("a") as opened:
        opened.write(second.replace('"epoch": 2', '"epoch": 3') + "\n")
    assert train(fold_cache, tmp_path, "--epochs", 3, "--resume") == 0
    assert [each.epoch for each in read_run(run).metrics] == [1, 2, 3]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("last.pt", "last.pt is missing beside predictions.csv. Put it back, or remove"),
        ("config.json", "config.json is missing. Remove that folder to train it again"),
        ("metrics.jsonl", "last.pt: epoch 1, but metrics.jsonl has 0 epochs"),
    ],
)
def test_a_run_that_lost_a_file_stays(missing, message, run, fold_cache, tmp_path, capsys):
    (run / missing).unlink()
    before = contents_of(run)
    assert train(fold_cache, tmp_path) == train(fold_cache, tmp_path, "--resume") == 2
    assert message in capsys.readouterr().err
    assert contents_of(run) == before


def of_fold_1(run: Path) -> None:
    shutil.copy(run.with_name("fold_1") / "last.pt", run)


def keep_line(run: Path, number: int) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text(lines[number])


def change_optimizer(run: Path, optimizer: object) -> None:
    state = torch.load(run / "last.pt", weights_only=True)
    state["training"]["optimizer"] = optimizer
    torch.save(state, run / "last.pt")


@unfinished
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_fold_1, "last.pt: from a run with other settings (recorded and current: fold: 1 and 0"),
        (
            lambda run: keep_line(run, 0),
            "epoch 2, but metrics.jsonl has 1 epochs. They do not belong together",
        ),
        (lambda run: keep_line(run, 1), "metrics.jsonl, line 1: epoch is 2, expected 1"),
        (lambda run: change_optimizer(run, {}), "last.pt: does not match the network ("),
        (lambda run: change_optimizer(run, 3), "last.pt: does not match the network ("),
    ],
)
def test_what_is_of_another_run_is_not_resumed(change, message, run, fold_cache, tmp_path, capsys):
    change(run)
    assert train(fold_cache, tmp_path, "--epochs", 3, "--resume") == 2
    assert message in error_of(capsys)


def test_two_processes_do_not_train_in_one_folder(fold_cache, tmp_path, capsys):
    with locked(tmp_path / AUDIO / "fold_0"):
        assert train(fold_cache, tmp_path) == 2
        assert (tmp_path / AUDIO / "fold_0").is_dir()  # the other's, though still empty
    assert "Wait for it, or choose another folder" in error_of(capsys)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ("[[1, 2], [2, 3]]", "actor 2 is tested twice, expected in one fold only"),
        ("[[1], [25]]", "actor is 25, expected 1..24"),
        ('[["1"]]', "actor is '1', expected 1..24"),
        ("[[1], []]", "expected a list of test actors for each fold, such as [[1, 2], [3, 4]]"),
        ('{"0": [1]}', "expected a list of test actors"),
        ("[[1]", "Expecting ',' delimiter"),
    ],
)
def test_your_own_split_is_recorded_with_the_run_and_a_wrong_one_is_one_clear_line(
    lists, message, fold_cache, tmp_path, capsys
):
    path = tmp_path / "mine.json"
    given = [fold_cache, tmp_path / "runs", "--split", path, "--fold", 1]
    for text, problem in ((None, "No such file"), (lists, message)):
        if text:
            path.write_text(text)
        assert train(*given) == 2
        error = error_of(capsys)
        assert error.startswith(f"error: --split {path}: ")
        assert problem in error
    path.write_text("[[8, 2], [1, 3]]")
    assert train(*given) == 0
    config = read_run(tmp_path / "runs" / AUDIO / "fold_1").config
    assert (config.split, config.test_actors) == ("2,8/1,3", (1, 3))
    assert config.train_actors == (2, 4, 5, 6, 7, 8)  # of the split's 2, 4..24, those in the cache


no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param("--device cuda", "--device is cuda, but torch finds no GPU", marks=no_gpu),
        ("--fold 6", "fold is 6, expected 0..5"),
        ("--fold 2", "no clips of the held-out actors [9, 10, 11, 12] of this fold"),
        ("--cache nowhere", "nowhere: no such folder, expected a cache"),
        ("--seed -1", "--seed is -1, expected 0 or more"),
        ("--batch-size 1", "batch_size is 1, expected 2 or more"),
        ("--lr 0", "learning_rate is 0.0, expected more than 0"),
        ("--ema 1", "ema is 1.0, expected 0 or more, below 1"),
        ("--mfcc-style nan", "mfcc_style is nan, expected 0 to 100"),
        ("--mfcc-mask-coefficients 13", "mfcc_mask_coefficients is 13, expected 0 to 12"),
        ("--modality-dropout 2", "modality_dropout is 2.0, expected 0 to 1"),
        ("--model erann", "has no waveform, which erann requires. Build the cache with --waveform"),
    ],
)
def test_wrong_use_is_one_clear_line(more, message, fold_cache, tmp_path, capsys):
    assert train(fold_cache, tmp_path, *more.split()) == 2
    assert message in error_of(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["cut", "another actor's"])
def test_a_shard_of_another_manifest_is_not_trained_on(content, noise_cache, tmp_path, capsys):
    cache = noise_cache([expected_clips(actor)[0] for actor in (1, 5, 6)])
    shard, other = ((cache / name).read_bytes() for name in ("actor_06.h5", "actor_05.h5"))
    (cache / "actor_06.h5").write_bytes(shard[:-1] if content == "cut" else other)
    assert train(cache, tmp_path / "runs") == 2
    assert "actor_06.h5: " in error_of(capsys)
    assert not (tmp_path / "runs").exists()


def test_too_few_clips_and_strange_numbers_of_processes_are_one_clear_line(
    noise_cache, tmp_path, capsys, monkeypatch
):
    cache = noise_cache([expected_clips(actor)[0] for actor in (1, 5)])
    assert train(cache, tmp_path / "runs") == 2
    assert "1 training and 1 held-out clips in this fold for 1 processes" in error_of(capsys)
    shutil.rmtree(cache)
    cache = noise_cache([expected_clips(actor)[0] for actor in (1, 5, 6)])
    for size, message in (
        ("2", "1 held-out clips in this fold for 2 processes, expected at least 2 for training"),
        ("two", "WORLD_SIZE is 'two', expected the number of processes"),
        ("0", "WORLD_SIZE is '0', expected the number of processes"),
    ):
        monkeypatch.setenv("WORLD_SIZE", size)
        assert train(cache, tmp_path / "runs") == 2
        assert message in error_of(capsys)
    assert not (tmp_path / "runs").exists()
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")
    assert train(cache, tmp_path / "runs") == 0
    assert "2 training clips, 1 held-out clips" in capsys.readouterr().out


def test_a_name_that_is_not_text_is_recorded_in_ascii_but_cannot_be_that_of_the_runs(
    fold_cache, tmp_path, capsys
):
    odd = os.fsdecode(b"odd\xff")
    (tmp_path / odd).symlink_to(fold_cache)
    assert train(tmp_path / odd, tmp_path / "runs") == 0
    command = read_run(tmp_path / "runs" / AUDIO / "fold_0").config.command
    assert f"{tmp_path}/odd\\udcff" in command
    assert train(fold_cache, tmp_path / odd / "runs") == 2
    assert "odd\\udcff/runs', expected a name in UTF-8" in capsys.readouterr().err


def test_a_fold_with_missing_actors_has_a_warning_and_records_what_was_there(
    fold_cache, tmp_path, capsys
):
    assert train(fold_cache, tmp_path) == 0
    printed = capsys.readouterr()
    assert "has no clips of training actors [9, 10, 11" in printed.err
    assert "8 training clips, 8 held-out clips" in printed.out
    config = read_run(tmp_path / AUDIO / "fold_0").config
    assert (config.train_actors, config.test_actors) == ((5, 6, 7, 8), (1, 2, 3, 4))
    shards = Cache(fold_cache).manifest["shards"]
    assert config.cache["contents"] == contents({"shards": shards})
    assert config.cache["contents"] != contents({"shards": [{**shards[0], "sha256": "0" * 64}]})
    assert config.versions["cfn-sr"] in Path("setup.cfg").read_text()
