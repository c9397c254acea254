"""Reports over several seeds: figures recomputed from predictions.csv, and what is not averaged."""

import re
import statistics
from math import comb
from pathlib import Path

import numpy as np
import pytest
from fake_runs import evaluate, make_run, page_text, rows_of, summary_of, write
from processes import run
from scipy import stats
from scipy.special import expit, logit

from cache.ravdess import actors_of, expected_clips

MODELS, SEEDS, FOLDS = ("cfn_sr", "msaf"), (0, 1, 5), (0, 1)
Correct = dict[tuple[str, int], dict[str, bool]]  # of each clip, by model and seed


def random_run(model: str, seed: int, fold: int, **settings):
    """A run whose predictions are random, but right in about half of the clips."""
    random = np.random.default_rng([seed, fold, MODELS.index(model)])
    clips = [clip for actor in actors_of("paper", fold)[1] for clip in expected_clips(actor)]
    labels = np.array([clip.label for clip in clips])
    predicted = np.where(random.random(240) < 0.5, labels, random.integers(0, 8, 240))
    return make_run(fold, model=model, seed=seed, predicted=predicted, **settings)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Twelve runs and their report, in `runs_<seed>` and `out`."""
    base = tmp_path_factory.mktemp("seeds")
    for seed in SEEDS:
        made = [random_run(model, seed, fold) for model in MODELS for fold in FOLDS]
        write(base / f"runs_{seed}", *made, *([make_run(5, 240)] if seed == 0 else []))
    assert report(base) == 0
    return base


def report(base: Path, *more: Path) -> int:
    return evaluate(base / "runs_0", base / "out", "--runs", *sorted(base.glob("runs_*")), *more)


@pytest.fixture(scope="module")
def correct(base) -> Correct:
    found: Correct = {}
    for path in base.glob("runs_*/*/fold_[01]/predictions.csv"):
        seed, model = int(path.parts[-4][5:]), path.parts[-3]
        own = {row["clip_id"]: row["label"] == row["predicted"] for row in rows_of(path)}
        found.setdefault((model, seed), {}).update(own)
    return found


def over_actors(scores: list[dict[str, float]], lowest: float = 0) -> tuple[float, float]:
    """The interval of the mean over seeds of clips' scores, from one mean per actor."""
    of_actor = {}
    for clip, score in [pair for own in scores for pair in own.items()]:
        of_actor.setdefault(clip[-2:], []).append((score - lowest) / (1 - lowest))
    actors = [statistics.mean(of_actor[actor]) for actor in sorted(of_actor)]
    mean = statistics.mean(actors)
    half = stats.t.ppf(0.975, len(actors) - 1) * stats.sem(actors) / (mean * (1 - mean))
    return tuple(lowest + (1 - lowest) * expit(logit(mean) + np.array([-half, half])))


@pytest.mark.parametrize("model", MODELS)
def test_the_figures_are_those_of_the_predictions_written_out(model, base, correct):
    figures = summary_of(base / "out")["models"][model]
    assert (figures["seeds"], figures["folds"], figures["clips"]) == ([0, 1, 5], [0, 1], 480)
    last = figures["accuracy_last"]
    per_seed = [statistics.mean(correct[model, seed].values()) for seed in SEEDS]
    assert last["per_seed"] == pytest.approx(per_seed, abs=1e-6)
    assert last["mean"] == pytest.approx(statistics.mean(per_seed), abs=1e-6)
    spread = statistics.stdev(per_seed)
    assert last["standard_deviation_over_seeds"] == pytest.approx(spread, abs=1e-6)
    own = [correct[model, seed] for seed in SEEDS]
    for fold, actors in ((0, ("01", "02", "03", "04")), (1, ("05", "06", "07", "08"))):
        tested = [right for each in own for clip, right in each.items() if clip[-2:] in actors]
        assert last["per_fold"][fold] == pytest.approx(statistics.mean(tested), abs=1e-6)
    assert last["interval"] == pytest.approx(over_actors(own), abs=1e-6)
    recalls = [
        statistics.mean(
            statistics.mean(right for clip, right in each.items() if clip[6:8] == f"{emotion:02d}")
            for emotion in range(1, 9)
        )
        for each in own
    ]
    assert figures["uar"] == pytest.approx(statistics.mean(recalls), abs=1e-6)
    # Fold 5 is outside the mean, and need not be there for every seed.
    outside = [(row["fold"], row["seed"]) for row in figures["outside_mean"]]
    assert outside == ([(5, 0)] if model == "cfn_sr" else [])
    best = figures["accuracy_best_on_test"]
    assert (len(best["per_fold"]), best["epoch"]) == (2, [[2, 2]] * 3)  # by seed, then by fold
    assert figures["seed"] is None


def test_models_are_paired_within_each_seed_and_averaged_over_seeds_per_actor(base, correct):
    (pair,) = summary_of(base / "out")["comparisons"]["pairs"]
    apart, p_values, only = [], [], np.zeros(2, int)
    for seed in SEEDS:
        one, two = correct["cfn_sr", seed], correct["msaf", seed]
        apart.append({clip: one[clip] - two[clip] for clip in one})
        first, second = (list(apart[-1].values()).count(value) for value in (1, -1))
        tail = sum(comb(first + second, k) for k in range(min(first, second) + 1))
        p_values.append(min(1, 2 * tail / 2 ** (first + second)))
        only += first, second
    mean = statistics.mean(each for own in apart for each in own.values())
    assert pair["difference"] == pytest.approx(mean, abs=1e-6)
    assert pair["interval"] == pytest.approx(over_actors(apart, lowest=-1), abs=1e-6)
    assert (pair["clips"], pair["only_first_right"], pair["only_second_right"]) == (480, *only)
    assert pair["p"] == pytest.approx(min(1, 2 * statistics.median(p_values)), rel=1e-3)


