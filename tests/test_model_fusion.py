"""The compared ways of fusion against their equations, written out by hand."""

import librosa
import numpy as np
import pytest
import torch
from networks import clips, tiny, unusual_statistics
from torch.nn.functional import leaky_relu

import model
from model.cross_modal import CrossModalBlock
from model.erann import Erann, ResidualBlock
from model.late_fusion import averaging, multiplication, multiplicative, multiplicative_loss
from model.log_mel import SAMPLE_RATE_HZ, LogMel, mel_filters
from model.mcbp import CompactBilinear, signed_sqrt
from model.mmtm import Mmtm
from model.msaf import Msaf

VIDEO = torch.tensor([[2.0, 0.5, -1.0], [0.0, 0.0, 3.0]])
AUDIO = torch.tensor([[-0.5, 1.5, 0.0], [1.0, -2.0, 0.5]])
P_V, P_A = (logits.exp() / logits.exp().sum(dim=1, keepdim=True) for logits in (VIDEO, AUDIO))

# Late fusion. ----------------------------------------------------------------------------------


def test_averaging_and_multiplication_are_those_of_the_distributions():
    product = P_V * P_A
    expected = {averaging: (P_V + P_A) / 2, multiplication: product / product.sum(1, keepdim=True)}
    for rule, shares in expected.items():
        torch.testing.assert_close(rule(VIDEO, AUDIO).softmax(dim=1), shares)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_multiplicative_loss_weighs_each_modality_by_the_doubt_of_the_other(beta):
    """The weights are constants to the gradient."""
    video, rows, labels = VIDEO.clone().requires_grad_(), torch.arange(2), torch.tensor([1, 2])
    loss = multiplicative_loss(multiplicative(video, AUDIO, beta), torch.eye(3)[labels])
    v, a = P_V[rows, labels], P_A[rows, labels]
    torch.testing.assert_close(loss, -((1 - a) ** beta) * v.log() - (1 - v) ** beta * a.log())
    loss.sum().backward()
    gradient = P_V - torch.eye(3)[labels]  # of -log p_v
    torch.testing.assert_close(video.grad, (1 - a)[:, None] ** beta * gradient)


def test_a_certain_modality_leaves_the_multiplicative_loss_finite():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss = multiplicative_loss(multiplicative(logits, logits), torch.eye(3)[[0]])
    loss.sum().backward()
    assert loss.item() == 0
    assert logits.grad.isfinite().all()


def test_late_rules_are_computed_in_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert tiny("averaging")(*clips("averaging", 2)).dtype == torch.float32


# Early fusion. ---------------------------------------------------------------------------------


def features_of(net, name, count=2):
    """Pooled video (B, C) and flat audio (B, C * steps), as both enter early fusion."""
    frames, mfcc = clips(name, count)
    return net.video(frames).mean(dim=(2, 3, 4)), net.audio(mfcc).flatten(1)


def test_concat_fc_joins_pooled_video_and_flat_audio():
    net = tiny("concat_fc")
    x = torch.cat(features_of(net, "concat_fc"), dim=1)
    for number in (0, 2):
        x = torch.relu(x @ net.head[number].weight.T + net.head[number].bias)
    expected = x @ net.head[4].weight.T + net.head[4].bias
    torch.testing.assert_close(net(*clips("concat_fc", 2)), expected)


@pytest.mark.parametrize("outputs", [7, 16])
def test_compact_bilinear_pooling_is_the_sketch_of_the_outer_product(outputs):
    """In float32, also under autocast."""
    torch.manual_seed(0)
    pooling = CompactBilinear(inputs=(5, 4), outputs=outputs)
    first, second = torch.randn(3, 5), torch.randn(3, 4)
    expected = torch.zeros(3, outputs)
    for i in range(5):
        for j in range(4):
            bucket = (pooling.first_buckets[i] + pooling.second_buckets[j]) % outputs
            sign = pooling.first_signs[i] * pooling.second_signs[j]
            expected[:, bucket] += sign * first[:, i] * second[:, j]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(pooling(first, second), expected, rtol=1e-5, atol=1e-5)


def test_buckets_and_signs_are_drawn_from_their_own_seed():
    poolings = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        poolings.append(CompactBilinear(inputs=(500, 400), outputs=64))
    one, two = (pooling.state_dict() for pooling in poolings)
    assert all(torch.equal(one[name], two[name]) for name in one)
    for vector in ("first", "second"):
        assert set(one[f"{vector}_buckets"].tolist()) == set(range(64))
        assert set(one[f"{vector}_signs"].tolist()) == {-1.0, 1.0}
        assert abs(one[f"{vector}_signs"].mean()) < 0.2


