"""The compared ways of fusion against their equations, written out by hand."""

import math

import librosa
import numpy as np
import pytest
import torch
from networks import clips, tiny, unusual_statistics
from torch import nn

import model
from model.concat_fc import ConcatFc
from model.cross_modal import CrossModalBlock
from model.erann import Erann, ResidualBlock
from model.late_fusion import averaging, multiplication, multiplicative, multiplicative_loss
from model.log_mel import SAMPLE_RATE_HZ, LogMel, mel_filters
from model.mcbp import CompactBilinear, signed_sqrt, sketch
from model.mmtm import Mmtm
from model.msaf import Msaf


def softmax(row):
    shares = [math.exp(value) for value in row]
    return [share / sum(shares) for share in shares]


VIDEO = torch.tensor([[2.0, 0.5, -1.0], [0.0, 0.0, 3.0]])
AUDIO = torch.tensor([[-0.5, 1.5, 0.0], [1.0, -2.0, 0.5]])


def test_averaging_is_the_mean_of_the_distributions():
    shares = averaging(VIDEO, AUDIO).softmax(dim=1)
    for b in range(2):
        v, a = softmax(VIDEO[b].tolist()), softmax(AUDIO[b].tolist())
        mean = [(x + y) / 2 for x, y in zip(v, a, strict=True)]
        assert shares[b].tolist() == pytest.approx(mean, abs=1e-6)