def test_the_spread_over_seeds_is_in_the_page_the_tables_and_the_csv_files(base, capsys):
    assert report(base) == 0
    last = summary_of(base / "out")["models"]["cfn_sr"]["accuracy_last"]
    mean, spread = 100 * last["mean"], 100 * last["standard_deviation_over_seeds"]
    printed = f"cfn_sr: {mean:.2f} % (standard deviation over 3 seeds {spread:.2f}, over 2 folds"
    assert printed in capsys.readouterr().out
    text = page_text(base / "out")
    for words in (
        "The result is the mean over 2 folds and 3 random seeds of the accuracy",
        f"Standard deviation over the seeds of the mean over folds: {spread:.2f} points (seed 0: ",
        "The accuracy of each actor is its mean over the seeds.",
        f"{mean:.2f} % ± {spread:.2f}",
        "p is twice the median of the seeds",
        "clips are predicted incorrectly, counted once per seed",
        "one column per fold and one line per seed.",
        "trained: folds 0, 1, 5 with seeds 0, 1, 5",
    ):
        assert words in text
    assert "each fold was trained once" not in text
    for name in ("table_1.md", "table_1.tex"):
        table = (base / "out" / name).read_text()
        assert f" {mean:.2f} ± {spread:.2f} " in table
        assert "±: the standard deviation over random seeds" in table
    rows = [(row["model"], row["seed"], row["fold"]) for row in rows_of(base / "out" / "folds.csv")]
    assert rows == [(m, str(s), str(f)) for m in MODELS[::-1] for s in SEEDS for f in FOLDS]
    mistakes = re.findall(r"actor \d, fold \d, \w+ (01-[\d-]+)", text)
    assert len(mistakes) == len(set(mistakes)) == 12


@pytest.mark.parametrize(
    ("more", "name", "problem"),
    [
        ({"seed": 5}, "cfn_sr", "{5} and {more} have the same se"),
        ({"seed": 9, "mixup": 0.4}, "cfn_sr", "{0} and {more}: mixup is 0.0 and 0.4, so they must"),
        ({"seed": 9}, "runs_0/cfn_sr/fold_1", "fold 1 has no usable run of seeds [9]. Train it"),
        ({"seed": 9, "fold": 4}, "cfn_sr", "no fold has a usable run of every seed"),
    ],
)
def test_what_must_not_be_averaged_over_seeds_is_named(more, name, problem, tmp_path, capsys):
    for seed in SEEDS:
        write(tmp_path / f"runs_{seed}", *(random_run(m, seed, f) for m in MODELS for f in FOLDS))
    write(tmp_path / "runs_more", make_run(**{"fold": 0, **more}))
    assert report(tmp_path) == 1
    problem = re.sub(r"{(\w+)}", r"runs_\1/cfn_sr/fold_0", problem)
    assert f"error: {name} is not averaged: {problem}" in capsys.readouterr().err
    models = summary_of(tmp_path / "out")["models"]
    found = {model: (figures["seeds"], figures["folds"]) for model, figures in models.items()}
    others = {"cfn_sr": ([0, 1, 5, 9], [0])} if "/" in name else {}  # the other fold is averaged
    assert found == {"msaf": ([0, 1, 5], [0, 1]), **others}


def test_models_with_other_numbers_of_seeds_are_not_compared(tmp_path):
    write(tmp_path / "runs_0", *(make_run(0, 99, model=model) for model in MODELS))
    write(tmp_path / "runs_1", make_run(0, 99, seed=1))
    assert report(tmp_path) == 0
    (pair,) = summary_of(tmp_path / "out")["comparisons"]["not_compared"]
    assert pair["reason"] == "different numbers of seeds"


def test_make_trains_each_seed_in_a_folder_of_its_own():
    def make(*arguments: str) -> list[str]:
        return run("make", *arguments).stdout.splitlines()

    lines = [line for line in make("-n", "cv", "SEEDS=0 7", "FOLDS=3") if "train.py" in line]
    assert len(lines) == 6
    start = "--init-video 'runs/seed_7/video_resnext50/fold_3/last.pt'"
    assert re.search(f"--runs 'runs/seed_7' .* --seed 7 .* {start}", lines[-1])
    report = "".join(make("-n", "evaluate", "SEEDS=0 7"))
    assert "--runs 'runs/seed_0' 'runs/seed_7' --out" in report
    rows = make("-s", "rows", "SEEDS=0 7")
    assert (len(rows), rows[29], rows[30]) == (150, "row/seed_7/erann/4", "row/seed_0/averaging/0")
    own = ("-n", "cv", "MODEL=/a b/x.py:Gate", "FOLDS=3")  # its encoders start as INIT says
    for init, trained in (("video audio", 3), ("audio", 2), ("", 1)):
        lines = [line for line in make(*own, f"INIT={init}") if "train.py" in line]
        assert len(lines) == trained
        assert " --model '/a b/x.py:Gate' " in lines[-1]
        assert re.findall("--init-([a-z]+) 'runs/", lines[-1]) == init.split()
    (line,) = [line for line in make("-n", "row/erann/2", "SEEDS=4") if "train.py" in line]
    assert re.search("--runs 'runs' .* --seed 4 ", line)
