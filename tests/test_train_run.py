import csv
import itertools
import json
import math
import signal
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import noise_arrays, write_noise_cache
from finished import write_cache
from training import CPU, JUDGING, one_epoch

import model
from cache.files import locked
from cache.ravdess import EMOTIONS, Clip, expected_clips
from cache.reader import Cache
from model.checkpoint import CheckpointError, load
from train.checkpoint import PREVIOUS, save
from train.cli import asked_to_stop, main
from train.loop import TrainingError
from train.loop import test as held_out
from train.recipe import Recipe, learning_rate

AUDIO = "audio_mfcc_cnn"  # the fastest network
FAST = ("--model", AUDIO, "--epochs", 1)


def train(cache, runs, *more):
    fixed = ["--fold", "0", "--preset", "tiny", "--device", "cpu", "--batch-size", "4"]
    fixed += ["--save-every", "0"]
    return main(["--cache", str(cache), "--runs", str(runs), *fixed, *map(str, more)])


def lines_of(runs, name="cfn_sr"):
    text = (runs / name / "fold_0" / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def results_of(runs):
    """The lines of metrics.jsonl without what a clock says."""
    timed = ("clips_per_second", "seconds")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines_of(runs)]


def weights_of(runs):
    state = load(runs / "cfn_sr" / "fold_0" / "last.pt", torch.device("cpu"))
    moments = state["training"]["optimizer"]["state"]
    return {**state["model"], **{str(k): v for k, v in moments.items()}}


def test_a_run_leaves_the_files_of_the_contract(fold_cache, tmp_path):
    assert train(fold_cache, tmp_path, "--epochs", 2) == 0
    run = tmp_path / "cfn_sr" / "fold_0"
    assert (run / "tensorboard").is_dir()
    assert sorted(path.name for path in run.iterdir() if path.is_file()) == [
        "config.json",
        "last.pt",
        "metrics.jsonl",
        "predictions.csv",
    ]
    config = json.loads((run / "config.json").read_text())
    assert config["test_actors"] == [1, 2, 3, 4]
    assert not set(config["test_actors"]) & set(config["train_actors"])
    assert (config["train_clips"], config["test_clips"]) == (8, 8)
    with torch.device("meta"):
        assert config["parameters"] == model.count_parameters(model.build("cfn_sr", "tiny"))
    lines = lines_of(tmp_path)
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(0 <= line["test_accuracy"] <= 1 for line in lines)


def test_predictions_are_those_of_the_last_epoch(fold_cache, tmp_path):
    assert train(fold_cache, tmp_path, "--epochs", 2) == 0
    with (tmp_path / "cfn_sr" / "fold_0" / "predictions.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert list(rows[0]) == ["clip_id", "label", "predicted", *(f"p_{name}" for name in EMOTIONS)]
    assert len(rows) == 8
    for row in rows:
        shares = [float(row[f"p_{name}"]) for name in EMOTIONS]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert shares[int(row["predicted"])] == max(shares)
        assert int(row["label"]) == int(row["clip_id"].split("-")[2]) - 1
        assert int(row["clip_id"].split("-")[6]) <= 4
    hits = sum(row["label"] == row["predicted"] for row in rows)
    assert hits / 8 == lines_of(tmp_path)[-1]["test_accuracy"]


def test_a_checkpoint_is_data_alone(fold_cache, tmp_path):
    assert train(fold_cache, tmp_path, "--epochs", 1) == 0
    path = tmp_path / "cfn_sr" / "fold_0" / "last.pt"
    state = torch.load(path, weights_only=True)
    assert state["epoch"] == 1
    net = model.build("cfn_sr", "tiny")
    net.load_state_dict(state["model"])


def test_the_same_seed_gives_the_same_run_to_the_bit(fold_cache, tmp_path):
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        assert train(fold_cache, tmp_path / name, "--epochs", 1, "--seed", seed) == 0
    one, two, other = (weights_of(tmp_path / name) for name in ("one", "two", "other"))
    assert torch.equal(one["head.weight"], two["head.weight"])
    assert not torch.equal(one["head.weight"], other["head.weight"])


def stop_after_two(monkeypatch):
    """Let a run save each epoch, and end it once two are saved."""

    def save_and_end(path, **state):
        save(path, **state)
        if state["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("train.run.save", save_and_end)


def test_a_resumed_run_is_the_straight_run_to_the_bit(fold_cache, tmp_path, monkeypatch):
    assert train(fold_cache, tmp_path / "straight", "--epochs", 3) == 0
    stop_after_two(monkeypatch)
    assert train(fold_cache, tmp_path / "resumed", "--epochs", 3) == 1
    monkeypatch.undo()
    assert train(fold_cache, tmp_path / "resumed", "--epochs", 3) == 2  # needs --resume
    assert train(fold_cache, tmp_path / "resumed", "--epochs", 3, "--resume") == 0
    straight, resumed = weights_of(tmp_path / "straight"), weights_of(tmp_path / "resumed")
    for name, value in straight.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, resumed[name]), name
        else:
            assert all(torch.equal(value[key], resumed[name][key]) for key in value), name
    csvs = [
        (tmp_path / name / "cfn_sr" / "fold_0" / "predictions.csv").read_bytes()
        for name in ("straight", "resumed")
    ]
    assert csvs[0] == csvs[1]


def test_a_second_run_changes_nothing_and_says_so(fold_cache, tmp_path, capsys):
    assert train(fold_cache, tmp_path, "--epochs", 1) == 0
    before = (tmp_path / "cfn_sr" / "fold_0" / "last.pt").stat().st_mtime_ns
    capsys.readouterr()
    assert train(fold_cache, tmp_path, "--epochs", 1) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "cfn_sr" / "fold_0" / "last.pt").stat().st_mtime_ns == before