def test_multiplication_is_the_product_of_the_distributions():
    shares = multiplication(VIDEO, AUDIO).softmax(dim=1)
    for b in range(2):
        v, a = softmax(VIDEO[b].tolist()), softmax(AUDIO[b].tolist())
        product = [x * y for x, y in zip(v, a, strict=True)]
        assert shares[b].tolist() == pytest.approx([x / sum(product) for x in product], abs=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_multiplicative_loss_weighs_each_modality_by_the_others_doubt(beta):
    labels = torch.tensor([1, 2])
    loss = multiplicative_loss(multiplicative(VIDEO, AUDIO, beta), torch.eye(3)[labels])
    for b, label in enumerate(labels.tolist()):
        v, a = softmax(VIDEO[b].tolist())[label], softmax(AUDIO[b].tolist())[label]
        expected = -((1 - a) ** beta) * math.log(v) - (1 - v) ** beta * math.log(a)
        assert loss[b].item() == pytest.approx(expected, abs=1e-5)


def test_multiplicative_weights_are_constants_to_the_gradient():
    video = VIDEO.clone().requires_grad_()
    multiplicative_loss(multiplicative(video, AUDIO), torch.eye(3)[[0, 0]]).sum().backward()
    for b in range(2):
        v, a = softmax(VIDEO[b].tolist()), softmax(AUDIO[b].tolist())
        for c in range(3):  # q_v times the gradient of -log p_v, that of q_a is not there
            expected = (1 - a[0]) ** 0.3 * (v[c] - (c == 0))
            assert video.grad[b, c].item() == pytest.approx(expected, abs=1e-6)


def test_a_sure_modality_leaves_the_multiplicative_loss_finite():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss = multiplicative_loss(multiplicative(logits, logits), torch.eye(3)[[0]])
    loss.sum().backward()
    assert loss.item() == 0
    assert logits.grad.isfinite().all()


def test_the_multiplicative_network_is_trained_with_its_own_loss():
    assert model.loss("multiplicative") is multiplicative_loss
    labels = torch.tensor([1, 2])
    own = model.loss("cfn_sr")(VIDEO, torch.eye(3)[labels])
    assert own.tolist() == pytest.approx(
        [-math.log(softmax(VIDEO[b].tolist())[labels[b]]) for b in range(2)]
    )


def test_concat_fc_joins_pooled_video_and_flat_audio():
    net = tiny("concat_fc")
    assert isinstance(net, ConcatFc)
    frames, mfcc = clips("concat_fc", 2)
    joined = torch.cat([net.video(frames).mean(dim=(2, 3, 4)), net.audio(mfcc).flatten(1)], dim=1)
    hidden = torch.relu(joined @ net.head[0].weight.T + net.head[0].bias)
    hidden = torch.relu(hidden @ net.head[2].weight.T + net.head[2].bias)
    expected = hidden @ net.head[4].weight.T + net.head[4].bias
    torch.testing.assert_close(net(frames, mfcc), expected)


def test_a_count_sketch_adds_signed_entries_to_their_buckets():
    vector = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    buckets, signs = torch.tensor([2, 0, 2, 1]), torch.tensor([1.0, -1.0, -1.0, 1.0])
    assert sketch(vector, buckets, signs, 3).tolist() == [[-2.0, 8.0, -3.0]]


@pytest.mark.parametrize("outputs", [7, 16])
def test_compact_bilinear_pooling_is_the_sketch_of_the_outer_product(outputs):
    torch.manual_seed(0)
    pooling = CompactBilinear(inputs=(5, 4), outputs=outputs)
    first, second = torch.randn(3, 5), torch.randn(3, 4)
    expected = torch.zeros(3, outputs)
    for b in range(3):
        for i in range(5):
            for j in range(4):
                bucket = (pooling.first_buckets[i] + pooling.second_buckets[j]) % outputs
                sign = pooling.first_signs[i] * pooling.second_signs[j]
                expected[b, bucket] += sign * first[b, i] * second[b, j]
    torch.testing.assert_close(pooling(first, second), expected, rtol=1e-5, atol=1e-5)


def test_sketches_keep_inner_products_on_average():
    """<x, u> <y, v> is what the full bilinear pooling has; the sketch must estimate it."""
    generator = torch.Generator().manual_seed(0)
    x, u, y, v = (torch.randn(1, 6, generator=generator) for _ in range(4))
    estimates = []
    for seed in range(400):
        pooling = CompactBilinear(inputs=(6, 6), outputs=64, seed=seed)
        estimates.append((pooling(x, y) * pooling(u, v)).sum().item())
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert np.mean(estimates) == pytest.approx(((x @ u.T) * (y @ v.T)).item(), abs=4 * error)


def test_compact_bilinear_pooling_is_float32_under_autocast():
    torch.manual_seed(0)
    pooling = CompactBilinear(inputs=(5, 4), outputs=7)
    first, second = torch.randn(2, 5), torch.randn(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pooling(first, second)
    assert pooled.dtype == torch.float32
    assert torch.equal(pooled, pooling(first, second))


def test_the_signed_root_has_a_finite_slope_at_zero():
    x = torch.tensor([-4.0, 0.0, 9.0], requires_grad=True)
    root = signed_sqrt(x)
    assert root.tolist() == pytest.approx([-2.0, 0.0, 3.0], abs=2e-4)
    root.sum().backward()
    assert x.grad.isfinite().all()


def test_mcbp_classifies_the_normed_signed_root():
    net = tiny("mcbp")
    frames, mfcc = clips("mcbp", 2)
    audio = net.audio(mfcc).flatten(1)
    joint = signed_sqrt(net.bilinear(net.video(frames).mean(dim=(2, 3, 4)), audio))
    joint = joint / joint.square().sum(dim=1, keepdim=True).sqrt()
    expected = joint @ net.head.weight.T + net.head.bias
    torch.testing.assert_close(net(frames, mfcc), expected, rtol=1e-4, atol=1e-5)


def test_mmtm_scales_channels_by_what_both_modalities_hold():
    module = Mmtm(2, 2)
    with torch.no_grad():
        module.squeeze.weight.copy_(torch.tensor([[1.0, 0.0, 2.0, 0.0], [0.0, -1.0, 0.0, 1.0]]))
        module.squeeze.bias.copy_(torch.tensor([0.5, 0.0]))
        module.excite_video.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        module.excite_video.bias.zero_()
        module.excite_audio.weight.copy_(torch.tensor([[-1.0, 0.0], [0.0, 3.0]]))
        module.excite_audio.bias.copy_(torch.tensor([0.0, 1.0]))
    # Means 2 and 3 of the video, 0.25 and 1 of the audio: Z = ReLU([2 + 0.5 + 0.5, -3 + 1]).
    video = torch.tensor([[[[[1.0, 3.0]]], [[[2.0, 4.0]]]]])  # (1, 2, 1, 1, 2)
    audio = torch.tensor([[[0.0, 0.25, 0.5], [1.0, 1.0, 1.0]]])  # (1, 2, 3)
    scaled_video, scaled_audio = module(video, audio)
    sigmoid = [1 / (1 + math.exp(-x)) for x in (3.0, 0.0, -3.0, 1.0)]
    assert scaled_video.flatten().tolist() == pytest.approx(
        [2 * sigmoid[0], 6 * sigmoid[0], 4 * sigmoid[1], 8 * sigmoid[1]]
    )
    assert scaled_audio.flatten().tolist() == pytest.approx(
        [0.0, 0.5 * sigmoid[2], sigmoid[2], *[2 * sigmoid[3]] * 3]
    )


def test_an_mmtm_without_excitation_changes_nothing():
    module = Mmtm(4, 3)
    for layer in (module.excite_video, module.excite_audio):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    video, audio = torch.randn(2, 4, 2, 3, 3), torch.randn(2, 3, 5)
    for before, after in zip((video, audio), module(video, audio), strict=True):
        torch.testing.assert_close(before, after)


def test_msaf_weighs_blocks_of_all_modalities_against_each_other():
    torch.manual_seed(0)
    module = unusual_statistics(Msaf((4, 2), block=2, reduction=2))
    video, audio = torch.randn(2, 4, 2, 1, 3), torch.randn(2, 2, 5)
    weighed_video, weighed_audio = module(video, audio)
    norm = module.joint[1]
    for b in range(2):
        blocks = [video[b, :2].flatten(1), video[b, 2:].flatten(1), audio[b]]
        joined = [sum(block[c].mean().item() for block in blocks) for c in range(2)]
        linear = module.joint[0]
        z = sum(w * g for w, g in zip(linear.weight[0].tolist(), joined, strict=True))
        z += linear.bias.item()
        z = (z - norm.running_mean.item()) / math.sqrt(norm.running_var.item() + norm.eps)
        z = max(0.0, z * norm.weight.item() + norm.bias.item())
        affine = [
            (w * z + bias)
            for w, bias in zip(
                module.highlight.weight[:, 0].tolist(), module.highlight.bias.tolist(), strict=True
            )
        ]
        for c in range(2):  # softmax over the three blocks, for each channel of a block by itself
            shares = softmax([affine[2 * i + c] for i in range(3)])
            torch.testing.assert_close(weighed_video[b, c], video[b, c] * shares[0])
            torch.testing.assert_close(weighed_video[b, 2 + c], video[b, 2 + c] * shares[1])
            torch.testing.assert_close(weighed_audio[b, c], audio[b, c] * shares[2])


def test_msaf_drops_whole_blocks_while_training_and_none_after():
    torch.manual_seed(0)
    module = Msaf((8, 4), block=2, reduction=2, dropout=0.5).train()
    video, audio = torch.ones(64, 8, 1, 2, 2), torch.ones(64, 4, 3)
    dropped = module(video, audio)[0].unflatten(1, (4, 2)).flatten(2) == 0
    assert torch.equal(dropped.all(dim=2), dropped.any(dim=2))  # all of a block or nothing
    assert 0.3 < dropped.float().mean() < 0.7
    assert all((x != 0).all() for x in module.eval()(video, audio))


def test_video_to_audio_weighs_the_steps_of_the_sound():
    torch.manual_seed(0)
    block = CrossModalBlock(video_channels=5, audio_channels=4, hidden=3, guided="audio")
    video, audio = torch.randn(2, 5), torch.randn(2, 4, 6)
    fused, attention = block(video, audio)
    assert fused.shape == (2, 4, 6)
    for b in range(2):
        scores = []
        for step in range(6):
            x_q = torch.tanh(
                block.video_affine.weight @ video[b]
                + block.video_affine.bias
                + block.audio_affine.weight @ audio[b, :, step]
            )
            scores.append((block.score.weight @ x_q + block.score.bias).item())
        shares = softmax(scores)
        assert attention[b].tolist() == pytest.approx(shares, abs=1e-6)
        expected = torch.stack([audio[b, :, s] * (1 + shares[s]) for s in range(6)], dim=1)
        torch.testing.assert_close(fused[b], expected)


def test_without_the_residual_only_the_weighted_map_is_left():
    torch.manual_seed(0)
    sizes = {"video_channels": 5, "audio_channels": 4, "hidden": 3}
    with_residual, without = CrossModalBlock(**sizes), CrossModalBlock(**sizes, residual=False)
    without.load_state_dict(with_residual.state_dict())
    video, audio = torch.randn(2, 5, 2, 3, 2), torch.randn(2, 4)
    fused, attention = without(video, audio)
    torch.testing.assert_close(fused, video * attention[:, None])
    torch.testing.assert_close(fused + video, with_residual(video, audio)[0])


def sharp(name):
    """A network whose attention is far from even, so that what it looks at changes its logits."""
    net = tiny(name)
    block = net.cross_modal
    for layer in (block.video_affine, block.audio_affine, block.score):
        layer.weight.data *= 30
    net.head.weight.data *= 100
    return net


def test_ablations_leave_out_just_what_they_name():
    """Each row of Table 2 with the weights of the whole network, against its formula."""
    whole = sharp("cfn_sr")
    frames, mfcc = clips("cfn_sr", 2)
    video, audio = whole.video(frames), whole.audio(mfcc)
    attended = whole.self_attention(audio)
    flat, pooled = audio.flatten(1), video.mean(dim=(2, 3, 4))

    def fused(vector):
        return whole.cross_modal(video, vector)[0].mean(dim=(2, 3, 4))

    expected = {
        "cfn_sr": (fused(attended[..., -1]), flat),
        "cfn_sr_no_cross_modal": (pooled, flat),
        "cfn_sr_no_self_attention": (fused(audio[..., -1]), flat),
        "cfn_sr_no_residual": (fused(attended[..., -1]) - pooled, flat),
    }
    for name in expected:
        net = tiny(name)
        kept = {k: v for k, v in whole.state_dict().items() if k in net.state_dict()}
        net.load_state_dict(kept)
        for other, others in expected.items():
            logits = whole.head(torch.cat(others, dim=1))
            apart = (net(frames, mfcc) - logits).abs().max()
            assert (apart < 1e-3) if other == name else (apart > 1e-1), (name, other)


def test_the_last_step_of_the_attended_sound_looks_at_the_video():
    net = sharp("cfn_sr")
    frames, mfcc = clips("cfn_sr", 2)
    attended = net.self_attention(net.audio(mfcc))
    logits = {}
    for what, vector in {
        "last": attended[..., -1],
        "first": attended[..., 0],
        "mean": attended.mean(dim=2),
    }.items():
        fused, _ = net.cross_modal(net.video(frames), vector)
        joined = [fused.mean(dim=(2, 3, 4)), net.audio(mfcc).flatten(1)]
        logits[what] = net.head(torch.cat(joined, dim=1))
    found = net(frames, mfcc)
    torch.testing.assert_close(found, logits["last"], rtol=0, atol=1e-3)
    assert all((found - logits[other]).abs().max() > 1e-1 for other in ("first", "mean"))


def test_video_to_audio_fuses_into_the_attended_sound():
    net = sharp("cfn_sr_video_to_audio")
    frames, mfcc = clips("cfn_sr", 2)
    pooled = net.video(frames).mean(dim=(2, 3, 4))
    fused, _ = net.cross_modal(pooled, net.self_attention(net.audio(mfcc)))
    expected = net.head(torch.cat([pooled, fused.flatten(1)], dim=1))
    torch.testing.assert_close(net(frames, mfcc), expected)


@pytest.mark.parametrize("name", ["mmtm", "msaf"])
def test_modules_that_do_nothing_leave_the_two_unimodal_networks(name, monkeypatch):
    net = tiny(name)
    for module in (Mmtm, Msaf):
        monkeypatch.setattr(module, "forward", lambda self, video, audio: (video, audio))
    frames, mfcc = clips(name, 2)
    both = net.video(frames, None) + net.audio(None, mfcc)
    torch.testing.assert_close(net(frames, mfcc), both / 2 if name == "mmtm" else both)


def test_mel_filters_are_librosas():
    ours = mel_filters(40, 1_380, 50, 14_000).numpy()
    theirs = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=1_380, n_mels=40, fmin=50, fmax=14_000)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)


