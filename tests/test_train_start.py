"""Weights to start from: loaded, recorded, and refused where they would leak."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from networks import tiny
from noise import change_manifest, write_noise_cache
from training import AUDIO, checkpoint_of, train

from cache.ravdess import ACTORS, actors_of, expected_clips, sample_origin
from train.cli import make_parser, read_starts
from train.record import START_SETTINGS, read_config
from train.start import read_start

TEST_ACTORS = (1, 2, 3, 4)  # of fold 0
VIDEO = "video_resnext50"
CACHE = {"dataset": "noise", "fingerprint": "0f" * 32, "schema_version": 2}
CACHE["config"] = {"mean": [torch.zeros(2)]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Two clips each of actors 1..9: fold 0 can be trained and validated, fold 1 trained."""
    clips = [clip for actor in range(1, 10) for clip in expected_clips(actor)[:8:4]]
    return write_noise_cache(tmp_path_factory.mktemp("start") / "cache", clips)


@pytest.fixture(scope="module")
def unimodal_runs(cache, tmp_path_factory):
    """One epoch of the video network on fold 0, and of the audio network on folds 0 and 1."""
    runs = tmp_path_factory.mktemp("runs")
    for name, fold in ((VIDEO, 0), (AUDIO, 0), (AUDIO, 1)):
        assert train(cache, runs, "--model", name, "--fold", fold) == 0
    return runs


@pytest.fixture
def audio(unimodal_runs):
    """The checkpoint of the audio network of fold 0."""
    return unimodal_runs / AUDIO / "fold_0" / "last.pt"


@pytest.fixture
def public(tmp_path):
    """Weights of the audio network as the public code names and saves them."""
    state = tiny(AUDIO).state_dict()
    path = tmp_path / "public.pth"
    torch.save({"state_dict": {k.removeprefix("audio."): t for k, t in state.items()}}, path)
    return path


def test_fusion_starts_from_the_unimodal_runs_of_its_fold(cache, unimodal_runs, tmp_path, capsys):
    """With steps too small to change a weight, the encoders end as they were loaded."""
    video, audio = (unimodal_runs / name / "fold_0" / "last.pt" for name in (VIDEO, AUDIO))
    starts = ("--model", "cfn_sr", "--init-video", video, "--init-audio", audio)
    assert train(cache, tmp_path, *starts, "--lr", 1e-30) == 0
    trained = checkpoint_of(tmp_path, "cfn_sr").network().net
    for part, name in (("video", VIDEO), ("audio", AUDIO)):
        weights = checkpoint_of(unimodal_runs, name).weights
        for key, parameter in getattr(trained, part).named_parameters():
            assert torch.equal(parameter, weights[f"{part}.{key}"])
    printed = capsys.readouterr()
    assert "video encoder: 102 tensors loaded; its classifier" in printed.out
    assert "unknown" not in printed.err
    config = read_config(tmp_path / "cfn_sr" / "fold_0")
    assert set(config.init) == {"video", "audio"}
    of_cache = {name: config.cache[name] for name in ("dataset", "fingerprint")}
    assert config.init["video"]["run"] == {
        **{"model": VIDEO, "preset": "tiny", "split": "paper", "fold": 0, "validation": False},
        **{"epochs": 1, "recipe": "paper", "seed": 0, "init": {}},
        **{"changed": {"epochs": 1, "batch_size": 4}, "cache": of_cache},
    }
    assert re.fullmatch("[0-9a-f]{64}", config.init["video"]["sha256"])
    # Another start is another run.
    assert train(cache, tmp_path, "--model", "cfn_sr", "--lr", 1e-30) == 2
    assert "with other settings (recorded and current: init.audio: {" in capsys.readouterr().err


def test_no_run_starts_from_weights_that_have_seen_one_of_its_held_out_actors(audio):
    """The run of fold 0 has seen all actors but 1..4."""
    for actor in ACTORS:
        if actor in TEST_ACTORS:
            read_start(audio, "audio", (actor,))
        else:
            with pytest.raises(ValueError, match=rf"were trained on actors \[{actor}\] "):
                read_start(audio, "audio", (actor,))


