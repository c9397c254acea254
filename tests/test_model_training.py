"""Every network learns and predicts; CFN-SR can be compiled."""

import pytest
import torch
from networks import clips, tiny
from torch import Tensor

import model
from model.inference import TrainedNetwork
from train.augment import to_targets


@pytest.fixture
def fields() -> dict[str, Tensor]:
    """All fields of four clips of noise, with frames as the tiny networks see them."""
    draw = torch.Generator().manual_seed(0)
    shapes = {name: (4, *shape) for name, shape in model.INPUT_SHAPES.items()}
    return {
        "frames": torch.randint(256, (4, 10, 56, 56, 3), generator=draw).byte(),
        "mfcc": torch.randn(shapes["mfcc"], generator=draw),
        "waveform": torch.randint(-9_999, 9_999, shapes["waveform"], generator=draw).short(),
    }


def trained_network(name: str, precision: str = "float32", **statistics: Tensor) -> TrainedNetwork:
    weights = tiny(name).state_dict()
    arguments = {"weights": weights, "statistics": statistics, "precision": precision}
    return TrainedNetwork.build(name, "tiny", **arguments)


@pytest.mark.parametrize("name", model.NAMES)
def test_every_network_learns_four_clips_by_heart(name, fields):
    trained = trained_network(name)
    own = {field: fields[field] for field in trained.fields}
    inputs, labels = trained.prepare(own), torch.arange(4)
    optimizer = torch.optim.Adam(trained.net.parameters(), lr=1e-3)
    accuracy = 0.0
    for _ in range(20):
        trained.net.train()
        for _ in range(5):
            loss = model.loss(name)(trained.net(*inputs), to_targets(labels)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trained.net.eval()
        shares = trained.probabilities(own)
        accuracy = (shares.argmax(dim=1) == labels).float().mean().item()
        if accuracy == 1:
            break
    assert accuracy == 1
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(4))
    single = trained.probabilities({field: tensor[3:4] for field, tensor in own.items()})
    torch.testing.assert_close(single[0], shares[3], rtol=0, atol=1e-5)


def test_a_trained_network_is_ready_for_use_and_normalizes_as_its_run_did(fields):
    statistics = {"mfcc_mean": torch.arange(13.0)[:, None], "mfcc_std": torch.full((13, 1), 2.0)}
    trained = trained_network("cfn_sr", **statistics)
    assert not trained.net.training
    frames, sound = trained.prepare({name: fields[name][:2] for name in trained.fields})
    assert frames.shape == (2, 3, 10, 56, 56)
    assert torch.equal(sound, (fields["mfcc"][:2] - statistics["mfcc_mean"]) / 2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_computes_in_the_precision_of_its_run(precision):
    trained, computed_in = trained_network("audio_mfcc_cnn", precision), []
    conv = trained.net.audio.conv1
    conv.register_forward_hook(lambda layer, inputs, output: computed_in.append(output.dtype))
    assert trained.probabilities({"mfcc": torch.randn(2, 13, 212)}).dtype == torch.float32
    assert computed_in == [getattr(torch, precision)]


def test_cfn_sr_is_one_graph_for_the_compiler_forward_and_backward():
    plain, compiled = tiny("cfn_sr"), tiny("cfn_sr")
    # fullgraph: a break in the graph is an error; aot_eager: no C++ compiler is needed.
    run = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    batch = clips("cfn_sr", 2)
    for net, call in ((plain, plain), (compiled, run)):
        call(*batch).square().sum().backward()
        assert net.video.conv1.weight.grad.abs().max() > 0
    for ours, theirs in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)
