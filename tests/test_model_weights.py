"""Public checkpoints: read under any wrapper, checked by name, computed as their own code does."""

import contextlib
import pickle
import struct
import warnings

import numpy as np
import pytest
import torch
from networks import clips, tiny, unusual_statistics
from safetensors.torch import save_file
from torch.nn import functional

import model
from model.weights import WeightsError, load_encoder, public_state, read_data

UNIMODAL = {"video": "video_resnext50", "audio": "audio_mfcc_cnn"}


def public(part, seed=5):
    """A checkpoint as the public code of this part writes it, for the tiny sizes."""
    net = unusual_statistics(tiny(UNIMODAL[part], seed))
    return {name.removeprefix(f"{part}."): t.clone() for name, t in net.state_dict().items()}


def batch_norm(state, name, x):
    arguments = [state[f"{name}.{key}"] for key in ("running_mean", "running_var")]
    weights = {key: state[f"{name}.{key}"] for key in ("weight", "bias")}
    return functional.batch_norm(x, *arguments, **weights)


def public_video(state, frames, cardinality=4):
    """3D ResNeXt, shortcut B, from its names alone."""
    x = functional.conv3d(frames, state["conv1.weight"], stride=(1, 2, 2), padding=3)
    x = functional.max_pool3d(torch.relu(batch_norm(state, "bn1", x)), 3, stride=2, padding=1)
    for number in range(1, 5):
        block = f"layer{number}.0"
        stride = 1 if number == 1 else 2
        y = functional.conv3d(x, state[f"{block}.conv1.weight"])
        y = torch.relu(batch_norm(state, f"{block}.bn1", y))
        weight = state[f"{block}.conv2.weight"]
        y = functional.conv3d(y, weight, stride=stride, padding=1, groups=cardinality)
        y = torch.relu(batch_norm(state, f"{block}.bn2", y))
        y = functional.conv3d(y, state[f"{block}.conv3.weight"])
        y = batch_norm(state, f"{block}.bn3", y)
        x = functional.conv3d(x, state[f"{block}.downsample.0.weight"], stride=stride)
        x = torch.relu(y + batch_norm(state, f"{block}.downsample.1", x))
    x = x.flatten(2).mean(dim=2)
    return x @ state["fc.weight"].T + state["fc.bias"]


def public_audio(state, mfcc):
    def convolved(x, number):
        weight, bias = (state[f"conv{number}.{key}"] for key in ("weight", "bias"))
        return torch.relu(functional.conv1d(x, weight, bias, padding=2))

    x = batch_norm(state, "bn1", convolved(mfcc, 1))
    x = batch_norm(state, "bn2", functional.max_pool1d(convolved(x, 2), 8))
    x = batch_norm(state, "bn3", convolved(x, 3))
    return x.flatten(1) @ state["fc1.weight"].T + state["fc1.bias"]


@pytest.mark.parametrize("part", ["video", "audio"])
def test_unimodal_networks_compute_what_the_public_ones_do(part):
    state = public(part)
    net = tiny(UNIMODAL[part])
    assert load_encoder(net, part, state).endswith("and its classifier")
    frames, mfcc = clips(UNIMODAL[part], 2)
    frames = frames[:, :, ::3, ::4, ::4]
    expected = public_video(state, frames) if part == "video" else public_audio(state, mfcc)
    assert expected.std() > 0.1
    torch.testing.assert_close(net.eval()(frames, mfcc), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", ["video", "audio"])
@pytest.mark.parametrize("wrapped", ["plain", "module", "state_dict", "both", "old", "deep"])
def test_wrappers_and_prefixes_come_off(part, wrapped, tmp_path):
    state = public(part)
    written = dict(state)
    if wrapped == "old":  # torch before 0.4.1 counted no batches
        written = {k: v for k, v in written.items() if not k.endswith("num_batches_tracked")}
    if wrapped in ("module", "both"):
        written = {f"module.{name}": tensor for name, tensor in written.items()}
    if wrapped in ("state_dict", "both"):
        written = {"epoch": 70, "arch": "resnext-50", "state_dict": written, "optimizer": {}}
    if wrapped == "deep":
        written = {"model": {"state_dict": {f"module.module.{k}": t for k, t in written.items()}}}
    torch.save(written, tmp_path / "public.pth")
    net = tiny(UNIMODAL[part])
    load_encoder(net, part, public_state(read_data(tmp_path / "public.pth")))
    for name, tensor in getattr(net, part).state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, state[name])


def test_safetensors_are_read(tmp_path):
    state = public("audio")
    save_file(state, tmp_path / "public.safetensors")
    read = public_state(read_data(tmp_path / "public.safetensors"))
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


@pytest.mark.parametrize("name", [n for n in model.NAMES if len(model.inputs(n)) == 2])
@pytest.mark.parametrize("part", ["video", "audio"])
def test_every_fusion_takes_the_weights_of_both_encoders(name, part):
    net = tiny(name)
    load_encoder(net, part, public(part))
    for key, tensor in public(part).items():
        if not key.startswith("fc"):
            (own,) = [t for k, t in net.state_dict().items() if k.endswith(f"{part}.{key}")]
            assert torch.equal(own, tensor)


def test_a_classifier_of_another_size_is_left_out_and_said():
    state = public("video")
    state["fc.weight"], state["fc.bias"] = torch.zeros(400, 96), torch.zeros(400)
    net = tiny("video_resnext50")
    before = net.fc.weight.clone()
    said = load_encoder(net, "video", state)
    assert "classifier (weight 400x96, bias 400) is left out, the network's is weight 8x96" in said
    assert torch.equal(net.fc.weight, before)
    assert torch.equal(net.video.conv1.weight, state["conv1.weight"])