def test_log_mel_is_librosas_spectrogram():
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 108_045).astype(np.float32)
    layer = LogMel(bands=40, window=1_380, hop=345, low_hz=50, high_hz=14_000)
    with torch.autocast("cpu", torch.bfloat16):
        ours = layer(torch.from_numpy(wave)[None])[0].numpy()
    power = librosa.feature.melspectrogram(
        y=wave,
        sr=SAMPLE_RATE_HZ,
        n_fft=1_380,
        hop_length=345,
        n_mels=40,
        fmin=50,
        fmax=14_000,
        pad_mode="reflect",
    )
    assert ours.shape == power.shape == (40, 314)
    np.testing.assert_allclose(ours, librosa.power_to_db(power, top_db=None), atol=1e-2)


def test_silence_has_a_finite_log_mel():
    layer = LogMel(bands=40, window=1_380, hop=345, low_hz=50, high_hz=14_000)
    assert (layer(torch.zeros(1, 2_000)) == -100).all()


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (3, 6, 2)])
def test_a_block_of_erann_normalises_before_it_convolves(inputs, outputs, stride):
    torch.manual_seed(0)
    block = unusual_statistics(ResidualBlock(inputs, outputs, stride))
    x = torch.randn(2, inputs, 8, 10)

    def activated(x, bn):
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        x = (x - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]
        return torch.where(x > 0, x, 0.01 * x)

    y = block.conv2(activated(block.conv1(activated(x, block.bn1)), block.bn2))
    shortcut = x if stride == 1 else block.shortcut(x)
    torch.testing.assert_close(block(x), y + shortcut)


