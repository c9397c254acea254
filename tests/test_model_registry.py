import pytest
import torch
from torch import nn

import model
from model.__main__ import gflops, main


def tiny(name, seed=0):
    torch.manual_seed(seed)
    return model.build(name, "tiny").eval()


def clips(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(count, 3, 30, 224, 224, generator=generator)
    return frames, torch.randn(count, 13, 212, generator=generator)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("video_resnext50", 25_882_056), ("audio_mfcc_cnn", 34_024), ("cfn_sr", 26_301_417)],
)
def test_the_published_sizes_are_met_exactly(name, parameters):
    with torch.device("meta"):
        assert model.count_parameters(model.build(name)) == parameters


def test_each_part_of_cfn_sr_has_its_published_size():
    with torch.device("meta"):
        net = model.build("cfn_sr")
    parts = {name: model.count_parameters(part) for name, part in net.named_children()}
    assert parts == {
        "video": 25_865_664,
        "audio": 20_704,
        "self_attention": 250_048,
        "cross_modal": 135_297,
        "dropout": 0,
        "head": 29_704,
    }


def test_a_full_clip_costs_the_known_arithmetic():
    with torch.device("meta"):
        net = model.build("cfn_sr")
    assert gflops(net) == pytest.approx(113.2, abs=0.05)


@pytest.mark.parametrize("name", model.NAMES)
def test_every_network_maps_clips_to_eight_logits(name):
    assert tiny(name)(*clips(2)).shape == (2, 8)


@pytest.mark.parametrize("name", model.NAMES)
def test_a_clip_alone_has_the_logits_that_it_has_in_any_batch(name):
    net = tiny(name)
    frames, mfcc = clips(3)
    with torch.inference_mode():
        together = net(frames, mfcc)
        shuffled = net(frames[[2, 0, 1]], mfcc[[2, 0, 1]])
        for index in range(3):
            alone = net(frames[index : index + 1], mfcc[index : index + 1])
            torch.testing.assert_close(alone[0], together[index], rtol=0, atol=1e-5)
    torch.testing.assert_close(shuffled, together[[2, 0, 1]], rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-4  # else the above shows nothing


def test_no_gradient_flows_from_one_clips_logits_to_another_clip():
    net = tiny("cfn_sr")
    frames, mfcc = (tensor.requires_grad_() for tensor in clips(2))
    net(frames, mfcc)[0].sum().backward()
    assert frames.grad[0].abs().max() > 0
    assert mfcc.grad[0].abs().max() > 0
    assert frames.grad[1].abs().max() == 0
    assert mfcc.grad[1].abs().max() == 0


@pytest.mark.parametrize("training", [False, True])
def test_forward_leaves_its_input_as_it_was(training):
    net = tiny("cfn_sr").train(training)
    frames, mfcc = clips(2)
    copies = frames.clone(), mfcc.clone()
    net(frames, mfcc)
    assert torch.equal(frames, copies[0])
    assert torch.equal(mfcc, copies[1])


def test_gradients_reach_every_parameter_of_cfn_sr():
    net = tiny("cfn_sr").train()
    nn.functional.cross_entropy(net(*clips(4)), torch.tensor([0, 3, 5, 7])).backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # The score's bias moves all positions alike, which softmax does not see.
    assert set(still) <= {"cross_modal.score.bias"}


@pytest.mark.parametrize("ignored", [0, 1])
def test_unimodal_networks_ignore_the_other_modality(ignored):
    net = tiny(("audio_mfcc_cnn", "video_resnext50")[ignored])
    one, two = list(clips(1)), list(clips(1))
    two[ignored] = torch.zeros_like(two[ignored])
    assert torch.equal(net(*one), net(*two))


def test_frames_that_are_thinned_already_give_the_same_logits():
    net = tiny("cfn_sr")
    count, size = model.input_size("tiny")
    frames, mfcc = clips(1)
    thinned = nn.functional.avg_pool3d(frames[:, :, :: 30 // count], (1, 224 // size, 224 // size))
    assert thinned.shape == (1, 3, count, size, size)
    torch.testing.assert_close(net(thinned, mfcc), net(frames, mfcc))


def test_the_same_seed_gives_the_same_weights():
    one, two, other = tiny("cfn_sr", 3), tiny("cfn_sr", 3), tiny("cfn_sr", 4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.head.weight, other.head.weight)


def test_wrong_names_and_presets_are_refused():
    with pytest.raises(ValueError, match="model is 'resnet', expected one of video_resnext50"):
        model.build("resnet")
    with pytest.raises(ValueError, match="preset is 'huge', expected one of paper, tiny"):
        model.build("cfn_sr", "huge")


def test_the_list_shows_parameters_beside_the_papers(capsys):
    assert main(["--list"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "cfn_sr" in line)
    assert line.split() == ["cfn_sr", "Model", "26,301,417", "113.196", "26.30M", "75.76%"]


def test_the_description_shows_output_shapes(capsys):
    assert main(["--describe", "cfn_sr"]) == 0
    out = capsys.readouterr().out
    assert "1x2048x2x7x7" in out
    assert "1x64x26" in out
