"""Public checkpoints: read under any wrapper, checked by name, computed as their own code does."""

import contextlib
import pickle
import struct
import warnings

import numpy as np
import pytest
import torch
from networks import FUSIONS, clips, tiny, unusual_statistics
from safetensors.torch import save_file
from torch.nn import functional

from model.weights import PARTS, WeightsError, load_encoder, public_state, read_data

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
    """3D ResNeXt, shortcut B, from its names only."""
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
    return x.flatten(2).mean(dim=2) @ state["fc.weight"].T + state["fc.bias"]


def public_audio(state, mfcc):
    def convolved(x, number):
        weight, bias = (state[f"conv{number}.{key}"] for key in ("weight", "bias"))
        return torch.relu(functional.conv1d(x, weight, bias, padding=2))

    x = batch_norm(state, "bn1", convolved(mfcc, 1))
    x = batch_norm(state, "bn2", functional.max_pool1d(convolved(x, 2), 8))
    x = batch_norm(state, "bn3", convolved(x, 3))
    return x.flatten(1) @ state["fc1.weight"].T + state["fc1.bias"]


@pytest.mark.parametrize("part", PARTS)
def test_unimodal_networks_compute_what_the_public_ones_do(part):
    state, net = public(part), tiny(UNIMODAL[part])
    assert load_encoder(net, part, state).endswith("and its classifier")
    frames, mfcc = clips(UNIMODAL[part], 2)
    frames = 4 * frames  # noise of deviation 1 again
    expected = public_video(state, frames) if part == "video" else public_audio(state, mfcc)
    assert expected.std() > 0.1
    torch.testing.assert_close(net(frames, mfcc), expected, rtol=1e-5, atol=1e-5)