def test_a_run_stopped_before_its_predictions_writes_them(fold_cache, tmp_path):
    assert train(fold_cache, tmp_path, *FAST) == 0
    run = tmp_path / AUDIO / "fold_0"
    files = ("predictions.csv", "last.pt", "metrics.jsonl")
    before = [(run / name).read_bytes() for name in files]
    (run / "predictions.csv").unlink()
    assert train(fold_cache, tmp_path, *FAST) == 2  # an unfinished run
    assert train(fold_cache, tmp_path, *FAST, "--resume") == 0
    assert [(run / name).read_bytes() for name in files] == before


def test_what_a_killed_process_left_half_written_goes(fold_cache, tmp_path):
    leftover = tmp_path / AUDIO / "fold_0" / ".last.pt.01234567.tmp"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half a checkpoint")
    assert train(fold_cache, tmp_path, *FAST) == 0
    assert not leftover.exists()


def test_mfccs_are_normalised_by_no_test_actors(tmp_path):
    """MFCCs of noise about 0; those of the test actors are 100 higher."""

    def arrays(clip):
        found = noise_arrays(clip.actor)
        return found | {"mfcc": found["mfcc"] + np.float32(100 * (clip.actor < 5))}

    cache = write_cache(tmp_path / "cache", [expected_clips(a)[0] for a in (1, 2, 5, 6)], arrays)
    assert train(cache, tmp_path, *FAST, "--mfcc-normalise") == 0
    stored = torch.load(tmp_path / AUDIO / "fold_0" / "last.pt", weights_only=True)["inputs"]
    trained = np.concatenate([noise_arrays(actor)["mfcc"] for actor in (5, 6)], axis=1)
    for name, expected in (("mfcc_mean", trained.mean(axis=1)), ("mfcc_std", trained.std(axis=1))):
        np.testing.assert_allclose(stored[name][:, 0], expected, rtol=1e-4, atol=1e-5)


def test_metrics_have_the_rate_of_each_epochs_last_step(fold_cache, tmp_path):
    more = ("--model", AUDIO, "--epochs", 4, "--lr", 0.01, "--cosine", "--warmup", 0.25)
    assert train(fold_cache, tmp_path, *more) == 0
    recipe = Recipe(learning_rate=0.01, warmup=0.25, cosine=True)
    expected = [learning_rate(recipe, step / 8) for step in (1, 3, 5, 7)]  # of two an epoch
    found = [line["learning_rate"] for line in lines_of(tmp_path, AUDIO)]
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_speed_is_that_of_the_clips_that_were_trained_since(fold_cache, tmp_path, monkeypatch):
    """By a clock that ticks once a look, so that training an epoch takes a second."""
    clock = SimpleNamespace(perf_counter=itertools.count().__next__, monotonic=time.monotonic)
    monkeypatch.setattr("train.run.time", clock)
    asked = itertools.count(1)
    monkeypatch.setattr("train.cli.asked_to_stop", lambda: nullcontext(lambda: next(asked) == 1))
    more = ("--model", AUDIO, "--epochs", 2)
    assert train(fold_cache, tmp_path, *more) == 1  # after four of eight clips
    assert train(fold_cache, tmp_path, *more, "--resume") == 0
    assert [line["clips_per_second"] for line in lines_of(tmp_path, AUDIO)] == [4, 8]


