"""Commands on a GPU: predictions of a video, and the training benchmark."""

import json

import pytest
from processes import run

from cache.ravdess import Clip
from preprocess.sample import clip_path, write_clip
from train.cli import main as train_main


def test_predict_gives_the_same_on_cuda_and_on_the_cpu(fold_cache, tmp_path, capsys, row):
    from evaluate.predict.cli import main as predict_main

    runs = ["--cache", str(fold_cache), "--runs", str(tmp_path / "runs"), "--fold", "0"]
    assert train_main([*runs, "--preset", "tiny", "--epochs", "1", "--device", "cuda"]) == 0
    clip = clip_path(tmp_path, Clip.parse("01-01-03-01-01-01-01"))
    clip.parent.mkdir(parents=True, exist_ok=True)
    write_clip(Clip.parse("01-01-03-01-01-01-01"), 0, clip)
    capsys.readouterr()
    answers = []
    for device in ("cpu", "cuda"):
        checkpoint = tmp_path / "runs" / "cfn_sr" / "fold_0" / "last.pt"
        line = [str(clip), "--checkpoint", str(checkpoint), "--device", device]
        assert predict_main(line) == 0
        answers.append(json.loads(capsys.readouterr().out.splitlines()[-1])["probabilities"])
    difference = max(abs(answers[0][name] - answers[1][name]) for name in answers[0])
    row("predict on cuda minus predict on the cpu", f"{difference:.1e}", "at most 2e-2")
    assert difference <= 2e-2


@pytest.mark.parametrize("more", [(), ("--compile",)], ids=["plain", "compiled"])
def test_the_training_benchmark_runs(row, more):
    done = run("python", "-m", "benchmarks.bench_train", "--device", "cuda", *more)
    result = json.loads(done.stdout.splitlines()[-1])
    named = " ".join(("bench-train", *more))
    row(f"{named}: clips per second", f"{result['clips_per_second']:.0f}", "target 150")
    row(f"{named}: speedup over a plain trainer", f"{result['speedup']:.2f}", "target 5")
    row(f"{named}: share of time lost to loading", f"{result['loading_share']:.1%}", "target 5 %")
    assert result["clips_per_second"] > 0