WRAPPERS = {
    "plain": lambda state: state,
    "module": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "script": lambda state: {"epoch": 70, "arch": "x", "state_dict": state, "optimizer": {}},
    "deep": lambda state: {
        "model": {"state_dict": {f"module.module.{k}": state[k] for k in state}}
    },
    # torch before 0.4.1 counted no batches
    "old": lambda state: {k: t for k, t in state.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("wrapped", [*WRAPPERS, "safetensors"])
def test_wrappers_and_prefixes_are_taken_off(wrapped, tmp_path):
    state, net = public("audio"), tiny(UNIMODAL["audio"])
    if wrapped == "safetensors":
        save_file(state, path := tmp_path / "public.safetensors")
    else:
        torch.save(WRAPPERS[wrapped](state), path := tmp_path / "public.pth")
    load_encoder(net, "audio", public_state(read_data(path)))
    for name, tensor in net.audio.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, state[name])


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("part", PARTS)
def test_every_fusion_takes_the_weights_of_both_encoders(name, part):
    net, state = tiny(name), public(part)
    load_encoder(net, part, state)
    for key, tensor in state.items():
        if not key.startswith("fc"):
            (own,) = [t for k, t in net.state_dict().items() if k.endswith(f"{part}.{key}")]
            assert torch.equal(own, tensor)


def test_what_becomes_of_the_classifier_is_said():
    state = public("video")
    state["fc.weight"], state["fc.bias"] = torch.zeros(400, 96), torch.zeros(400)
    net = tiny("video_resnext50")
    before = net.fc.weight.clone()
    said = load_encoder(net, "video", state)
    assert "classifier (weight 400x96, bias 400) is skipped, since the network" in said
    assert torch.equal(net.fc.weight, before)
    assert torch.equal(net.video.conv1.weight, state["conv1.weight"])

    state = public("audio")
    said = load_encoder(tiny("cfn_sr"), "audio", state)
    assert "classifier (weight 8x832, bias 8) is skipped, since the network" in said
    late = tiny("averaging")
    assert load_encoder(late, "audio", state).endswith("and its classifier")
    assert torch.equal(late.audio.fc1.weight, state["fc1.weight"])
    without = {k: t for k, t in state.items() if not k.startswith("fc1")}
    assert "no classifier in the file" in load_encoder(late, "audio", without)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"bn2.weight": None}, "missing: bn2.weight"),
        ({"conv4": torch.zeros(3)}, "unexpected: conv4"),
        ({"big": torch.zeros(1).expand(10**13)}, "unexpected: big"),
        ({"a\n\x1b[31m" * 99: torch.zeros(1)}, r"unexpected: a\\n"),
        (
            {"conv1.weight": torch.zeros(32, 40, 7)},
            r"mismatched: conv1.weight \(32x40x7, expected 32x13x7\)",
        ),
        ({"conv3.bias": torch.full((32,), torch.nan)}, "NaN or Inf: conv3.bias"),
        ({"bn1.running_var": torch.full((32,), -1.0)}, "negative: bn1.running_var"),
        ({"bn1.weight": torch.full((32,), 1e300, dtype=torch.float64)}, "NaN or Inf: bn1.weight"),
        ({"fc1.bias": torch.full((8,), torch.inf)}, "NaN or Inf: bias"),
        (dict.fromkeys(public("audio")), "missing: conv1.weight.* and 13 more"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_loaded(changes, named):
    net = tiny("audio_mfcc_cnn")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = {name: t for name, t in (public("audio") | changes).items() if t is not None}
    with pytest.raises(WeightsError, match=f"does not match the audio encoder: .*{named}"):
        load_encoder(net, "audio", state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(("name", "part"), [(UNIMODAL["audio"], "video"), ("erann", "audio")])
def test_a_network_without_the_encoder_is_refused(name, part):
    with pytest.raises(WeightsError, match=f"has no {part} encoder"):
        load_encoder(tiny(name), part, public(part))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ([1, 2], "contains list, expected tensors by name"),
        ({}, "contains dict, expected tensors by name"),
        ({"state_dict": {"a": torch.zeros(1), "epoch": 3}}, "also found epoch"),
        ({3: torch.zeros(1)}, "also found 3"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "also found a"),
        ({"a": torch.zeros(2, device="meta")}, "also found a"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "also found a"),
        ({"a": torch.zeros(2), "module.a": torch.zeros(2)}, "two tensors named a"),
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
        ("code.pth", pickle.dumps(Dangerous(), protocol=2), "contains exec, expected only tensors"),
        ("text.pth", b"hello", r"damaged \(KeyError: 101\)$"),
        (
            *("numpy.pth", pickle.dumps({"lr": np.float64(1)}, protocol=2)),
            r"contains numpy\S+scalar, expected only tensors, numbers and text.* by float\(x\) or",
        ),
        ("empty.pth", b"", "damaged"),
        ("TEXT.SAFETENSORS", b"hello", "damaged"),
        ("empty.safetensors", b"", "damaged"),
        ("huge.safetensors", struct.pack("<Q", 2**62) + b"{}", "damaged"),
    ],
)
def test_damaged_and_dangerous_files_are_refused(name, content, problem, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=problem):
        read_data(tmp_path / name)


def test_a_torchscript_file_is_refused_without_torchs_advice(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
        torch.jit.save(traced, tmp_path / "s.pt")
    with pytest.raises(WeightsError, match="is compressed, as TorchScript is, so it was not load"):
        read_data(tmp_path / "s.pt")


@pytest.mark.parametrize("place", [-34, -6, -2])  # of the list in zip64, of the list, of a comment
def test_a_zip_in_which_torch_might_find_other_records_is_refused(place, tmp_path):
    torch.save({"a": torch.zeros(3)}, path := tmp_path / "a.pt")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    if place == -6:  # torch looks there if there is no zip64
        path.write_bytes(bytes(content).replace(b"PK\x06\x07", b"PK\x06\x08"))
    with pytest.raises(WeightsError, match="the zip is cut off, or was changed"):
        read_data(path)


def test_flipped_bytes_and_cut_files_never_end_in_anything_but_a_clear_error(tmp_path):
    random, path = np.random.default_rng(0), tmp_path / "changed.pth"
    for zipped in (True, False):
        torch.save({"a": torch.zeros(3), "name": "x"}, path, _use_new_zipfile_serialization=zipped)
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(150):
            changed = content.copy()
            changed[random.integers(0, min(600, len(content)), 3)] = random.integers(0, 256, 3)
            path.write_bytes(changed.tobytes())
            with contextlib.suppress(WeightsError):
                read_data(path)
        for size in range(0, len(content), len(content) // 20):
            path.write_bytes(content[:size].tobytes())
            with contextlib.suppress(WeightsError):
                read_data(path)
