"""Training: the same seed gives the same bits, resumed or not, and each step does what it says."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_runs import make_config
from networks import tiny
from noise import noise_arrays, write_noise_cache
from torch import nn
from torch._inductor.exc import InductorError
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from training import (
    AUDIO,
    CPU,
    assert_predictions_of_checkpoint,
    assert_same_run,
    checkpoint_of,
    fields_of,
    make_trainer,
    results_of,
    same_state,
    sigterm_after_step,
    train,
)

import model
from cache.ravdess import expected_clips
from cache.reader import Cache
from model.inference import classify
from model.inputs import Prepare
from train.augment import Augmentation, to_targets
from train.recipe import Recipe, learning_rate
from train.record import read_run
from train.seeds import ORDER, generator
from train.start import Start
from train.trainer import batch_sizes, make_average, make_optimizer, settle, started_parts

# Both recipes; the second run also has frames, and all that is random.
RUNS = {
    "paper": (AUDIO, ()),
    "modern": ("cfn_sr", ("--model", "cfn_sr", "--recipe", "modern", "--mixup", 0.2)),
}


@pytest.fixture(scope="module", params=RUNS)
def straight(request, fold_cache, tmp_path_factory):
    """The network, the arguments and the folder of a run of four epochs without interruption."""
    name, arguments = RUNS[request.param]
    arguments = (*arguments, "--epochs", 4)
    runs = tmp_path_factory.mktemp("straight")
    assert train(fold_cache, runs, *arguments) == 0
    return name, arguments, runs


def test_a_run_writes_the_files_of_the_contract(straight):
    name, arguments, runs = straight
    folder = runs / name / "fold_0"
    files = {path.name for path in folder.iterdir()}
    assert files == {"config.json", "metrics.jsonl", "last.pt", "predictions.csv", "tensorboard"}
    config = read_run(folder).config
    assert config == checkpoint_of(runs, name).config
    assert config.command[0] == "train.py"
    assert config.command[-len(arguments) :] == tuple(map(str, arguments))
    assert (config.train_clips, config.test_clips, config.test_actors) == (8, 8, (1, 2, 3, 4))
    checkpoint = checkpoint_of(runs, name)
    assert config.parameters == model.count_parameters(checkpoint.network().net)
    if config.settings.ema:  # the average is saved beside the weights
        assert not same_state(checkpoint.weights, checkpoint.training["net"])


def test_predictions_are_those_of_the_checkpoint_and_of_the_last_epoch(straight, fold_cache):
    name, _, runs = straight
    run = assert_predictions_of_checkpoint(runs, fold_cache, name)
    assert run.predictions.accuracy == run.metrics[-1].test_accuracy


# Any change of arithmetic, order or randomness shows here; a wanted one changes the list.
# Processors round differently, and Adam magnifies it with each step: two of them differed by 2e-6,
# 6e-5, 2e-3 and 2e-3.
STORED_LOSSES = [2.62858, 2.47232, 1.86315, 2.27787]
ROUNDING = [1e-4, 5e-4, 5e-3, 5e-3]


@pytest.mark.parametrize("straight", ["modern"], indirect=True)
def test_the_losses_are_those_that_were_stored(straight):
    name, _, runs = straight
    losses = [each["train_loss"] for each in results_of(runs, name)]
    for loss, stored, rounding in zip(losses, STORED_LOSSES, ROUNDING, strict=True):
        assert loss == pytest.approx(stored, abs=rounding)


def test_streamed_clips_give_the_run_of_resident_ones(straight, fold_cache, tmp_path, monkeypatch):
    name, arguments, runs = straight
    monkeypatch.setattr("train.stream.MEMORY_BYTES", 0)
    assert train(fold_cache, tmp_path, *arguments) == 0
    assert_same_run(runs, tmp_path, name)


@pytest.mark.parametrize(
    ("straight", "step", "finished"),
    [("paper", 1, 0), ("paper", 4, 1), ("paper", 7, 3), ("modern", 5, 2)],
    indirect=["straight"],
)
def test_an_interrupted_run_resumes(step, finished, straight, fold_cache, tmp_path, capsys):
    """SIGTERM drops the epoch under way, even after its last step, since it is not tested yet."""
    name, arguments, runs = straight
    with sigterm_after_step(step):
        assert train(fold_cache, tmp_path, *arguments) == 1
    folder = tmp_path / name / "fold_0"
    saved = f"after epoch {finished}. Finished epochs are saved; resume with --resume"
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {folder}: interrupted {saved if finished else 'in epoch 1: nothing saved'}"
    )
    assert not (folder / "predictions.csv").exists()
    assert folder.exists() == bool(finished)
    for events in folder.glob("tensorboard/*"):
        # TensorBoard reads files in the order of their names, which begin with seconds.
        events.rename(events.with_name("events.out.tfevents.1"))
    assert train(fold_cache, tmp_path, *arguments, "--resume") == 0
    assert_same_run(runs, tmp_path, name)
    assert [event.step for event in scalars_of(folder, "test/loss")] == [1, 2, 3, 4]


def scalars_of(folder: Path, name: str):
    """What TensorBoard shows of a run under this name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard")).Reload().Scalars(name)


