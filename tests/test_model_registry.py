"""Every network by name: its size, the paper's figures, and what all networks have in common."""

import re
from pathlib import Path

import pytest
import torch
from networks import FUSIONS, clips, tiny
from torch import nn

import model
from model import paper
from model.__main__ import gflops, main, one_clip
from model.resnext3d import ResNeXt3D

PARAMETERS = {
    "video_resnext50": 25_882_056,
    "audio_mfcc_cnn": 34_024,
    "averaging": 25_916_080,
    "multiplicative": 25_916_080,
    "multiplication": 25_916_080,
    "concat_fc": 26_870_824,
    "mcbp": 26_014_376,
    "mmtm": 31_793_264,
    "msaf": 25_940_724,
    "erann": 24_021_322,
    "cfn_sr": 26_301_417,
    "cfn_sr_no_cross_modal": 25_916_072,
    "cfn_sr_video_to_audio": 26_301_417,
    "cfn_sr_no_self_attention": 26_051_369,
    "cfn_sr_no_residual": 26_301_417,
}
# Figures of the paper that its own description cannot give; the networks' docstrings say why.
NOT_MET = {"mcbp", "cfn_sr_video_to_audio", "erann"}


@pytest.mark.parametrize("name", model.NAMES)
def test_every_network_has_its_exact_size_which_rounds_to_the_papers(name):
    with torch.device("meta"):
        assert model.count_parameters(model.build(name)) == PARAMETERS[name]
    if name not in NOT_MET:
        printed = float(paper.ROWS[name].parameters.removesuffix("M")) * 1e6
        # Joze et al. leave open where MMTM's modules go: within 2 %, all others to the last digit.
        tolerance = 0.02 * printed if name == "mmtm" else 5_000
        assert abs(PARAMETERS[name] - printed) <= tolerance


def test_each_part_of_cfn_sr_has_its_published_size_and_cost():
    with torch.device("meta"):
        net = model.build("cfn_sr")
    parts = {name: model.count_parameters(part) for name, part in net.named_children()}
    assert parts == {
        **{"video": 25_865_664, "audio": 20_704, "self_attention": 250_048},
        **{"cross_modal": 135_297, "dropout": 0, "head": 29_704},
    }
    # The paper's V->A is smaller than the two encoders.
    assert float(paper.ROWS["cfn_sr_video_to_audio"].parameters[:-1]) * 1e6 < 25_865_664 + 20_704
    assert gflops(net, one_clip("cfn_sr")) == pytest.approx(113.2, abs=0.05)


def test_the_papers_tables_hold_every_network_and_make_trains_their_rows():
    assert tuple(paper.ROWS) == model.NAMES
    assert set(paper.TABLES["Table 1"]) & set(paper.TABLES["Table 2"]) == {"cfn_sr"}
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for table, names in paper.TABLES.items():
        variable = table.replace(" ", "").upper()
        rows = re.search(rf"^{variable} = (.*)$", makefile, re.MULTILINE)[1]
        assert tuple(rows.split()) == names


@pytest.mark.parametrize("name", model.NAMES)
def test_a_clip_has_the_same_logits_in_any_batch(name):
    net = tiny(name)
    frames, sound = clips(name, 3)
    with torch.inference_mode():
        together = net(frames, sound)
        shuffled = net(frames[[2, 0, 1]], sound[[2, 0, 1]])
        singles = [net(frames[i : i + 1], sound[i : i + 1]) for i in range(3)]
    assert together.shape == (3, 8)
    torch.testing.assert_close(torch.cat(singles), together, rtol=0, atol=1e-5)
    torch.testing.assert_close(shuffled, together[[2, 0, 1]], rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-4  # else the above shows nothing


@pytest.mark.parametrize("name", model.NAMES)
def test_gradients_of_the_loss_reach_every_parameter_and_inputs_stay_as_they_were(name):
    net = tiny(name).train()
    inputs = clips(name, 4)
    copies = [tensor.clone() for tensor in inputs]
    loss = model.loss(name)(net(*inputs), torch.eye(8)[:4])
    assert loss.shape == (4,)
    loss.mean().backward()
    still = {key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    # The score's bias moves all positions alike, which softmax does not see; a bias before a batch
    # norm is taken off again, exactly or but for rounding.
    assert still <= {"cross_modal.score.bias", "msaf.0.joint.0.bias", "msaf.1.joint.0.bias"}
    assert all(map(torch.equal, inputs, copies))


@pytest.mark.parametrize("name", sorted(set(model.NAMES) - set(FUSIONS)))
def test_unimodal_networks_ignore_the_other_modality(name):
    net, inputs = tiny(name), clips(name, 1)
    logits = net(*inputs)
    ignored = 1 if "frames" in model.inputs(name) else 0
    for other in (torch.zeros_like(inputs[ignored]), None):
        inputs[ignored] = other
        assert torch.equal(net(*inputs), logits)


def test_wrong_names_presets_and_options_are_refused():
    for ask in (model.build, model.inputs, model.loss):
        with pytest.raises(ValueError, match="model is 'resnet', expected one of video_resnext50"):
            ask("resnet")
    for ask in (model.input_size, lambda preset: model.build("cfn_sr", preset)):
        with pytest.raises(ValueError, match="preset is 'huge', expected one of paper, tiny"):
            ask("huge")
    with pytest.raises(ValueError, match="stem_relu is False, but erann has no video encoder"):
        model.build("erann", stem_relu=False)


@pytest.mark.parametrize("name", [n for n in model.NAMES if "frames" in model.inputs(n)])
def test_the_stems_relu_can_be_left_out_of_every_network_with_frames(name):
    logits = []
    for stem_relu in (True, False):
        net = tiny(name, stem_relu=stem_relu)
        encoder = next(module for module in net.modules() if isinstance(module, ResNeXt3D))
        nn.init.constant_(encoder.bn1.bias, -9.0)  # all that leaves the stem is below zero
        logits.append(net(*clips(name, 1)))
    assert not torch.equal(*logits)


def test_the_list_shows_every_size_beside_the_papers(capsys):
    assert main(["--list"]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[2:]}
    assert tuple(lines) == model.NAMES
    for name, words in lines.items():
        row = paper.ROWS[name]
        assert words[1:3] == [row.stage, f"{PARAMETERS[name]:,}"]
        assert words[-2:] == [row.parameters, f"{row.accuracy:.2f}%"]
    assert lines["cfn_sr"][3] == "113.196"


def test_a_network_is_described_layer_by_layer(capsys):
    assert main(["--describe", "cfn_sr"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [lines[-1][0], *lines[-1][-2:]] == ["cfn_sr", "1x8", "26,301,417"]
    shapes = {words[0]: words[-2] for words in lines}
    assert (shapes["video.layer4"], shapes["audio.bn3"]) == ("1x2048x2x7x7", "1x64x26")
