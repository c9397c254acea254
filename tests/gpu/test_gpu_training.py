"""Training on a GPU: the same losses as on the CPU, the same bits twice, and clear failures."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from processes import ROOT
from training import assert_clips_of_batches, fields_of

from cache.reader import Cache
from train.cli import main
from train.record import load_checkpoint, read_metrics
from train.stream import Clips, Streamed, place

DEVICE = torch.device("cuda", 0)
TINY = ["--fold", "0", "--preset", "tiny", "--batch-size", "4"]


def launch(cache, runs, *more, script="train.py", processes=1):
    """Start a training in a process of its own, as determinism and NCCL require."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    arguments = [ROOT / script, "--cache", cache, "--runs", runs, *TINY, *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NVIDIA_TF32_OVERRIDE": "0"}
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, *map(str, arguments)], cwd=ROOT, text=True, **options)


def run(*arguments, **options):
    process = launch(*arguments, **options)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def folder(runs):
    return runs / "cfn_sr" / "fold_0"


def largest_difference(one, two):
    """Between the losses of two runs, over all epochs."""
    pairs = zip(read_metrics(folder(one)), read_metrics(folder(two)), strict=True)
    return max(
        abs(getattr(a, name) - getattr(b, name))
        for a, b in pairs
        for name in ("train_loss", "test_loss")
    )


@pytest.mark.parametrize("where", ["streamed", "resident"])
def test_batches_on_the_gpu_have_the_bytes_of_the_shards(fold_cache, where):
    cache = Cache(fold_cache)
    clips = Clips(cache, cache.clips, ("frames", "mfcc"), 30)
    source = Streamed(clips, 2) if where == "streamed" else place(clips, DEVICE)[0]
    assert_clips_of_batches(source, clips, DEVICE)


def test_a_fold_on_cuda_reaches_the_losses_of_the_cpu(fold_cache, tmp_path, row):
    """In float32 without TF32 and without dropout; Adam amplifies rounding, hence 2e-2."""
    for device in ("cpu", "cuda"):
        more = ("--device", device, "--precision", "float32", "--epochs", "3", "--lr", "1e-4")
        run(fold_cache, tmp_path / device, *more, script="tests/gpu/without_dropout.py")
    difference = largest_difference(tmp_path / "cpu", tmp_path / "cuda")
    row("loss on cuda minus loss on cpu, 3 epochs", f"{difference:.1e}", "at most 2e-2")
    assert difference <= 2e-2


@pytest.mark.parametrize(
    "more", [("--precision", "bfloat16"), ("--compile",)], ids=["bfloat16", "compile"]
)
def test_bfloat16_and_compiled_networks_learn(fold_cache, tmp_path, row, more):
    run(fold_cache, tmp_path, "--device", "cuda", "--epochs", "12", *more)
    losses = [each.train_loss for each in read_metrics(folder(tmp_path))]
    row(f"training loss, first and last epoch, {more[0]}", f"{losses[0]:.2f}, {losses[-1]:.2f}")
    assert losses[-1] < losses[0]


def test_deterministic_runs_have_the_same_bits_also_resumed(fold_cache, tmp_path):
    more = ("--device", "cuda", "--deterministic", "--epochs", "12")
    for name in ("one", "two"):
        run(fold_cache, tmp_path / name, *more)
    process = launch(fold_cache, tmp_path / "stopped", *more)
    while process.poll() is None and not (folder(tmp_path / "stopped") / "last.pt").is_file():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    run(fold_cache, tmp_path / "stopped", *more, "--resume")
    states = [load_checkpoint(folder(tmp_path / n) / "last.pt") for n in ("one", "two", "stopped")]
    for other in states[1:]:
        for name, tensor in states[0].weights.items():
            assert torch.equal(tensor, other.weights[name]), name


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_processes_reach_the_losses_of_one(fold_cache, tmp_path, row):
    more = ("--device", "cuda", "--precision", "float32", "--epochs", "2", "--lr", "1e-5")
    for processes in (1, 2):
        run(
            *(fold_cache, tmp_path / str(processes), *more),
            script="tests/gpu/without_dropout.py",
            processes=processes,
        )
    difference = largest_difference(tmp_path / "1", tmp_path / "2")
    row("loss of two NCCL processes minus loss of one", f"{difference:.1e}", "at most 1e-3")
    assert difference <= 1e-3


def test_out_of_memory_is_one_line_that_says_what_to_lower(fold_cache, tmp_path, capsys):
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5e9 / total), DEVICE)
    try:
        arguments = ["--cache", fold_cache, "--runs", tmp_path, "--fold", 0, "--device", "cuda"]
        assert main([*map(str, arguments), "--batch-size", "8", "--epochs", "1"]) == 1
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, DEVICE)
        torch.cuda.empty_cache()
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "out of memory on cuda" in errors[0]
    assert "Lower --batch-size" in errors[0]


def test_a_network_predicts_on_cuda_as_on_the_cpu(fold_cache, tmp_path, monkeypatch, row):
    """In float32 without TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    run(fold_cache, tmp_path, "--device", "cuda", "--precision", "float32", "--epochs", "2")
    checkpoint = load_checkpoint(folder(tmp_path) / "last.pt")
    cache = Cache(fold_cache)
    fields = fields_of(cache, cache.clips[:4], ("frames", "mfcc"))
    on_cpu = checkpoint.network("cpu").probabilities(fields)
    fields = {name: tensor.to(DEVICE) for name, tensor in fields.items()}
    on_gpu = checkpoint.network(DEVICE).probabilities(fields)
    difference = (on_cpu - on_gpu.cpu()).abs().max().item()
    row("probabilities on cuda minus those on the cpu", f"{difference:.1e}", "at most 1e-2")
    # Pictures are resized as bytes on the CPU and as floats on a GPU, which rounds differently.
    assert difference <= 1e-2