def test_tensorboard_shows_the_metrics_of_each_epoch(straight):
    name, _, runs = straight
    metrics = results_of(runs, name)
    for title, metric in (("train/loss", "train_loss"), ("test/accuracy", "test_accuracy")):
        shown = {each.step: each.value for each in scalars_of(runs / name / "fold_0", title)}
        assert shown == pytest.approx({each["epoch"]: each[metric] for each in metrics})


@pytest.mark.parametrize("straight", ["paper"], indirect=True)
def test_without_tensorboard_a_run_is_the_same(straight, fold_cache, tmp_path, monkeypatch):
    name, arguments, runs = straight
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train(fold_cache, tmp_path, *arguments) == 0
    assert not (tmp_path / name / "fold_0" / "tensorboard").exists()
    assert_same_run(runs, tmp_path, name)


def test_every_step_is_taken_into_the_average(fold_cache):
    trainer = make_trainer(fold_cache, ema=0.9, batch_size=4)
    first = [parameter.clone() for parameter in trainer.evaluated.parameters()]
    trainer.train_epoch()
    assert trainer.averaged.n_averaged == len(trainer.batch_sizes) == 2
    moved = zip(first, trainer.evaluated.parameters(), trainer.net.parameters(), strict=True)
    assert all(not average.equal(old) and not average.equal(net) for old, average, net in moved)


@pytest.mark.parametrize(
    ("decay", "kept"),
    [
        (0.99, (2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15)),  # still growing
        (0.28, (2 / 11, 3 / 12, 0.28, 0.28, 0.28)),
    ],
)
def test_the_average_is_of_weights_and_buffers_and_forgets_faster_at_first(decay, kept):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = make_average(net, decay)
    means = {}
    for step, share in enumerate((0.0, *kept)):  # the first average is the first weights
        for value in net.state_dict().values():
            value.copy_(torch.randn(value.shape) if value.is_floating_point() else step + 5)
        average.update_parameters(net)
        for name, value in net.state_dict().items():
            counter = not value.is_floating_point()
            before = means.get(name, value)
            means[name] = value.clone() if counter else share * before + (1 - share) * value
            found = average.module.state_dict()[name]
            torch.testing.assert_close(found, means[name], msg=f"{name} at step {step}")