def test_checkpoints_are_as_far_apart_as_asked_for(fold_cache, tmp_path, monkeypatch):
    """By a clock that moves ten seconds with each test, so that an epoch takes as long."""
    tested, saved = [], []
    clock = SimpleNamespace(
        perf_counter=time.perf_counter, monotonic=lambda: 10.0 * (5 + len(tested))
    )

    def count_test(*arguments, **more):
        tested.append(None)
        return held_out(*arguments, **more)

    def remember(path, **state):
        saved.append(state["epoch"])
        save(path, **state)

    monkeypatch.setattr("train.run.time", clock)
    monkeypatch.setattr("train.run.test", count_test)
    monkeypatch.setattr("train.run.save", remember)
    more = ("--model", AUDIO, "--epochs", 8, "--save-every", 25)
    assert train(fold_cache, tmp_path, *more) == 0
    assert saved == [3, 6, 8]


def test_a_run_with_other_settings_is_not_overwritten(fold_cache, tmp_path, capsys):
    assert train(fold_cache, tmp_path, "--epochs", 1) == 0
    assert train(fold_cache, tmp_path, "--epochs", 1, "--seed", 5) == 2
    assert "holds a run with other settings (seed was 0, now 5)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--fold", "6"], "fold is 6, expected 0..5"),
        (["--fold", "2"], "no clips of the test actors 9, 10, 11, 12 of this fold"),
        (["--cache", "nowhere"], "no finished cache"),
        (["--seed", "-1"], "--seed is -1, expected 0 or more"),
    ],
)
def test_wrong_use_is_one_clear_line(fold_cache, tmp_path, capsys, more, message):
    assert train(fold_cache, tmp_path, *more) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert message in errors[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(fold_cache, tmp_path, capsys):
    assert train(fold_cache, tmp_path, "--device", "cuda") == 2
    assert "torch finds no GPU" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_the_run():
    net = model.build("audio_mfcc_cnn", "tiny")
    inputs = {"mfcc": torch.full((2, 13, 212), float("nan"))}
    batch = (torch.arange(2), inputs, torch.tensor([0, 1]))
    optimizer = torch.optim.Adam(net.parameters())
    with pytest.raises(TrainingError, match="the loss became nan in this epoch"):
        one_epoch(net, optimizer, [batch])


def test_a_test_loss_that_is_not_finite_stops_the_run():
    net = model.build("audio_mfcc_cnn", "tiny")
    inputs = {"mfcc": torch.full((2, 13, 212), float("nan"))}
    batch = (torch.arange(2), inputs, torch.tensor([0, 1]))
    with pytest.raises(TrainingError, match="the loss on the test clips became nan"):
        held_out(net, [batch], 2, CPU, **JUDGING)


class _Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"checkpoint_version": 2, "model": _Evil()}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="holds more than data"):
        load(tmp_path / "last.pt", torch.device("cpu"))
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"hello"])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path / "last.pt", torch.device("cpu"))


def test_the_network_learns_a_few_clips_by_heart():
    torch.manual_seed(0)
    net = model.build("cfn_sr", "tiny")
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    frames = torch.randint(0, 256, (8, 10, 56, 56, 3), dtype=torch.uint8)
    mfcc = torch.randn(8, 13, 212)
    batch = (torch.arange(8), {"frames": frames, "mfcc": mfcc}, torch.arange(8))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(20):
        totals = one_epoch(net, optimizer, [batch])
    assert totals.accuracy == 1.0
    assert totals.mean_loss < 0.5


def unfinished(fold_cache, runs, monkeypatch, *more):
    """A run of three epochs that was stopped after its second."""
    stop_after_two(monkeypatch)
    assert train(fold_cache, runs, "--epochs", 3, *more) == 1
    monkeypatch.undo()
    return runs / "cfn_sr" / "fold_0"