def test_a_fused_networks_own_classifier_is_kept_and_said():
    net = tiny("cfn_sr")
    before = net.head.weight.clone()
    said = load_encoder(net, "audio", public("audio"))
    assert "classifier (weight 8x832, bias 8) is left out, the network has another" in said
    assert torch.equal(net.head.weight, before)


def test_late_fusions_take_the_classifier_too():
    net = tiny("averaging")
    load_encoder(net, "audio", public("audio"))
    assert torch.equal(net.audio.fc1.weight, public("audio")["fc1.weight"])


def test_a_file_without_a_classifier_is_said():
    state = {k: v for k, v in public("audio").items() if not k.startswith("fc1")}
    assert "no classifier in the file" in load_encoder(tiny("averaging"), "audio", state)


def change(state, **changes):
    return {**state, **changes}


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "bn2.weight"}, "missing: bn2.weight"),
        (lambda s: change(s, conv4=torch.zeros(3)), "unexpected: conv4"),
        (
            lambda s: change(s, **{"conv1.weight": torch.zeros(32, 40, 7)}),
            r"of another shape: conv1.weight \(32x40x7, expected 32x13x7\)",
        ),
        (
            lambda s: change(s, **{"conv3.bias": torch.full((32,), float("nan"))}),
            "not finite: conv3.bias",
        ),
        (
            lambda s: change(s, **{"bn1.running_var": torch.full((32,), -1.0)}),
            "below 0: bn1.running_var",
        ),
        (
            lambda s: change(s, **{"bn1.weight": torch.full((32,), 1e300, dtype=torch.float64)}),
            "not finite: bn1.weight",
        ),
        (
            lambda s: change(s, **{"fc1.bias": torch.full((8,), float("inf"))}),
            "not finite: bias",
        ),
        (lambda s: change(s, big=torch.zeros(1).expand(10**13)), "unexpected: big"),
        (lambda s: change(s, **{"a\n\x1b[31m" * 99: torch.zeros(1)}), r"unexpected: a\\n"),
        (lambda s: {f"x.{k}": v for k, v in s.items()}, "missing: conv1.weight.* and 13 more"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_loaded(spoil, named):
    net = tiny("audio_mfcc_cnn")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsError, match=f"does not fit the audio encoder: .*{named}"):
        load_encoder(net, "audio", spoil(public("audio")))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(("name", "part"), [("audio_mfcc_cnn", "video"), ("erann", "audio")])
def test_a_network_without_the_encoder_is_refused(name, part):
    with pytest.raises(WeightsError, match=f"has no {part} encoder"):
        load_encoder(tiny(name), part, public(part))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ([1, 2], "holds list, expected tensors by name"),
        ({}, "holds dict, expected tensors by name"),
        ({"state_dict": {"a": torch.zeros(1), "epoch": 3}}, "found also epoch"),
        ({3: torch.zeros(1)}, "found also 3"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "found also a"),
        ({"a": torch.zeros(2, device="meta")}, "found also a"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "found also a"),
        ({"a": torch.zeros(2), "module.a": torch.zeros(2)}, "two tensors that are named a"),
    ],
)
def test_what_is_not_tensors_by_name_is_refused(data, problem):
    with pytest.raises(WeightsError, match=problem):
        public_state(data)


class Dangerous:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of the file was run')",)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "code.pth",
            pickle.dumps(Dangerous(), protocol=2),
            "holds more than data, .* refused",
        ),
        ("text.pth", b"hello", r"damaged \(KeyError: 101\)$"),
        ("junk.pt", b"junk", "damaged"),
        ("empty.pth", b"", "damaged"),
        ("text.safetensors", b"hello", "damaged"),
        ("empty.safetensors", b"", "damaged"),
        ("TEXT.SAFETENSORS", b"hello", "damaged"),
        ("huge.safetensors", struct.pack("<Q", 2**62) + b"{}", "damaged"),
    ],
)
def test_damaged_and_dangerous_files_are_refused(name, content, problem, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=problem):
        read_data(tmp_path / name)


def test_a_checkpoint_cut_short_is_refused(tmp_path):
    torch.save(public("audio"), tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    for size in range(0, len(content), len(content) // 20):
        (tmp_path / "cut.pth").write_bytes(content[:size])
        with pytest.raises(WeightsError):
            read_data(tmp_path / "cut.pth")


def test_a_torchscript_file_is_refused_without_torchs_advice(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
        torch.jit.save(traced, tmp_path / "s.pt")
    with pytest.raises(WeightsError, match="holds more than data, or is damaged: refused") as info:
        read_data(tmp_path / "s.pt")
    assert "weights_only" not in str(info.value)


def test_flipped_bytes_never_end_in_anything_but_a_clear_error(tmp_path):
    torch.save({"conv": torch.zeros(3), "name": "x"}, tmp_path / "whole.pth")
    torch.save({"conv": torch.zeros(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    random = np.random.default_rng(0)
    for name in ("whole.pth", "old.pth"):
        content = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        for _ in range(150):
            changed = content.copy()
            changed[random.integers(0, min(600, len(content)), 3)] = random.integers(0, 256, 3)
            (tmp_path / "changed.pth").write_bytes(changed.tobytes())
            with contextlib.suppress(WeightsError):
                read_data(tmp_path / "changed.pth")