def test_matrices_and_kernels_decay_but_no_biases_and_norms():
    net = model.build("cfn_sr", "tiny")
    names = {parameter: name for name, parameter in net.named_parameters()}
    decayed, others = make_optimizer(net, Recipe(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    norms = (nn.BatchNorm1d, nn.BatchNorm3d, nn.LayerNorm)
    kept = {
        f"{path}.{name}"
        for path, module in net.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, norms) or name.endswith("bias")
    }
    assert {names[parameter] for parameter in others["params"]} == kept
    assert {names[parameter] for parameter in decayed["params"]} == set(names.values()) - kept


@pytest.mark.parametrize(
    ("clips", "sizes"),
    [(8, [4, 4]), (10, [4, 4, 2]), (9, [4, 5]), (1, [1]), (5, [5]), (4, [4]), (2, [2])],
)
def test_a_single_last_clip_joins_the_batch_before(clips, sizes):
    assert batch_sizes(clips, 4) == sizes


def test_each_epoch_has_its_own_order_and_each_clip_its_own_crop(fold_cache):
    trainer = make_trainer(fold_cache, "cfn_sr")
    clips = trainer.train_set.clips
    fields = fields_of(trainer.train_set.cache, clips, ("frames", "mfcc"))
    seen = []
    trainer.net.register_forward_pre_hook(lambda net, inputs: seen.append(inputs))
    orders = []
    for epoch in (1, 2):
        seen.clear()
        trainer.train_epoch()
        trainer.epoch += 1
        orders.append(torch.randperm(8, generator=generator(0, epoch, ORDER)))
        crops = Augmentation(trainer.recipe, 0, epoch, 8).crops[orders[-1]]
        chosen = {name: tensor[orders[-1]] for name, tensor in fields.items()}
        expected = Prepare(10, 56)(chosen, crops)
        for found, wanted in zip(zip(*seen, strict=True), expected, strict=True):
            torch.testing.assert_close(torch.cat(found), wanted)
    assert not torch.equal(*orders)


@pytest.mark.parametrize("name", [AUDIO, "multiplicative"])
def test_the_held_out_loss_is_the_mean_of_the_networks_own_loss(name, fold_cache, tmp_path):
    assert train(fold_cache, tmp_path, "--model", name, "--batch-size", 5) == 0
    trained = checkpoint_of(tmp_path, name).network()
    cache = Cache(fold_cache)
    clips = cache.of_actors((1, 2, 3, 4))
    inputs = trained.prepare(fields_of(cache, clips, trained.fields))
    targets = to_targets(torch.tensor([clip.label for clip in clips]))
    with torch.no_grad():
        losses = model.loss(name)(classify(trained.net, inputs, torch.float32), targets)
    assert results_of(tmp_path, name)[0]["test_loss"] == pytest.approx(losses.mean().item())


def test_metrics_have_the_learning_rate_of_each_epochs_last_step(fold_cache, tmp_path):
    more = ("--epochs", 4, "--lr", 0.01, "--cosine", "--warmup", 0.25)
    assert train(fold_cache, tmp_path, *more) == 0
    recipe = Recipe(learning_rate=0.01, warmup=0.25, cosine=True)
    expected = [learning_rate(recipe, step / 8) for step in (1, 3, 5, 7)]  # two steps per epoch
    found = [each["learning_rate"] for each in results_of(tmp_path)]
    assert found == pytest.approx(expected, rel=1e-9)
    group = checkpoint_of(tmp_path).training["optimizer"]["param_groups"][0]
    assert group["lr"] == pytest.approx(expected[-1])


def test_mfccs_are_normalized_by_the_training_actors_only(tmp_path):
    """MFCCs of noise about 0; those of the test actors are 100 higher."""

    def arrays(clip):
        found = noise_arrays(clip.actor)
        return found | {"mfcc": found["mfcc"] + np.float32(100 * (clip.actor < 5))}

    clips = [expected_clips(actor)[0] for actor in (1, 2, 5, 6)]
    cache = write_noise_cache(tmp_path / "cache", clips, arrays)
    assert train(cache, tmp_path / "normalized", "--mfcc-normalize") == 0
    stored = checkpoint_of(tmp_path / "normalized").statistics
    trained = np.concatenate([noise_arrays(actor)["mfcc"] for actor in (5, 6)], axis=1)
    for name, expected in (("mfcc_mean", trained.mean(axis=1)), ("mfcc_std", trained.std(axis=1))):
        np.testing.assert_allclose(stored[name][:, 0], expected, rtol=1e-4, atol=1e-5)
    # MixStyle needs the statistics of each clip, which do not normalize anything.
    assert train(cache, tmp_path / "styled", "--mfcc-style", 0.2) == 0
    assert checkpoint_of(tmp_path / "styled").statistics == {}


def test_validation_opens_no_shard_of_the_test_actors(tmp_path):
    """Their shards are not even there."""
    clips = [clip for actor in range(1, 10) for clip in expected_clips(actor)[:8:4]]
    cache = write_noise_cache(tmp_path / "cache", clips)
    for actor in (1, 2, 3, 4):
        (cache / f"actor_{actor:02d}.h5").unlink()
    assert train(cache, tmp_path, "--validate") == 0
    run = read_run(tmp_path / AUDIO / "validation_0")
    assert run.config.test_actors == (5, 6, 7, 8)
    assert run.config.train_actors == (9,)
    assert {clip.actor for clip in run.predictions.clips} == {5, 6, 7, 8}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_computes_in_its_precision_throughout(precision, fold_cache, tmp_path):
    computed_in = set()

    def record(module, inputs, output):
        if isinstance(module, nn.Conv1d) and output.device == CPU:
            computed_in.add((module.training, output.dtype))

    with register_module_forward_hook(record):
        assert train(fold_cache, tmp_path, "--precision", precision) == 0
    dtype = getattr(torch, precision)
    assert computed_in == {(True, dtype), (False, dtype)}


@pytest.mark.parametrize("training", [True, False])
def test_out_of_memory_is_one_line_that_says_what_to_lower(training, fold_cache, tmp_path, capsys):
    def refuse(module, inputs):
        if module.training == training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    with register_module_forward_pre_hook(refuse):
        assert train(fold_cache, tmp_path) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: out of memory on cpu (1 thread) with batch size 4. Lower --batch-size, or use "
        "--preset tiny"
    )
    assert not (tmp_path / AUDIO / "fold_0" / "last.pt").exists()