def test_a_checkpoint_of_another_run_is_not_gone_on_from(fold_cache, tmp_path, monkeypatch, capsys):
    mine = unfinished(fold_cache, tmp_path / "mine", monkeypatch)
    other = unfinished(fold_cache, tmp_path / "other", monkeypatch, "--fold", 1)
    other = other.with_name("fold_1")
    (mine / "last.pt").write_bytes((other / "last.pt").read_bytes())
    assert train(fold_cache, tmp_path / "mine", "--epochs", 3, "--resume") == 2
    assert "last.pt: holds a run with other settings (fold was 1, now 0" in capsys.readouterr().err


def test_metrics_that_do_not_belong_to_the_checkpoint_are_refused(
    fold_cache, tmp_path, monkeypatch, capsys
):
    run = unfinished(fold_cache, tmp_path, monkeypatch)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    for content, message in (
        (lines[0], "is of epoch 2, metrics.jsonl has 1 of 3"),
        (lines[1], "its epochs are not 1, 2, 3"),
        ("", "its epochs are not 1, 2, 3"),
        ("{", "damaged"),
    ):
        (run / "metrics.jsonl").write_text(content)
        assert train(fold_cache, tmp_path, "--epochs", 3, "--resume") == 2
        assert message in capsys.readouterr().err


def test_results_without_their_settings_are_no_finished_run(fold_cache, tmp_path, capsys):
    assert train(fold_cache, tmp_path, "--epochs", 1) == 0
    (tmp_path / "cfn_sr" / "fold_0" / "config.json").unlink()
    assert train(fold_cache, tmp_path, "--epochs", 1) == 2
    assert "holds a run without its config.json" in capsys.readouterr().err


def test_two_processes_do_not_train_in_one_folder(fold_cache, tmp_path, capsys):
    with locked(tmp_path / "cfn_sr" / "fold_0"):
        assert train(fold_cache, tmp_path, "--epochs", 1) == 2
        assert (tmp_path / "cfn_sr" / "fold_0").is_dir()  # the other's, though empty yet
    assert "another run is at work there" in capsys.readouterr().err


def test_the_learning_rate_is_the_one_asked_for(fold_cache, tmp_path):
    assert train(fold_cache, tmp_path, "--epochs", 1, "--lr", 0.0125) == 0
    state = load(tmp_path / "cfn_sr" / "fold_0" / "last.pt", torch.device("cpu"))
    assert state["training"]["optimizer"]["param_groups"][0]["lr"] == 0.0125


def test_every_epoch_has_an_order_and_crops_of_its_own(fold_cache, tmp_path, monkeypatch):
    epochs = []

    def record(net, optimizer, batches, totals, *, changes, **judging):
        positions = torch.cat([positions for positions, *_ in batches]).tolist()
        epochs.append((positions, changes.crops))
        totals.clips = len(positions)

    monkeypatch.setattr("train.run.train_epoch", record)
    assert train(fold_cache, tmp_path, "--epochs", 2) == 0
    (first, crops), (second, others) = epochs
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second
    assert not torch.equal(crops, others)


def noise_batches(sizes):
    """Uneven batches of noise for the tiny network."""
    generator = torch.Generator().manual_seed(0)
    for start, size in zip([0, *sizes], sizes, strict=False):
        frames = torch.randint(0, 256, (size, 10, 56, 56, 3), dtype=torch.uint8)
        mfcc = torch.randn(size, 13, 212, generator=generator)
        labels = torch.randint(0, 8, (size,), generator=generator)
        yield torch.arange(start, start + size), {"frames": frames, "mfcc": mfcc}, labels


def test_testing_is_in_evaluation_mode_whatever_the_batches():
    torch.manual_seed(0)
    net = model.build("cfn_sr", "tiny")
    ((positions, inputs, labels),) = noise_batches([4])
    singles = [
        (positions[i : i + 1], {k: v[i : i + 1] for k, v in inputs.items()}, labels[i : i + 1])
        for i in range(4)
    ]
    together, shares = held_out(net, [(positions, inputs, labels)], 4, CPU, **JUDGING)
    alone, alone_shares = held_out(net.train(), singles, 4, CPU, **JUDGING)
    torch.testing.assert_close(shares, alone_shares, rtol=0, atol=1e-5)
    assert together.mean_loss == pytest.approx(alone.mean_loss, abs=1e-4)
    assert together.mean_loss == pytest.approx(
        torch.nn.functional.nll_loss(shares.log(), labels).item(), abs=1e-4
    )


