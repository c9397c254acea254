"""The parts of CFN-SR against their equations, written out by hand."""

import math

import pytest
import torch
from networks import unusual_statistics
from torch import nn

from model.attention import AudioSelfAttention, sinusoids
from model.cross_modal import CrossModalBlock
from model.mfcc_cnn import MfccCnn
from model.resnext3d import Bottleneck, ResNeXt3D, max_pool_in_order, pool


@pytest.mark.parametrize("attention", ["mean", "clip", "slice"])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("guided", ["video", "audio"])
def test_cross_modal_attention_is_equations_7_and_8(guided, residual, attention):
    """One softmax per clip, or per time slice as in the public code; V->A turns the direction."""
    torch.manual_seed(0)
    sizes = {"video_channels": 5, "audio_channels": 4, "hidden": 3}
    block = CrossModalBlock(**sizes, guided=guided, residual=residual, attention=attention)
    video = torch.randn(2, 5, 2, 3, 2) if guided == "video" else torch.randn(2, 5)
    audio = torch.randn(2, 4) if guided == "video" else torch.randn(2, 4, 6)
    fused, found = block(video, audio)
    weighed = video if guided == "video" else audio
    assert (fused.shape, found.shape) == (weighed.shape, (2, *weighed.shape[2:]))
    for b in range(2):
        positions = weighed[b].flatten(1).T  # (positions, C)
        scores = []
        for position in positions:
            x_v, x_a = (position, audio[b]) if guided == "video" else (video[b], position)
            affine = block.video_affine.weight @ x_v + block.video_affine.bias
            x_q = torch.tanh(affine + block.audio_affine.weight @ x_a)
            scores.append(math.exp((block.score.weight @ x_q + block.score.bias).item()))
        slices = 2 if (guided, attention) == ("video", "slice") else 1
        shares = torch.tensor(scores).view(slices, -1)
        shares = (shares / shares.sum(dim=1, keepdim=True)).flatten()
        if attention == "mean":
            shares = shares * len(scores)
        torch.testing.assert_close(found[b].flatten(), shares)
        expected = positions * (shares[:, None] + residual)
        torch.testing.assert_close(fused[b].flatten(1).T, expected)


def test_positions_are_sines_then_cosines_from_one_on():
    table = sinusoids(26, 64)
    assert table.shape == (26, 64)
    for position in (1, 2, 26):
        for channel in (0, 1, 31):
            angle = position * math.exp(-channel * math.log(10_000) / 31)
            found = table[position - 1, [channel, 32 + channel]].tolist()
            assert found == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-5)


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


def test_layers_of_self_attention_start_from_their_own_weights():
    layers = AudioSelfAttention().encoder.layers
    assert not torch.equal(layers[0].linear1.weight, layers[1].linear1.weight)
    assert not layers[0].linear1.bias.any()


def test_the_full_size_encoders_have_the_published_shapes_and_names():
    with torch.device("meta"):
        video, audio = ResNeXt3D(), MfccCnn()
        features = video(torch.empty(1, 3, 30, 224, 224))
        assert features.shape == (1, 2048, 2, 7, 7)
        assert pool(features).shape == (1, 2048)
        assert audio(torch.empty(2, 13, 212)).shape == (2, 64, MfccCnn.STEPS) == (2, 64, 26)
    assert {
        *("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.2.bn3.weight"),
        *("layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias"),
    } <= set(video.state_dict())
    assert "layer1.1.downsample.0.weight" not in video.state_dict()
    assert {"conv1.bias", "bn1.weight", "conv3.weight", "bn3.bias"} <= set(audio.state_dict())


def test_a_bottleneck_of_equal_channels_adds_its_input_before_the_last_relu():
    torch.manual_seed(0)
    block = unusual_statistics(Bottleneck(8, 4, 2, stride=1))
    x = torch.randn(2, 8, 4, 6, 6)
    y = torch.relu(block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x))))))
    torch.testing.assert_close(block(x), torch.relu(block.bn3(block.conv3(y)) + x))


@pytest.mark.parametrize("shape", [(30, 112, 112), (5, 7, 8), (1, 2, 3)])
def test_max_pooling_in_order_is_max_pooling_forward_and_backward(shape):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *shape).requires_grad_()  # no two values are equal
    y = x.detach().clone().requires_grad_()
    pooled, expected = max_pool_in_order(x), nn.functional.max_pool3d(y, 3, stride=2, padding=1)
    assert torch.equal(pooled, expected)
    weights = torch.randn(pooled.shape)
    (pooled * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