def test_erann_halves_bands_and_frames_four_times():
    with torch.device("meta"):
        net = Erann()
        assert net.stages(torch.empty(1, 1, 128, 314)).shape == (1, 512, 8, 20)


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
    a = torch.relu(audio.conv2(audio.bn1(torch.relu(audio.conv1(mfcc)))))
    v, a = net.msaf[0](v, a)
    a = audio.bn3(torch.relu(audio.conv3(audio.bn2(audio.maxpool(a)))))
    v, a = net.msaf[1](video.layer4(v), a)
    v, a = net.video.fc(v.mean(dim=(2, 3, 4))), net.audio.fc1(a.flatten(1))
    torch.testing.assert_close(net(frames, mfcc), v + a)
    assert [module.dropout.p for module in net.msaf] == [0.2, 0.2]


def test_erann_pools_bands_by_mean_and_time_by_mean_and_maximum():
    net = unusual_statistics(tiny("erann"))
    _, waveform = clips("erann", 2)
    x = net.stages(net.log_mel(waveform)[:, None])
    assert x.shape[2] > 1
    assert x.shape[3] > 1
    bands = sum(x[:, :, band] for band in range(x.shape[2])) / x.shape[2]
    pooled = bands.mean(dim=2) + bands.max(dim=2).values
    hidden = net.fc1(pooled)
    assert (hidden < 0).any()
    expected = net.fc2(torch.where(hidden > 0, hidden, 0.01 * hidden))
    torch.testing.assert_close(net(None, waveform), expected, rtol=1e-4, atol=1e-4)