def test_losses_are_means_over_clips_not_over_batches():
    torch.manual_seed(0)
    net = model.build("audio_mfcc_cnn", "tiny")
    for module in net.modules():  # so that training mode does what evaluation mode does
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum, module.track_running_stats = 0.0, True
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    monitored = list(noise_batches([5, 2]))
    for batch in monitored:
        batch[1].pop("frames")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    uneven = one_epoch(net, optimizer, monitored)
    with torch.no_grad():
        sums = [
            torch.nn.functional.cross_entropy(net(None, inputs["mfcc"]), labels, reduction="sum")
            for _, inputs, labels in monitored
        ]
    assert uneven.mean_loss == pytest.approx(sum(sums).item() / 7, rel=1e-5)
    assert abs(sums[0] / 5 - sums[1] / 2) > 1e-3  # else a mean over batches would be the same


def test_each_clip_gets_the_crop_of_its_own_position(monkeypatch):
    seen = []

    def record(frames, size, crops=None):
        seen.append(crops)
        return torch.zeros(len(frames), 3, 10, size, size)

    monkeypatch.setattr("model.prepare.to_input", record)
    net = model.build("cfn_sr", "tiny")
    ((_, inputs, labels),) = noise_batches([2])
    crops = torch.rand(5, 5)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    one_epoch(net, optimizer, [(torch.tensor([4, 1]), inputs, labels)], crops=crops)
    assert torch.equal(seen[0], crops[[4, 1]])


