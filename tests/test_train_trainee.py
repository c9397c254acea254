"""What training changes: the running mean of its weights, and which of them decay."""

import pytest
import torch
from networks import tiny
from torch import nn

from train.recipe import Recipe
from train.trainee import Trainee, make_optimizer


@pytest.mark.parametrize(
    ("decay", "kept"),
    [
        (0.99, (2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15)),  # still warming up
        (0.28, (2 / 11, 3 / 12, 0.28, 0.28, 0.28)),
    ],
)
def test_the_mean_is_of_weights_and_buffers_and_forgets_faster_at_first(decay, kept):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    trainee = Trainee.of(net, Recipe(ema=decay))
    means = {}
    for step, share in enumerate((0.0, *kept)):  # the first mean is the first weights
        for value in net.state_dict().values():
            value.copy_(torch.randn(value.shape) if value.is_floating_point() else step + 5)
        trainee.average()
        for name, value in net.state_dict().items():
            counter = not value.is_floating_point()
            before = means.get(name, value)
            means[name] = value.clone() if counter else share * before + (1 - share) * value
        found = trainee.tested.state_dict()
        assert found.keys() == means.keys()
        for name, mean in means.items():
            torch.testing.assert_close(found[name], mean, msg=f"{name} at step {step}")


def test_without_a_mean_the_network_itself_is_tested():
    net = nn.Linear(2, 3)
    trainee = Trainee.of(net, Recipe())
    trainee.average()
    assert trainee.tested is net


def test_matrices_and_kernels_decay_but_no_biases_and_norms():
    net = tiny("cfn_sr")
    names = {parameter: name for name, parameter in net.named_parameters()}
    decayed, others = make_optimizer(net, Recipe(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert len(decayed["params"]) + len(others["params"]) == len(names)
    norms = (nn.BatchNorm1d, nn.BatchNorm3d, nn.LayerNorm)
    kept = {
        f"{path}.{name}"
        for path, module in net.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, norms) or name.endswith("bias")
    }
    assert {names[parameter] for parameter in others["params"]} == kept
    assert {names[parameter] for parameter in decayed["params"]} == set(names.values()) - kept