def started(audio: Path, folder: Path, *chain: str) -> Path:
    """A checkpoint of the audio network as if trained as the first of `chain`, such as
    `validation_0` or `luna5/fold_2`, from a run of the next, and so on; returns its path."""
    state = torch.load(audio, weights_only=True)
    init: dict = {}
    for name in reversed(chain):
        split, kind, fold = re.fullmatch(r"(?:(\w+)/)?(\w+)_(\d)", name).groups()
        own = {"split": split or "paper", "fold": int(fold), "validation": kind == "validation"}
        trained, tested = actors_of(own["split"], own["fold"], validate=own["validation"])
        actors = {"train_actors": list(trained), "test_actors": list(tested)}
        state["config"] |= own | actors | {"init": init}
        run = {each: state["config"][each] for each in START_SETTINGS}
        init = {"audio": {"file": "last.pt", "sha256": "0" * 64, "run": run}}
    torch.save(state, folder / "start.pt")
    return folder / "start.pt"


@pytest.mark.parametrize(
    ("run", "chain", "leaked"),
    [
        ("--fold 0", ["fold_0"], None),
        ("--fold 0", ["fold_1"], "1, 2, 3, 4"),
        ("--fold 0", ["validation_0"], None),
        ("--fold 0", ["validation_1"], "1, 2, 3, 4"),
        ("--fold 0 --validate", ["validation_0"], None),
        ("--fold 0 --validate", ["validation_1"], "1, 2, 3, 4"),  # test actors of fold 0
        ("--fold 0 --validate", ["fold_0"], "5, 6, 7, 8"),  # its validation actors
        ("--fold 0 --validate", ["fold_1"], "1, 2, 3, 4"),
        ("--fold 0", ["fold_0", "validation_0"], None),
        ("--fold 0", ["validation_0", "fold_1"], "1, 2, 3, 4"),
        ("--fold 0", ["fold_0", "validation_0", "fold_1"], "1, 2, 3, 4"),
        ("--fold 0 --validate", ["validation_0", "fold_1"], "1, 2, 3, 4"),
        ("--fold 0 --validate", ["validation_0", "fold_0"], "5, 6, 7, 8"),
        ("--fold 0", ["luna5/fold_0"], "1, 3, 4"),
        ("--fold 0 --split luna5", ["fold_0"], "5, 14, 15, 16"),
        ("--fold 0 --validate", ["luna5/validation_4"], "3, 6, 7, 8"),
        ("--fold 0", ["fold_0", "luna5/fold_4"], "2, 3"),
    ],
)
def test_no_actor_leaks_into_a_run_from_its_start_or_through_a_chain(
    run, chain, leaked, cache, audio, tmp_path, capsys
):
    start = started(audio, tmp_path, *chain)
    typed = ["--cache", str(cache), "--model", AUDIO, *run.split(), "--init-audio", str(start)]
    args = make_parser().parse_args(typed)
    if leaked is None:
        assert list(read_starts(args)) == ["audio"]
        return
    with pytest.raises(ValueError, match=rf"trained on actors \[{leaked}\] .*, which this run"):
        read_starts(args)
    assert train(cache, tmp_path, *run.split(), "--init-audio", start) == 2
    assert f"error: {start}: its weights were trained on actors" in capsys.readouterr().err
    assert not (tmp_path / AUDIO).exists()


def test_a_validation_run_has_seen_neither_its_own_held_out_actors_nor_those_of_its_fold(
    cache, unimodal_runs, tmp_path
):
    assert train(cache, tmp_path, "--validate") == 0
    path = tmp_path / AUDIO / "validation_0" / "last.pt"
    for unseen in ((1, 2, 3, 4), (5, 6, 7, 8)):
        assert read_start(path, "audio", unseen).record["run"]["validation"]
    with pytest.raises(ValueError, match=r"actors \[9\] \(audio_mfcc_cnn, validation run of fold"):
        read_start(path, "audio", (9,))
    # Nor does it pass for a run of the fold itself.
    state = torch.load(path, weights_only=True)
    state["config"]["validation"] = False
    torch.save(state, path)
    with pytest.raises(ValueError, match="test_actors are"):
        read_start(path, "audio", TEST_ACTORS)