def same_state(one, two):
    """Whether two nested states of tensors and numbers are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same_state(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same_state, one, two))
    return one == two


def checkpoint(runs, name="last.pt"):
    return torch.load(runs / "cfn_sr" / "fold_0" / name, weights_only=True)


MODERN = ("--recipe", "modern", "--mixup", "0.2", "--epochs", 3)


@pytest.mark.parametrize("recipe", [("--epochs", 3), MODERN])
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_run_that_is_told_to_stop_goes_on_to_the_same_bits(
    fold_cache, tmp_path, monkeypatch, capsys, recipe, steps
):
    assert train(fold_cache, tmp_path / "straight", *recipe) == 0
    asked = []

    def after_some_steps():
        asked.append(None)
        return len(asked) >= steps

    monkeypatch.setattr("train.cli.asked_to_stop", lambda: nullcontext(after_some_steps))
    assert train(fold_cache, tmp_path / "stopped", *recipe) == 1
    assert "saved, go on with --resume" in capsys.readouterr().err
    stopped = checkpoint(tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "cfn_sr" / "fold_0" / "predictions.csv").exists()
    monkeypatch.undo()
    assert train(fold_cache, tmp_path / "stopped", *recipe, "--resume") == 0
    straight, resumed = checkpoint(tmp_path / "straight"), checkpoint(tmp_path / "stopped")
    assert not same_state(stopped["model"], straight["model"])
    for each in (straight, resumed):
        assert each["epoch"] == 3
    assert same_state(straight, resumed)
    assert results_of(tmp_path / "straight") == results_of(tmp_path / "stopped")
    for file in ("predictions.csv", "config.json"):
        files = [tmp_path / run / "cfn_sr" / "fold_0" / file for run in ("straight", "stopped")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_sigterm_is_heard_while_a_run_lasts_and_no_longer():
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, own := lambda *_: None)
    try:
        with asked_to_stop() as stop:
            assert not stop()
            signal.raise_signal(signal.SIGTERM)
            assert stop()
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


BROKEN = [
    ("model head.bias", torch.Tensor.double, "head.bias is torch.float64, expected torch.float32"),
    ("model head.bias", lambda bias: bias * math.nan, "head.bias is not finite"),
    ("training net head.bias", lambda bias: bias * math.nan, "head.bias is not finite"),
    ("training clips", lambda _: 3, "it stands after 3 clips, where no batch ends"),
    ("training clips", lambda _: 8, "it stands after 8 clips"),
    ("training clips", lambda _: "4", "it stands after '4' clips"),
    ("training updates", lambda _: -10, "updates are -10, expected 0 or more"),
    ("training optimizer state", lambda _: {}, "its optimiser knows of no step"),
    ("training optimizer state 0 exp_avg", lambda it: it[:1], "exp_avg of its optimiser is dam"),
    ("training optimizer state 0 exp_avg_sq", lambda it: it * math.nan, "exp_avg_sq of its opt"),
    ("training optimizer param_groups 0 weight_decay", lambda _: "a", "the settings of its optim"),
]


@pytest.mark.parametrize(("place", "change", "words"), BROKEN)
def test_a_state_that_no_run_leaves_is_not_gone_on_from(
    fold_cache, tmp_path, monkeypatch, capsys, place, change, words
):
    path = unfinished(fold_cache, tmp_path, monkeypatch, "--ema", 0.9) / "last.pt"
    state = torch.load(path, weights_only=True)
    *way, last = (int(word) if word.isdecimal() else word for word in place.split())
    holder = state
    for word in way:
        holder = holder[word]
    holder[last] = change(holder[last])
    torch.save(state, path)
    assert train(fold_cache, tmp_path, "--epochs", 3, "--ema", 0.9, "--resume") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert words in error


def test_styles_need_no_normalising(fold_cache, tmp_path):
    """And do not bring it."""
    more = ("--model", AUDIO, "--epochs", 1, "--mfcc-style", 0.2)
    assert train(fold_cache, tmp_path, *more) == 0
    state = torch.load(tmp_path / AUDIO / "fold_0" / "last.pt", weights_only=True)
    assert state["inputs"] == {}


def test_a_stop_in_the_middle_of_an_epoch_saves_its_place(fold_cache, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "train.cli.asked_to_stop",
        lambda: nullcontext(lambda: asked.append(None) or len(asked) == 1),
    )
    assert train(fold_cache, tmp_path, "--epochs", 3) == 1
    state = checkpoint(tmp_path)
    assert (state["epoch"], state["training"]["clips"]) == (0, 4)
    assert not (tmp_path / "cfn_sr" / "fold_0" / "metrics.jsonl").exists()


def test_a_damaged_checkpoint_leaves_the_one_before_it(fold_cache, tmp_path, monkeypatch, capsys):
    assert train(fold_cache, tmp_path / "straight", "--epochs", 3) == 0
    run = unfinished(fold_cache, tmp_path / "damaged", monkeypatch)
    assert checkpoint(tmp_path / "damaged", PREVIOUS)["epoch"] == 1
    (run / "last.pt").write_bytes((run / "last.pt").read_bytes()[:5_000])
    assert train(fold_cache, tmp_path / "damaged", "--epochs", 3, "--resume") == 0
    assert "going on from previous.pt" in capsys.readouterr().err
    straight, resumed = checkpoint(tmp_path / "straight"), checkpoint(tmp_path / "damaged")
    assert same_state(straight["model"], resumed["model"])
    # What was written of the epoch that is trained again is dropped, and of no other.
    assert scalar_steps(run, "test/loss") == [1, 2, 3]


def test_a_run_killed_while_it_saves_has_the_checkpoint_before(fold_cache, tmp_path, monkeypatch):
    run = unfinished(fold_cache, tmp_path, monkeypatch)
    (run / "last.pt").unlink()  # moved to previous.pt, and its successor not there yet
    assert train(fold_cache, tmp_path, "--epochs", 3) == 2  # still an unfinished run
    assert train(fold_cache, tmp_path, "--epochs", 3, "--resume") == 0


def test_a_checkpoint_of_an_older_version_is_named(tmp_path):
    torch.save({"checkpoint_version": 1, "model": {}}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="a checkpoint of version 1, expected 3"):
        load(tmp_path / "last.pt", torch.device("cpu"))


def test_streamed_clips_give_the_run_of_resident_ones(fold_cache, tmp_path, monkeypatch):
    assert train(fold_cache, tmp_path / "resident", "--epochs", 2) == 0
    monkeypatch.setattr("train.stream.MEMORY_BYTES", 0)
    assert train(fold_cache, tmp_path / "streamed", "--epochs", 2) == 0
    one, two = checkpoint(tmp_path / "resident"), checkpoint(tmp_path / "streamed")
    assert same_state(one["model"], two["model"])


def test_the_mean_of_the_weights_is_tested_and_saved(fold_cache, tmp_path):
    assert train(fold_cache, tmp_path, *MODERN) == 0
    state = checkpoint(tmp_path)
    assert not same_state(state["model"], state["training"]["net"])
    assert state["model"].keys() == state["training"]["net"].keys()
    assert set(state["inputs"]) == {"mfcc_mean", "mfcc_std"}
    model.build("cfn_sr", "tiny").load_state_dict(state["model"])


def test_choices_are_made_without_a_look_at_the_test_actors(fold_cache, tmp_path, monkeypatch):
    read = set()
    original = Cache.read

    def remember(self, clip_id, field, out=None):
        read.add(Clip.parse(clip_id).actor)
        return original(self, clip_id, field, out)

    monkeypatch.setattr(Cache, "read", remember)
    assert train(fold_cache, tmp_path, "--epochs", 1, "--validate", "--fold", 1) == 2  # 9..12 miss
    assert train(fold_cache, tmp_path, "--epochs", 1, "--validate", "--fold", 4) == 0
    config = json.loads((tmp_path / "cfn_sr" / "validation_4" / "config.json").read_text())
    assert config["validation"]
    assert config["test_actors"] == [1, 2, 3, 4]
    assert set(config["train_actors"]) == set(range(5, 25)) - {17, 18, 19, 20}
    assert read == set(range(1, 9))


STORED_LOSSES = [2.53143, 2.46493, 1.89923, 2.38266]


def make_small_cache(directory):
    """Two clips each of actors 1..8, of noise that numpy draws from fixed seeds."""
    clips = [clip for actor in range(1, 9) for clip in expected_clips(actor)[:8:4]]
    return write_noise_cache(directory, clips)


def test_the_losses_are_those_that_were_stored(tmp_path):
    """Any change of arithmetic, order or randomness shows here; a wanted one changes the list."""
    cache = make_small_cache(tmp_path / "cache")
    everything = ("--recipe", "modern", "--mixup", "0.2")
    assert train(cache, tmp_path / "runs", "--epochs", 4, *everything) == 0
    losses = [line["train_loss"] for line in lines_of(tmp_path / "runs")]
    assert losses == pytest.approx(STORED_LOSSES, abs=2e-3)


@pytest.mark.parametrize(
    ("holds", "advice"),
    [
        (3, "Batches of 2 fit: --batch-size 2"),
        (1, "Batches of 1 fit: --batch-size 1"),
        (0, "Not even one clip fits: take another GPU"),
    ],
)
def test_out_of_memory_says_what_would_fit(
    fold_cache, tmp_path, monkeypatch, capsys, holds, advice
):
    original = model.build

    def small(name, preset):
        net = original(name, preset)
        net.register_forward_pre_hook(refuse)
        return net

    def refuse(net, inputs):
        if len(inputs[0]) > holds:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "build", small)
    assert train(fold_cache, tmp_path, "--epochs", 1) == 1
    error = capsys.readouterr().err
    assert f"has not the memory for batches of 4. {advice}" in error
    assert not (tmp_path / "cfn_sr" / "fold_0" / "last.pt").exists()


def test_a_lone_last_clip_joins_the_batch_before(fold_cache, tmp_path):
    """Nine training clips in batches of four: MSAF's batch norm would refuse a batch of one."""
    assert train(fold_cache, tmp_path, "--epochs", 1, "--batch-size", 7, "--model", "msaf") == 0


