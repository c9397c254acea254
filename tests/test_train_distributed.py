"""Several processes on one fold: what each trains on, and that together they are one run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from processes import ROOT, begin_team, run
from training import (
    AUDIO,
    CPU,
    arguments,
    assert_predictions_of_checkpoint,
    assert_same_run,
    checkpoint_of,
    make_trainer,
    results_of,
    same_state,
    sigterm_after_step,
)

from train.augment import Augmentation
from train.cli import main
from train.distributed import World, world_of
from train.trainer import Totals


@pytest.mark.parametrize("num_clips", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_clip_of_a_batch_counts_in_one_process(num_clips, size):
    batch = torch.arange(num_clips) + 10
    counted = []
    for rank in range(size):
        world = World(rank, size)
        local = world.local_batch(batch)
        assert len(local) >= 1
        counted += local[: world.num_local(num_clips)].tolist()
    assert sorted(counted) == batch.tolist()


def arguments_for(cache, runs, *more):
    """Eight clips in batches of three: local batches of 2 and 1, and of 1 and 1 at the end."""
    fixed = ("--epochs", 3, "--batch-size", 3, "--recipe", "modern")
    return arguments(cache, runs, *fixed, *more)


def finish(processes, status=0):
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [status, status]


def printed_by(folder, stream):
    """What the two processes of a team printed to a stream."""
    return [(folder / str(rank) / stream).read_text() for rank in (0, 1)]


@pytest.fixture(scope="module")
def team(fold_cache, tmp_path_factory):
    """The folder of a run of two processes; what they printed is beside it."""
    folder = tmp_path_factory.mktemp("team")
    finish(begin_team(main, folder, arguments_for(fold_cache, folder / "runs")))
    return folder


def test_only_the_main_process_speaks_on_stdout(team):
    main_process, other = printed_by(team, "stdout")
    assert main_process.count("parameters, on cpu (1 thread) x 2: 8 training clips") == 1
    assert main_process.count("in the last epoch") == 1
    assert other == ""


def test_each_held_out_clip_is_predicted_once_and_in_the_metrics(team, fold_cache):
    trained = assert_predictions_of_checkpoint(team / "runs", fold_cache)
    right = trained.predictions.probabilities[range(8), trained.predictions.labels]
    assert trained.metrics[-1].test_loss == pytest.approx(-np.log(right).mean(), abs=1e-4)


# Runs train.py, and prints the names of the threads that are left at the end.
SCRIPT = f"""
import atexit, runpy
from pathlib import Path

tasks = Path("/proc/self/task")
atexit.register(lambda: print(f"threads: {{[p.read_text() for p in tasks.glob('*/comm')]}}"))
runpy.run_path({str(ROOT / "train.py")!r}, run_name="__main__")
"""


def test_torchrun_gives_the_same_run_and_leaves_no_thread(team, fold_cache, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words += [tmp_path / "script.py", *arguments_for(fold_cache, tmp_path / "runs")]
    done = run("python", *words, OMP_NUM_THREADS=1, PYTHONPATH=ROOT)
    assert done.stdout.count("in the last epoch") == 1
    assert done.stdout.count("threads: ") == 2
    assert "gloo" not in done.stdout
    assert_same_run(team / "runs", tmp_path / "runs")


def interrupted_main(arguments):
    with sigterm_after_step(5):
        return main(arguments)


def test_an_interrupted_run_resumes_to_the_same_bits(team, fold_cache, tmp_path):
    runs = tmp_path / "runs"
    finish(begin_team(interrupted_main, tmp_path, arguments_for(fold_cache, runs)), status=1)
    for error in printed_by(tmp_path, "stderr"):
        assert "interrupted after epoch 1. Finished epochs are saved" in error
    finish(begin_team(main, tmp_path, arguments_for(fold_cache, runs, "--resume")))
    assert_same_run(team / "runs", runs)
    finish(begin_team(main, tmp_path, arguments_for(fold_cache, runs, "--resume")))
    assert [text.count("nothing to do") for text in printed_by(tmp_path, "stdout")] == [1, 0]


def gradients_of(cache, world):
    """The gradients of a step on three clips, without dropout and statistics of the batch."""
    trainer = make_trainer(cache, world=world, batch_size=3)
    trainer.call.eval()
    positions = world.local_batch(torch.tensor([5, 0, 2]))
    (batch,) = trainer.train_source.batches([positions], CPU)
    augment = Augmentation(trainer.recipe, seed=0, epoch=1, num_clips=8)
    trainer.train_step(0, batch, augment, Totals.zero(CPU))
    return [parameter.grad for parameter in trainer.net.parameters()]


def fit_and_save(arguments):
    """Train with a Trainer, and save what each process has at the end."""
    cache, folder = map(Path, arguments)
    with world_of(CPU) as world:
        gradients = gradients_of(cache, world)
        recipe = {"ema": 0.9, "batch_size": 3, "epochs": 20, "learning_rate": 0.003}
        trainer = make_trainer(cache, world=world, **recipe)
        trainer.fit(folder)
        weights = [parameter.detach() for parameter in trainer.net.parameters()]
        evaluated = trainer.evaluated.state_dict()
        torch.save((gradients, weights, evaluated), folder / f"rank_{world.rank}.pt")
    return 0


def test_processes_have_the_gradients_of_the_whole_batch_and_equal_weights(fold_cache, tmp_path):
    folder = tmp_path / AUDIO / "fold_0"
    folder.mkdir(parents=True)
    finish(begin_team(fit_and_save, tmp_path, [fold_cache, folder]))
    states = [torch.load(folder / f"rank_{rank}.pt") for rank in (0, 1)]
    assert same_state(*states)
    gradients, _, evaluated = states[0]
    torch.testing.assert_close(gradients, gradients_of(fold_cache, World()))
    assert same_state(evaluated, checkpoint_of(tmp_path).weights)
    # The main process has five of the eight clips, but the accuracy is that of all of them.
    assert results_of(tmp_path)[-1]["train_accuracy"] > 5 / 8
