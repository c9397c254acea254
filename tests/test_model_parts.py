"""The parts of CFN-SR against their equations, written out by hand."""

import math

import pytest
import torch
from networks import unusual_statistics
from torch import nn

import model
from model.attention import AudioSelfAttention, sinusoids
from model.cross_modal import CrossModalBlock
from model.mfcc_cnn import MfccCnn
from model.resnext3d import Bottleneck, ResNeXt3D, max_pool_in_order, pool


def test_cross_modal_attention_is_equations_7_and_8_position_by_position():
    torch.manual_seed(0)
    block = CrossModalBlock(video_channels=5, audio_channels=4, hidden=3)
    video, audio = torch.randn(2, 5, 2, 3, 2), torch.randn(2, 4)
    fused, attention = block(video, audio)
    for b in range(2):
        scores = {}
        for s in range(2):
            for h in range(3):
                for w in range(2):
                    x_q = torch.tanh(
                        block.video_affine.weight @ video[b, :, s, h, w]
                        + block.video_affine.bias
                        + block.audio_affine.weight @ audio[b]
                    )
                    scores[s, h, w] = (block.score.weight @ x_q + block.score.bias).item()
        total = sum(math.exp(score) for score in scores.values())
        for (s, h, w), score in scores.items():
            share = math.exp(score) / total
            assert attention[b, s, h, w].item() == pytest.approx(share, abs=1e-6)
            expected = video[b, :, s, h, w] * share + video[b, :, s, h, w]
            torch.testing.assert_close(fused[b, :, s, h, w], expected)


def test_attention_of_each_clip_sums_to_one():
    block = CrossModalBlock(video_channels=8, audio_channels=4, hidden=3)
    _, attention = block(torch.randn(3, 8, 2, 7, 7), torch.randn(3, 4))
    torch.testing.assert_close(attention.sum(dim=(1, 2, 3)), torch.ones(3))


def test_positions_are_sines_then_cosines_from_one_on():
    table = sinusoids(26, 64)
    assert table.shape == (26, 64)
    for position in (1, 2, 26):
        for channel in (0, 1, 31):
            angle = position * math.exp(-channel * math.log(10_000) / 31)
            assert table[position - 1, channel].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[position - 1, 32 + channel].item() == pytest.approx(
                math.cos(angle), abs=1e-5
            )


def test_self_attention_is_causal_scaled_dot_product_with_residuals_and_layer_norm():
    torch.manual_seed(0)
    block = AudioSelfAttention(channels=8, heads=2, layers=2, feedforward=16).eval()
    audio = torch.randn(1, 8, 5)
    x = math.sqrt(8) * audio[0].T + sinusoids(5, 8)
    for layer in block.encoder.layers:
        attention = layer.self_attn
        y = layer.norm1(x)
        q, k, v = (y @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=1)
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            scores = q[:, head] @ k[:, head].T / math.sqrt(4)
            scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
            heads.append(scores.softmax(dim=1) @ v[:, head])
        x = x + attention.out_proj(torch.cat(heads, dim=1))
        x = x + layer.linear2(torch.relu(layer.linear1(layer.norm2(x))))
    torch.testing.assert_close(block(audio)[0].T, block.encoder.norm(x))


def test_the_last_step_hears_every_step_before_it():
    block = AudioSelfAttention().eval()
    audio = torch.randn(1, 64, 26, requires_grad=True)
    block(audio)[0, 0, -1].backward()
    assert (audio.grad.abs().sum(dim=1) > 0).all()


def test_no_step_hears_a_later_one():
    block = AudioSelfAttention().eval()
    audio = torch.randn(1, 64, 26, requires_grad=True)
    block(audio)[0, 0, 10].backward()
    heard = audio.grad.abs().sum(dim=1)[0] > 0
    assert heard[:11].all()
    assert not heard[11:].any()


def test_layers_of_self_attention_start_from_weights_of_their_own():
    layers = AudioSelfAttention().encoder.layers
    assert not torch.equal(layers[0].linear1.weight, layers[1].linear1.weight)
    assert not layers[0].linear1.bias.any()