def test_a_run_is_trained_with_its_networks_own_loss(fold_cache, tmp_path, monkeypatch):
    asked = []
    original = model.loss
    monkeypatch.setattr(model, "loss", lambda name: asked.append(name) or original(name))
    assert train(fold_cache, tmp_path, "--epochs", 1, "--model", "multiplicative") == 0
    assert asked == ["multiplicative"]
    state = torch.load(tmp_path / "multiplicative" / "fold_0" / "last.pt", weights_only=True)
    assert state["config"]["model"] == "multiplicative"


def scalars_of(run):
    """What TensorBoard would show of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    return events.Reload()


def scalar_steps(run, name):
    return [event.step for event in scalars_of(run).Scalars(name)]


def test_tensorboard_gets_the_numbers_of_each_epoch(fold_cache, tmp_path):
    assert train(fold_cache, tmp_path, "--epochs", 2) == 0
    events = scalars_of(tmp_path / "cfn_sr" / "fold_0")
    for line in lines_of(tmp_path):
        scalars = {event.step: event.value for event in events.Scalars("test/accuracy")}
        assert scalars[line["epoch"]] == pytest.approx(line["test_accuracy"])
    assert {"train/loss", "test/loss", "learning_rate"} <= set(events.Tags()["scalars"])


def test_without_tensorboard_a_run_is_the_same(fold_cache, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train(fold_cache, tmp_path, "--epochs", 1) == 0
    assert not (tmp_path / "cfn_sr" / "fold_0" / "tensorboard").exists()
    assert len(lines_of(tmp_path)) == 1