def test_mcbp_classifies_the_normalized_signed_root():
    net = tiny("mcbp")
    video, audio = features_of(net, "mcbp")
    joint = signed_sqrt(net.bilinear(video, audio))
    joint = joint / joint.square().sum(dim=1, keepdim=True).sqrt()
    expected = joint @ net.head.weight.T + net.head.bias
    torch.testing.assert_close(net(*clips("mcbp", 2)), expected, rtol=1e-4, atol=1e-5)
    x = torch.tensor([-4.0, 0.0, 9.0], requires_grad=True)
    assert signed_sqrt(x).tolist() == pytest.approx([-2.0, 0.0, 3.0], abs=2e-4)
    signed_sqrt(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", ["concat_fc", "mcbp", "cfn_sr"])
def test_flat_audio_is_dropped_out_before_it_is_joined(name):
    net, batch = tiny(name), clips(name, 1)
    assert torch.equal(net(*batch), net(*batch))
    net.dropout.train()
    assert net.dropout.p == 0.4
    assert not torch.equal(net(*batch), net(*batch))


# Fusion inside the networks. -------------------------------------------------------------------


def test_mmtm_scales_channels_by_what_both_modalities_hold():
    torch.manual_seed(0)
    module = Mmtm(4, 3)
    video, audio = torch.randn(2, 4, 2, 3, 3), torch.randn(2, 3, 5)
    means = torch.cat([video.mean(dim=(2, 3, 4)), audio.mean(dim=2)], dim=1)
    z = torch.relu(means @ module.squeeze.weight.T + module.squeeze.bias)  # (B, (C_v + C_a) / 2)
    assert z.shape == (2, 3)
    layers = (module.excite_video, module.excite_audio)
    for x, layer, found in zip((video, audio), layers, module(video, audio), strict=True):
        gate = 2 / (1 + torch.exp(-(z @ layer.weight.T + layer.bias)))
        torch.testing.assert_close(found, x * gate.view(*gate.shape, *[1] * (x.dim() - 2)))


def test_msaf_weighs_blocks_of_all_modalities_against_each_other():
    torch.manual_seed(0)
    module = unusual_statistics(Msaf((4, 2), block=2, reduction=2))
    video, audio = torch.randn(2, 4, 2, 1, 3), torch.randn(2, 2, 5)
    weighed_video, weighed_audio = module(video, audio)
    blocks = [video[:, :2].flatten(2), video[:, 2:].flatten(2), audio]  # (B, 2, positions)
    joined = sum(block.mean(dim=2) for block in blocks)
    linear, norm, _ = module.joint
    z = torch.relu(norm(joined @ linear.weight.T + linear.bias))
    affine = (z @ module.highlight.weight.T + module.highlight.bias).view(2, 3, 2)
    shares = affine.exp() / affine.exp().sum(dim=1, keepdim=True)  # over the three blocks
    expected = [block * shares[:, i, :, None] for i, block in enumerate(blocks)]
    torch.testing.assert_close(weighed_video.flatten(2), torch.cat(expected[:2], dim=1))
    torch.testing.assert_close(weighed_audio, expected[2])


def test_msaf_drops_whole_blocks_in_training_and_none_after():
    torch.manual_seed(0)
    module = Msaf((8, 4), block=2, reduction=2, dropout=0.5).train()
    video, audio = torch.ones(64, 8, 1, 2, 2), torch.ones(64, 4, 3)
    dropped = module(video, audio)[0].unflatten(1, (4, 2)).flatten(2) == 0
    assert torch.equal(dropped.all(dim=2), dropped.any(dim=2))  # all of a block or nothing
    assert 0.3 < dropped.float().mean() < 0.7
    assert all((x != 0).all() for x in module.eval()(video, audio))


def test_mmtm_joins_the_networks_after_their_last_three_stages():
    net = unusual_statistics(tiny("mmtm"))
    frames, mfcc = clips("mmtm", 2)
    video, audio = net.video.video, net.audio.audio
    v = video.layer2(video.layer1(video.stem(frames)))
    v, a = net.mmtm[0](v, audio.bn1(torch.relu(audio.conv1(mfcc))))
    v, a = net.mmtm[1](video.layer3(v), audio.bn2(audio.maxpool(torch.relu(audio.conv2(a)))))
    v, a = net.mmtm[2](video.layer4(v), audio.bn3(torch.relu(audio.conv3(a))))
    v, a = net.video.fc(v.mean(dim=(2, 3, 4))), net.audio.fc1(a.flatten(1))
    torch.testing.assert_close(net(frames, mfcc), (v + a) / 2)


def test_msaf_joins_the_networks_before_the_sound_is_pooled_and_at_the_end():
    net = unusual_statistics(tiny("msaf"))
    frames, mfcc = clips("msaf", 2)
    video, audio = net.video.video, net.audio.audio
    v = video.layer3(video.layer2(video.layer1(video.stem(frames))))
    v, a = net.msaf[0](v, torch.relu(audio.conv2(audio.bn1(torch.relu(audio.conv1(mfcc))))))
    a = audio.bn3(torch.relu(audio.conv3(audio.bn2(audio.maxpool(a)))))
    v, a = net.msaf[1](video.layer4(v), a)
    v, a = net.video.fc(v.mean(dim=(2, 3, 4))), net.audio.fc1(a.flatten(1))
    torch.testing.assert_close(net(frames, mfcc), v + a)
    assert [module.dropout.p for module in net.msaf] == [0.2, 0.2]


def test_cfn_sr_and_its_ablations_are_what_they_name():
    """Each row of Table 2 with the weights of the whole network, against its formula."""
    whole = tiny("cfn_sr")
    for layer in (whole.cross_modal.video_affine, whole.cross_modal.audio_affine):
        layer.weight.data *= 30  # attention is then far from even, so what it looks at matters
    whole.cross_modal.score.weight.data *= 30
    whole.head.weight.data *= 100
    frames, mfcc = clips("cfn_sr", 2)
    video, audio = whole.video(frames), whole.audio(mfcc)
    attended, flat = whole.self_attention(audio), audio.flatten(1)
    pooled = video.mean(dim=(2, 3, 4))

    def fused(vector):
        return whole.cross_modal(video, vector)[0].mean(dim=(2, 3, 4))

    by_video = tiny("cfn_sr_video_to_audio")
    by_video.load_state_dict(whole.state_dict())
    expected = {
        "cfn_sr": (fused(attended[..., -1]), flat),
        "cfn_sr_no_cross_modal": (pooled, flat),
        "cfn_sr_no_self_attention": (fused(audio[..., -1]), flat),
        "cfn_sr_no_residual": (fused(attended[..., -1]) - pooled, flat),
        "cfn_sr_video_to_audio": (pooled, by_video.cross_modal(pooled, attended)[0].flatten(1)),
    }
    others = {
        "the first step looks": (fused(attended[..., 0]), flat),
        "the mean over steps looks": (fused(attended.mean(dim=2)), flat),
    }
    for name in expected:
        net = tiny(name)
        state = net.state_dict()
        net.load_state_dict({k: v for k, v in whole.state_dict().items() if k in state})
        for other, parts in (expected | others).items():
            apart = (net(frames, mfcc) - whole.head(torch.cat(parts, dim=1))).abs().max()
            assert (apart < 1e-3) if other == name else (apart > 1e-1), (name, other)


def test_one_clip_has_the_logits_of_the_released_network():
    """Eq. (7)-(8) as the public code computes them for a batch of one, on the same weights.

    There the map is flattened and multiplied with the 1x1 affine channels first; softmax runs over
    the 7x7 positions of each time slice (here 2x2), and the stem has no ReLU.
    """
    net = tiny("cfn_sr", stem_relu=False, attention="slice")
    net.cross_modal.score.weight.data *= 30  # attention is then far from even
    frames, mfcc = (x[:1] for x in clips("cfn_sr", 2))
    block, video = net.cross_modal, net.video(frames)  # (1, C, S, H, W)
    audio = net.audio(mfcc)
    query = net.self_attention(audio)[0, :, -1]
    pooled = torch.zeros(video.shape[1])
    for part in video[0].unbind(1):  # (C, H, W)
        places = part.flatten(1)  # (C, H * W)
        joint = block.video_affine.weight @ places + block.video_affine.bias[:, None]
        joint = torch.tanh(joint + (block.audio_affine.weight @ query)[:, None])
        shares = torch.softmax((block.score.weight @ joint + block.score.bias)[0], dim=0)
        pooled += (places * shares + places).mean(dim=1) / video.shape[2]
    expected = net.head(torch.cat([pooled, audio[0].flatten()]))
    torch.testing.assert_close(net(frames, mfcc)[0], expected, rtol=1e-6, atol=1e-6)
    other = tiny("cfn_sr", stem_relu=False)
    other.load_state_dict(net.state_dict())
    assert (other(frames, mfcc)[0] - expected).abs().max() > 0.01


@pytest.mark.parametrize("preset", ["paper", "tiny", "landmarks"])
def test_the_cross_modal_block_acts_at_every_preset(preset):
    """Without the attended part the pooled map is half as large, whatever its size."""
    with torch.device("meta"):
        net = model.build("cfn_sr", preset)
    positions = {"paper": (2, 7, 7), "tiny": (1, 2, 2), "landmarks": (5, 9)}[preset]
    sizes = {"video_channels": net.video.channels, "audio_channels": net.audio.channels}
    block = CrossModalBlock(**sizes, hidden=16)
    draw = torch.Generator().manual_seed(0)
    video = torch.rand(2, net.video.channels, *positions, generator=draw)
    sound = torch.randn(2, net.audio.channels, generator=draw)
    with torch.no_grad():
        fused, _ = block(video, sound)
        block.attention = "clip"
        unscaled, _ = block(video, sound)
    before = video.flatten(2).mean(2)
    change, unscaled_change = (x.flatten(2).mean(2) / before - 1 for x in (fused, unscaled))
    torch.testing.assert_close(change, torch.ones_like(change), atol=0.2, rtol=0)
    assert unscaled_change.max() < 1.2 / video[0, 0].numel()  # 1 % at full size


# ERANN. ----------------------------------------------------------------------------------------

SPECTROGRAM = {"bands": 40, "window": 1_380, "hop": 345, "low_hz": 50, "high_hz": 14_000}


def test_log_mel_is_librosas_spectrogram_even_under_autocast():
    filters = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=1_380, n_mels=40, fmin=50, fmax=14_000)
    ours = mel_filters(40, 1_380, 50, 14_000).numpy()
    np.testing.assert_allclose(ours, filters, rtol=1e-4, atol=1e-7)
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 108_045).astype(np.float32)
    stft = librosa.stft(wave, n_fft=1_380, hop_length=345, pad_mode="reflect")
    with torch.autocast("cpu", torch.bfloat16):
        found = LogMel(**SPECTROGRAM)(torch.from_numpy(wave)[None])[0].numpy()
    assert found.shape == (40, 314)
    expected = librosa.power_to_db(filters @ np.abs(stft) ** 2, top_db=None)
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_silence_has_a_finite_log_mel():
    assert (LogMel(**SPECTROGRAM)(torch.zeros(1, 2_000)) == -100).all()


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (3, 6, 2)])
def test_a_block_of_erann_normalizes_before_it_convolves(inputs, outputs, stride):
    torch.manual_seed(0)
    block = unusual_statistics(ResidualBlock(inputs, outputs, stride))
    x = torch.randn(2, inputs, 8, 10)
    y = block.conv1(leaky_relu(block.bn1(x)))
    y = block.conv2(leaky_relu(block.bn2(y)))
    torch.testing.assert_close(block(x), y + (x if stride == 1 else block.shortcut(x)))


def test_erann_has_the_stated_windows_and_stages():
    net = Erann()
    assert (net.log_mel.window, net.log_mel.hop) == (1_380, 345)
    torch.testing.assert_close(net.log_mel.filters, mel_filters(128, 1_380, 50, 14_000))
    assert not net.log_mel.state_dict()  # follows from the arguments, so no part of a checkpoint
    features = net.to("meta").stages(torch.empty(1, 1, 128, 314, device="meta"))
    assert features.shape == (1, 512, 8, 20)


def test_erann_pools_bands_by_mean_and_time_by_mean_and_maximum():
    net = unusual_statistics(tiny("erann"))
    _, waveform = clips("erann", 2)
    x = net.stages(net.log_mel(waveform)[:, None])
    assert min(x.shape[2:]) > 1
    bands = sum(x[:, :, band] for band in range(x.shape[2])) / x.shape[2]
    hidden = net.fc1(bands.mean(dim=2) + bands.max(dim=2).values)
    assert (hidden < 0).any()
    expected = net.fc2(torch.where(hidden > 0, hidden, 0.01 * hidden))
    torch.testing.assert_close(net(None, waveform), expected, rtol=1e-4, atol=1e-4)