@pytest.mark.parametrize(
    ("batch_size", "what"),
    [(4, "the training loss of epoch 1"), (8, "the loss on the held-out clips")],
)
def test_a_diverged_loss_stops_the_run(batch_size, what, fold_cache, tmp_path, capsys):
    """A huge step leaves no finite numbers: in the next step, or in the evaluation after it."""
    assert train(fold_cache, tmp_path, "--lr", 1e30, "--batch-size", batch_size) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {what} is nan, so training has diverged.")
    assert not (tmp_path / AUDIO / "fold_0" / "predictions.csv").exists()


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_parts_that_start_from_weights_learn_at_their_own_rate(rate):
    """Below 1 batch norms keep their statistics; at 0 nothing of an encoder changes."""
    net = tiny("cfn_sr_no_cross_modal").train()
    started = [net.video, net.audio]
    optimizer = make_optimizer(net, Recipe(started_rate=rate), started)
    rates = {id(p): g["relative_rate"] for g in optimizer.param_groups for p in g["params"]}
    slow = [parameter for encoder in started for parameter in encoder.parameters()]
    assert [rates.get(id(parameter), 0.0) for parameter in slow] == [rate] * len(slow)
    assert [rates[id(parameter)] for parameter in net.head.parameters()] == [1.0, 1.0]
    settle(started, rate)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm3d)]
    assert {norm.training for norm in norms} == {rate == 1}
    assert net.audio.dropout.training == (rate > 0)
    assert {parameter.requires_grad for parameter in slow} == {rate > 0}
    assert net.head.weight.requires_grad


def test_only_parts_whose_weights_are_in_the_files_count_as_started():
    config = make_config(model="multiplication", preset="tiny")
    net = tiny("multiplication")
    voice = net.audio.audio.state_dict()
    whole = voice | {f"fc1.{n}": t for n, t in net.audio.fc1.state_dict().items()}
    for state, count in ((voice, 1), (whole, 2), (voice | {"fc1.weight": torch.zeros(7, 5)}, 1)):
        expected = [net.audio.audio, net.audio.fc1][:count]
        assert started_parts(config, net, {"audio": Start(state, {})}) == expected
    with pytest.raises(ValueError, match="started_rate is 0, but every part starts from weights"):
        make_optimizer(net, Recipe(started_rate=0.0), [net])


def test_a_machine_that_cannot_compile_says_so_and_leaves_nothing_behind(
    fold_cache, tmp_path, monkeypatch, capsys
):
    class Compiled(nn.Module):
        def __init__(self, net):
            super().__init__()

        def forward(self, *inputs):
            raise InductorError(RuntimeError("No working C++ compiler found"), None)

    monkeypatch.setattr(torch, "compile", Compiled)
    assert train(fold_cache, tmp_path, "--compile") == 1
    err = capsys.readouterr().err
    assert "error: --compile failed (InductorError: RuntimeError: No working C++ compiler" in err
    assert "train without --compile" in err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    monkeypatch.undo()
    assert train(fold_cache, tmp_path) == 0
