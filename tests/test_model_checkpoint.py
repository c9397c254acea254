"""Networks from checkpoints: those of our runs, and nothing else."""

import re

import pytest
import torch

import model
from model.checkpoint import CheckpointError, load_trained
from train.checkpoint import save


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a checkpoint of an untrained network, with changes; gives its path."""

    def write(name="cfn_sr", config=(), **changes):
        torch.manual_seed(0)
        settings = {
            **{"model": name, "preset": "tiny", "precision": "float32", "epochs": 2},
            "cache": {"dataset": "noise"},
            **dict(config),
        }
        state = {
            "epoch": 1,
            "config": settings,
            "model": model.build(name, "tiny").state_dict(),
            "inputs": {},
            "training": {},
        }
        save(tmp_path / "last.pt", **{**state, **changes})
        return tmp_path / "last.pt"

    return write


def fields_of(name, clips=2):
    """Random fields of the cache, as network `name` looks at them."""
    draw = torch.Generator().manual_seed(0)
    shapes = {"frames": (30, 224, 224, 3), "mfcc": (13, 212), "waveform": (108_045,)}
    fields = {}
    for field in model.inputs(name):
        size = (clips, *shapes[field])
        if field == "frames":
            fields[field] = torch.randint(0, 256, size, generator=draw, dtype=torch.uint8)
        elif field == "waveform":
            fields[field] = torch.randint(-9999, 9999, size, generator=draw, dtype=torch.int16)
        else:
            fields[field] = torch.randn(size, generator=draw)
    return fields


@pytest.mark.parametrize("name", model.NAMES)
def test_every_network_gives_probabilities_from_fields_of_the_cache(name, checkpoint):
    trained = load_trained(checkpoint(name))
    fields = fields_of(name)
    together = trained.probabilities(fields)
    assert together.shape == (2, 8)
    assert torch.allclose(together.sum(1), torch.ones(2))
    alone = trained.probabilities({key: value[1:] for key, value in fields.items()})
    assert torch.allclose(alone[0], together[1], atol=1e-5)


def test_a_network_is_ready_for_use_and_takes_its_own_frames(checkpoint):
    trained = load_trained(checkpoint())
    assert not trained.net.training
    frames, _ = trained.inputs(fields_of("cfn_sr"))
    assert frames.shape == (2, 3, 10, 56, 56)


def test_mfccs_are_normalised_by_what_the_run_stored(checkpoint):
    mean, std = torch.arange(13.0)[:, None], torch.full((13, 1), 2.0)
    trained = load_trained(
        checkpoint("audio_mfcc_cnn", inputs={"mfcc_mean": mean, "mfcc_std": std})
    )
    mfcc = torch.randn(1, 13, 212)
    _, sound = trained.inputs({"mfcc": mfcc})
    assert torch.equal(sound, (mfcc - mean) / 2)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"config": {"model": "vgg"}}, "model is 'vgg', expected one of video_resnext50"),
        ({"config": {"model": ["cfn_sr"]}}, "model is ['cfn_sr']"),
        ({"config": {"preset": "huge"}}, "preset is 'huge', expected one of paper, tiny"),
        ({"config": {"precision": "float16"}}, "precision is 'float16'"),
        ({"config": {"preset": "paper"}}, "not a whole checkpoint"),
        ({"model": {}}, "not a whole checkpoint"),
        ({"epoch": "many"}, "epoch is 'many', expected 0 to 2"),
        ({"epoch": -1}, "epoch is -1, expected 0 to 2"),
        ({"epoch": 3}, "epoch is 3, expected 0 to 2"),
        ({"epoch": 1.0}, "epoch is 1.0, expected 0 to 2"),
        ({"config": {"epochs": 0}, "epoch": 0}, "epochs is 0, expected 1 or more"),
        ({"config": {"epochs": 2.0}}, "epochs is 2.0, expected 1 or more"),
        ({"config": {"epochs": None}}, "not a whole checkpoint (epochs is missing)"),
        ({"config": {"cache": {}}}, "not a whole checkpoint (cache.dataset is missing)"),
        ({"config": {"cache": "noise"}}, "not a whole checkpoint (cache.dataset is missing)"),
        ({"config": {"cache": {"dataset": 3}}}, "cache.dataset is 3, expected printable text"),
        ({"config": {"cache": {"dataset": ""}}}, "cache.dataset is '', expected printable text"),
        ({"config": {"cache": {"dataset": "a\n\x1b[2J"}}}, "cache.dataset is 'a\\n\\x1b[2J'"),
        ({"inputs": {"mfcc_mean": torch.zeros(13, 1)}}, "inputs are ['mfcc_mean']"),
        (
            {"inputs": {"mfcc_mean": torch.zeros(13, 1), "mfcc_std": torch.ones(13)}},
            "mfcc_std is not 13 finite numbers of float32",
        ),
        (
            {"inputs": {"mfcc_mean": torch.zeros(13, 1).double(), "mfcc_std": torch.ones(13, 1)}},
            "mfcc_mean is not 13 finite numbers of float32",
        ),
        (
            {"inputs": {"mfcc_mean": torch.zeros(13, 1), "mfcc_std": torch.arange(13.0)[:, None]}},
            "mfcc_std is not above 0",
        ),
        (
            {"inputs": {"mfcc_mean": torch.ones(13, 1), "mfcc_std": torch.ones(13, 1) / 0}},
            "mfcc_std is not 13 finite numbers",
        ),
        ({"inputs": {"mfcc_mean": 1, "mfcc_std": 2}}, "not a whole checkpoint"),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused_by_name(changes, problem, checkpoint):
    path = checkpoint(**changes)
    with pytest.raises(CheckpointError, match=re.escape(problem)) as refused:
        load_trained(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(("missing", "name"), [("epochs", "epochs"), ("cache", "cache.dataset")])
def test_a_run_that_does_not_say_what_it_was_is_refused(missing, name, checkpoint):
    path = checkpoint("audio_mfcc_cnn")
    state = torch.load(path, weights_only=True)
    del state["config"][missing]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=rf"not a whole checkpoint \({name} is missing\)"):
        load_trained(path)


@pytest.mark.parametrize("epoch", [0, 2])
def test_every_epoch_of_the_schedule_is_read(epoch, checkpoint):
    assert load_trained(checkpoint("audio_mfcc_cnn", epoch=epoch)).epoch == epoch


@pytest.mark.parametrize(
    ("name", "spoil", "problem"),
    [
        ("audio.conv3.bias", lambda t: t.index_fill(0, torch.tensor([7]), torch.nan), "not finite"),
        ("audio.bn2.running_mean", lambda t: t + torch.inf, "not finite"),
        ("fc1.weight", lambda t: t.to(torch.complex64), "torch.complex64, expected torch.float32"),
        ("fc1.weight", torch.Tensor.double, "torch.float64, expected torch.float32"),
        ("fc1.bias", torch.Tensor.half, "torch.float16, expected torch.float32"),
        (
            "audio.bn1.num_batches_tracked",
            torch.Tensor.float,
            "torch.float32, expected torch.int64",
        ),
        (
            "audio.bn1.running_var",
            lambda t: t.index_fill(0, torch.tensor([31]), -1e-3),
            "below 0",
        ),
    ],
)
def test_weights_that_no_training_leaves_are_refused_by_name(name, spoil, problem, checkpoint):
    path = checkpoint("audio_mfcc_cnn")
    state = torch.load(path, weights_only=True)
    state["model"][name] = spoil(state["model"][name])
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=re.escape(f"({name} is {problem})")) as refused:
        load_trained(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_computes_in_the_precision_of_its_run(precision, checkpoint):
    trained = load_trained(checkpoint("audio_mfcc_cnn", config={"precision": precision}))
    computed_in = []
    trained.net.audio.conv1.register_forward_hook(
        lambda layer, inputs, output: computed_in.append(output.dtype)
    )
    shares = trained.probabilities(fields_of("audio_mfcc_cnn"))
    assert computed_in == [getattr(torch, precision)]
    assert shares.dtype == torch.float32


def test_a_file_of_anything_else_is_refused(tmp_path):
    torch.save({"weights": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        load_trained(tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match=r"text\.pt"):
        load_trained(tmp_path / "text.pt")
    with pytest.raises(FileNotFoundError):
        load_trained(tmp_path / "none.pt")