def test_the_mfcc_encoder_leaves_26_steps_of_64_channels():
    assert MfccCnn()(torch.randn(2, 13, 212)).shape == (2, 64, MfccCnn.STEPS)


def test_the_full_video_encoder_ends_at_2048_x_2_x_7_x_7():
    with torch.device("meta"):
        features = ResNeXt3D()(torch.empty(1, 3, 30, 224, 224))
        assert features.shape == (1, 2048, 2, 7, 7)
        assert pool(features).shape == (1, 2048)


def test_encoders_use_the_names_of_the_public_checkpoints():
    with torch.device("meta"):
        video, audio = set(ResNeXt3D().state_dict()), set(MfccCnn().state_dict())
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.conv1.weight",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.bias",
        "layer4.2.bn3.weight",
    } <= video
    assert "layer1.1.downsample.0.weight" not in video
    assert {"conv1.bias", "bn1.weight", "conv2.weight", "bn2.bias", "conv3.weight"} <= audio


def test_without_the_stems_relu_negative_values_pass_the_stem():
    torch.manual_seed(0)
    sizes = {"stem": 4, "widths": (4, 4, 4, 4), "blocks": (1, 1, 1, 1), "cardinality": 2}
    with_relu, without = ResNeXt3D(**sizes), ResNeXt3D(**sizes, stem_relu=False)
    without.load_state_dict(with_relu.state_dict())
    frames = torch.randn(1, 3, 30, 64, 64)
    for net in (with_relu, without):
        nn.init.constant_(net.bn1.bias, -9.0)  # all that leaves the stem is below zero
    assert not torch.equal(with_relu.eval()(frames), without.eval()(frames))


def normalised(x, bn):
    shape = (1, -1, *[1] * (x.dim() - 2))
    scale = (bn.weight / (bn.running_var + bn.eps).sqrt()).view(shape)
    return (x - bn.running_mean.view(shape)) * scale + bn.bias.view(shape)


def test_the_mfcc_encoder_normalises_after_its_relus():
    torch.manual_seed(0)
    net = unusual_statistics(MfccCnn())
    mfcc = torch.randn(2, 13, 212)
    x = normalised(torch.relu(net.conv1(mfcc)), net.bn1)
    x = nn.functional.max_pool1d(torch.relu(net.conv2(x)), 8)
    x = normalised(x, net.bn2)
    expected = normalised(torch.relu(net.conv3(x)), net.bn3)
    torch.testing.assert_close(net(mfcc), expected)


def test_a_bottleneck_adds_its_shortcut_before_the_last_relu():
    torch.manual_seed(0)
    for inputs, stride in ((8, 1), (6, 2)):
        block = unusual_statistics(Bottleneck(inputs, 4, 2, stride))
        x = torch.randn(2, inputs, 4, 6, 6)
        y = torch.relu(normalised(block.conv1(x), block.bn1))
        y = torch.relu(normalised(block.conv2(y), block.bn2))
        y = normalised(block.conv3(y), block.bn3)
        shortcut = x
        if block.downsample is not None:
            shortcut = normalised(block.downsample[0](x), block.downsample[1])
        assert (block.downsample is None) == (stride == 1)
        torch.testing.assert_close(block(x), torch.relu(y + shortcut))


def test_flattened_audio_is_dropped_out_before_the_classifier():
    net = model.build("cfn_sr", "tiny").eval()
    frames, mfcc = torch.randn(1, 3, 10, 56, 56), torch.randn(1, 13, 212)
    assert torch.equal(net(frames, mfcc), net(frames, mfcc))
    net.dropout.train()
    assert net.dropout.p == 0.4
    assert not torch.equal(net(frames, mfcc), net(frames, mfcc))


@pytest.mark.parametrize("shape", [(30, 112, 112), (5, 7, 8), (1, 2, 3)])
def test_max_pooling_in_order_is_max_pooling_forth_and_back(shape):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *shape).requires_grad_()  # no two values alike
    y = x.detach().clone().requires_grad_()
    pooled, expected = max_pool_in_order(x), nn.functional.max_pool3d(y, 3, stride=2, padding=1)
    assert torch.equal(pooled, expected)
    weights = torch.randn(pooled.shape)
    (pooled * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
