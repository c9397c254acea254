"""Commands on a GPU: predictions of a video, and the training benchmark."""

import json

import pytest
from processes import run
from training import train


def test_predict_gives_the_same_on_cuda(fold_cache, sample_clips, tmp_path, capsys, row):
    from evaluate.predict.cli import main as predict_main

    assert train(fold_cache, tmp_path, "--model", "cfn_sr", "--device", "cuda") == 0
    clip = sample_clips / "Actor_01" / "01-01-03-01-01-01-01.mp4"
    checkpoint = tmp_path / "cfn_sr" / "fold_0" / "last.pt"
    capsys.readouterr()
    answers = []
    for device in ("cpu", "cuda"):
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
