"""Every network learns; CFN-SR goes through the compiler and the exporter."""

import shutil

import pytest
import torch
from networks import clips, tiny
from torch import Tensor

import model
from cache.reader import Cache
from model.prepare import to_input, to_waveform
from train.inputs import to_targets


@pytest.fixture(scope="module")
def sixteen_clips(sample_cache) -> dict[str, Tensor]:
    """Inputs and labels of 16 drawn clips, two an emotion, in the sizes of the tiny networks."""
    cache = Cache(sample_cache)
    count, size = model.input_size("tiny")

    def stacked(field: str) -> Tensor:
        return torch.stack([torch.from_numpy(cache.read(c.clip_id, field)) for c in cache.clips])

    assert len(cache.clips) == 16
    return {
        "frames": to_input(stacked("frames")[:, :: 30 // count], size),
        "mfcc": stacked("mfcc"),
        "waveform": to_waveform(stacked("waveform")),
        "labels": torch.tensor([clip.label for clip in cache.clips]),
    }


@pytest.mark.parametrize("name", model.NAMES)
def test_every_network_learns_sixteen_clips_by_heart(name, sixteen_clips):
    net = tiny(name)
    sound = sixteen_clips["waveform" if "waveform" in model.inputs(name) else "mfcc"]
    frames, labels = sixteen_clips["frames"], sixteen_clips["labels"]
    targets = to_targets(labels)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    accuracy = 0.0
    for _ in range(20):
        net.train()
        for _ in range(5):
            loss = model.loss(name)(net(frames, sound), targets).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.inference_mode():
            predicted = net.eval()(frames, sound).argmax(dim=1)
        accuracy = (predicted == labels).float().mean().item()
        if accuracy == 1:
            break
    assert accuracy == 1


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler for torch.compile")
def test_cfn_sr_compiles_forward_and_backward():
    plain, compiled = tiny("cfn_sr"), tiny("cfn_sr")
    # fullgraph: a break in the graph is an error.
    run = torch.compile(compiled, fullgraph=True)
    batch = clips("cfn_sr", 2)
    torch.testing.assert_close(run(*batch), plain(*batch), rtol=1e-4, atol=1e-5)
    for net, call in ((plain, plain), (compiled, run)):
        call(*batch).square().sum().backward()
        assert net.video.conv1.weight.grad.abs().max() > 0
    for ours, theirs in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [n for n in model.NAMES if len(model.inputs(n)) == 2])
def test_every_fusion_exports_for_batches_of_any_size(name):
    net = tiny(name)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(
        net, tuple(clips(name, 2)), dynamic_shapes=({0: batch}, {0: batch})
    ).module()
    for count in (1, 3):
        others = clips(name, count, seed=2)
        torch.testing.assert_close(exported(*others), net(*others), rtol=1e-5, atol=1e-5)