def test_eranns_spectrogram_has_the_stated_windows_and_edges():
    layer = Erann().log_mel
    assert (layer.window, layer.hop) == (1_380, 345)
    torch.testing.assert_close(layer.filters, mel_filters(128, 1_380, 50, 14_000))
    assert not layer.state_dict()  # follows from the arguments, so no part of a checkpoint


@pytest.mark.parametrize("name", ["concat_fc", "mcbp"])
def test_flat_audio_is_dropped_out_before_early_fusion(name):
    net = tiny(name)
    batch = clips(name, 1)
    assert torch.equal(net(*batch), net(*batch))
    net.dropout.train()
    assert net.dropout.p == 0.4
    assert not torch.equal(net(*batch), net(*batch))


def test_buckets_and_signs_are_drawn_from_their_own_seed():
    torch.manual_seed(1)
    one = CompactBilinear(inputs=(500, 400), outputs=64)
    torch.manual_seed(2)
    two = CompactBilinear(inputs=(500, 400), outputs=64)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name])
    for signs in (one.first_signs, one.second_signs):
        assert set(signs.tolist()) == {-1.0, 1.0}
        assert abs(signs.mean()) < 0.2
    assert one.first_buckets.min() == 0
    assert one.first_buckets.max() == 63


def test_late_rules_are_computed_in_float32_under_autocast():
    net = tiny("multiplicative")
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(*clips("multiplicative", 2))
    assert logits.dtype == torch.float32