def test_a_public_file_is_used_with_a_warning_that_passes_on(cache, public, tmp_path, capsys):
    start = public
    for runs in (tmp_path / "one", tmp_path / "two"):
        assert train(cache, runs, "--init-audio", start) == 0
        warning = f"{start}: the actors that its weights were trained on are unknown"
        assert warning in capsys.readouterr().err
        config = read_config(runs / AUDIO / "fold_0")
        assert config.starts_from_unknown
        start = runs / AUDIO / "fold_0" / "last.pt"
    assert config.init["audio"]["run"]["init"]["audio"]["file"] == "public.pth"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"epochs": 2}, "1 of 2 epochs are done. Finish that run first"),
        ({"train_actors": list(range(1, 25))}, "train_actors are [1, 2, 3"),
        ({"fold": 1}, "train_actors are [5, 6, 7"),
        ({"ema": torch.zeros(2)}, "ema is tensor([0., 0.]), expected float"),
        ({"cache": CACHE}, "not a config (Object of type Tensor is not JSON serializable). Save"),
        ({"model": {"a": 3}}, "expected only dense numeric tensors, also found a"),
    ],
)
def test_a_run_that_is_not_what_it_says_is_refused(changes, problem, audio, tmp_path):
    state = torch.load(audio, weights_only=True)
    for name, value in changes.items():
        (state if name in state else state["config"])[name] = value
    path = tmp_path / "changed.pt"
    torch.save(state, path)
    with pytest.raises(ValueError, match=re.escape(problem)) as refused:
        read_start(path, "audio", TEST_ACTORS)
    assert str(refused.value).startswith(f"{path}: ")


def test_an_encoder_starts_only_from_weights_that_saw_the_same_inputs(
    cache, unimodal_runs, tmp_path, capsys
):
    """Other features are a warning; raw MFCCs for normalized ones, or drawings, are refused."""
    audio = ("--init-audio", unimodal_runs / AUDIO / "fold_0" / "last.pt")
    assert train(cache, tmp_path, "--model", "cfn_sr", "--mfcc-normalize", *audio) == 2
    error = capsys.readouterr().err
    assert "last.pt: its weights were trained on raw MFCCs, unlike this run. Pass --no-" in error
    assert train(cache, tmp_path / "modern", "--recipe", "modern") == 0
    normalized = ("--init-audio", tmp_path / "modern" / AUDIO / "fold_0" / "last.pt")
    assert train(cache, tmp_path, "--model", "cfn_sr", *normalized) == 2
    assert (
        "were trained on normalized MFCCs, unlike this run. Pass --mfcc-n"
        in capsys.readouterr().err
    )

    def of_cache(dataset, size):
        def change(manifest):
            manifest.update(dataset=dataset, config={"frames": {"size": size}})

        shutil.copytree(cache, tmp_path / dataset)
        change_manifest(tmp_path / dataset, change)
        return train(tmp_path / dataset, tmp_path, "--model", "cfn_sr", *audio, "--fold", 0)

    assert of_cache("other noise", 112) == 0
    assert "last.pt: its weights were trained on features with other settings (noise, fing" in (
        capsys.readouterr().err
    )
    assert of_cache(sample_origin(seed=0)["dataset"], 224) == 2
    assert "were trained on noise, but" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "part", "problem"),
    [
        (AUDIO, "video", "the network has no video encoder"),
        ("cfn_sr", "audio", "does not match the audio encoder"),
    ],
)
def test_weights_that_do_not_fit_leave_no_run(
    name, part, problem, cache, unimodal_runs, tmp_path, capsys
):
    weights = unimodal_runs / VIDEO / "fold_0" / "last.pt"
    assert train(cache, tmp_path, "--model", name, f"--init-{part}", weights) == 2
    assert f"--init-{part} last.pt: {problem}" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / name / "fold_0").exists()


def test_a_damaged_run_to_start_from_says_which_folder_to_remove(cache, audio, tmp_path, capsys):
    run = shutil.copytree(audio.parent, tmp_path / "fold_0")
    (run / "last.pt").write_bytes(audio.read_bytes()[:9_000])
    for problem in (f"error: {run / 'last.pt'}: damaged", "error: --init-audio is "):
        assert train(cache, tmp_path, "--init-audio", run / "last.pt") == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(problem)
        assert error.endswith(f". Remove {run} to train that run again")
        (run / "last.pt").unlink(missing_ok=True)


def test_a_damaged_or_missing_file_of_others_is_theirs_to_remove(cache, tmp_path, capsys):
    path = tmp_path / "public.pth"
    assert train(cache, tmp_path, "--init-audio", path) == 2
    assert f"--init-audio is {path}, expected a file of weights\n" in capsys.readouterr().err
    path.write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"public\.pth: damaged \([^.]*\)$"):
        read_start(path, "audio", TEST_ACTORS)
