"""Facial landmarks in place of pixels: normalization, statistics, and the map over places."""

import math

import pytest
import torch
from networks import unusual_statistics

import model
from cache.schema import FRAME_COUNT, POINT_COUNT
from model.landmarks import PLACES, POSE, SMALLEST, LandmarkEncoder, align, statistics, upright

NAMES = model.names("landmarks")
FUSIONS = [name for name in NAMES if len(model.inputs(name, "landmarks")) == 2]


def faces(count: int = 2, seed: int = 0) -> torch.Tensor:
    """Shapes of noise with the eyes apart, each moving at its own speed, in pixels."""
    draw = torch.Generator().manual_seed(seed)
    shape = torch.randn(count, 1, POINT_COUNT, 2, generator=draw)
    shape[..., PLACES["left eye"], 0] += 5
    motion = torch.randn(count, FRAME_COUNT, POINT_COUNT, 2, generator=draw)
    return 80 * (shape + torch.rand(count, 1, 1, 1, generator=draw) * motion) + 500


def moved(points: torch.Tensor, angle, size, x, y) -> torch.Tensor:
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return size * points @ turn + torch.tensor([x, y])


def test_the_places_are_all_points_once_and_in_order():
    assert [point for points in PLACES.values() for point in points] == list(range(POINT_COUNT))


@pytest.mark.parametrize("name", [n for n in NAMES if "landmarks" in model.inputs(n, "landmarks")])
def test_position_size_and_rotation_of_the_face_change_no_prediction(name):
    torch.manual_seed(0)
    net = unusual_statistics(model.build(name, "landmarks"))
    mfcc = torch.randn(2, *model.INPUT_SHAPES["mfcc"])
    points = faces()
    with torch.no_grad():
        expected = net(points, mfcc)
        found = net(moved(points, 0.3, 1.7, -200.0, 90.0), mfcc)
        other = net(faces(seed=1), mfcc)
    assert (found - expected).abs().max() < 0.01 * (other - expected).abs().max()


def test_upright_faces_are_centered_have_size_one_and_level_eyes():
    points = upright(moved(faces(), -0.4, 0.2, 30.0, 10.0))
    mean = points.mean(dim=1)
    torch.testing.assert_close(mean.mean(dim=1), torch.zeros(2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(mean.square().sum(-1).mean(-1).sqrt(), torch.ones(2))
    right, left = (mean[:, PLACES[f"{side} eye"]].mean(dim=1) for side in ("right", "left"))
    torch.testing.assert_close(right[:, 1], left[:, 1], atol=1e-5, rtol=0)
    assert (right[:, 0] < left[:, 0]).all()


def test_the_pose_of_a_rigid_head_is_found_and_removed():
    still = upright(faces(1)[:, :1].expand(-1, FRAME_COUNT, -1, -1).contiguous())
    turned = still.clone()
    turned[:, 15:] = moved(still[:, 15:], 0.2, 1.1, 0.5, -0.25)
    aligned, pose = align(turned)
    torch.testing.assert_close(aligned, aligned[:, :1].expand_as(aligned), atol=1e-5, rtol=0)
    change = pose[0, 15] - pose[0, 0]
    assert change[2:].tolist() == pytest.approx([-math.log(1.1), -0.2], abs=1e-4)
    assert pose.shape == (1, FRAME_COUNT, POSE)


def test_statistics_are_mean_spread_and_speed_of_each_part():
    series = torch.randn(1, 30, 1, generator=torch.Generator().manual_seed(0))
    found = statistics(series, 5)
    assert found.shape == (1, 3, 5, 1)
    values = series[0, :, 0].tolist()
    for part in range(5):
        own = values[6 * part : 6 * part + 6]
        mean = sum(own) / 6
        spread = math.sqrt(sum((value - mean) ** 2 for value in own) / 6)
        ends = [min(6 * part + n, 28) for n in range(6)]  # the last difference is repeated
        speed = sum(abs(values[n + 1] - values[n]) for n in ends) / 6
        expected = [mean, math.log(spread + SMALLEST), math.log(speed + SMALLEST)]
        assert found[0, :, part, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_map_has_parts_of_time_and_places_and_a_missing_face_is_finite():
    torch.manual_seed(0)
    encoder = LandmarkEncoder().eval()
    assert encoder(faces()).shape == (2, 32, 5, len(PLACES) + 1)
    assert encoder(torch.zeros(1, FRAME_COUNT, POINT_COUNT, 2)).isfinite().all()


@pytest.mark.parametrize("name", ["cfn_sr", "cfn_sr_no_residual"])
def test_the_attention_covers_moments_and_places_and_acts(name):
    """The attended part has the weight of the residual; where it attends changes the logits."""
    torch.manual_seed(0)
    net = unusual_statistics(model.build(name, "landmarks"))
    net.cross_modal.score.weight.data *= 10  # as after training; fresh scores differ little
    mfcc = torch.randn(8, *model.INPUT_SHAPES["mfcc"])
    maps = []
    net.cross_modal.register_forward_hook(lambda *call: maps.append(call[-1][1]))
    with torch.no_grad():
        logits = net(faces(8), mfcc)
        net.cross_modal.score.weight.zero_()
        even = net(faces(8), mfcc)
    assert maps[0].shape == (8, 5, 9)
    torch.testing.assert_close(maps[0].mean(dim=(1, 2)), torch.ones(8))
    torch.testing.assert_close(maps[1], torch.ones(8, 5, 9))
    assert (logits - even).abs().max() > 0.1 * logits.std()


@pytest.mark.parametrize("attention", ["mean", "clip"])
@pytest.mark.parametrize("name", [n for n in FUSIONS if n.startswith("cfn_sr")])
def test_a_fusion_can_start_at_the_product_of_its_unimodal_networks(name, attention):
    torch.manual_seed(0)
    net = model.build(name, "landmarks", attention=attention).eval()
    product = model.build("multiplication", "landmarks").eval()
    net.video.load_state_dict(product.video.video.state_dict())
    net.audio.load_state_dict(product.audio.audio.state_dict())
    classifiers = [(each.weight, each.bias) for each in (product.video.fc, product.audio.fc1)]
    net.start_at_product(*classifiers)
    if net.cross_modal is not None:
        net.cross_modal.score.weight.data.zero_()  # attend evenly
    if name == "cfn_sr_video_to_audio":
        net.self_attention = None  # so that what is weighed is the map of the encoder
    points, mfcc = faces(3), torch.randn(3, *model.INPUT_SHAPES["mfcc"])
    with torch.no_grad():
        found, expected = net(points, mfcc), product(points, mfcc)
    if attention == "mean" or net.cross_modal is None:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    elif net.cross_modal.residual:
        assert (found.argmax(1) == expected.argmax(1)).all()


def test_networks_of_waveforms_have_no_preset_landmarks():
    assert set(model.NAMES) - set(NAMES) == {"erann"}
    with pytest.raises(ValueError, match="erann has no preset landmarks"):
        model.build("erann", "landmarks")
    with pytest.raises(ValueError, match="attention is 'all', expected one of mean, clip, slice"):
        model.build("cfn_sr", "landmarks", attention="all")
