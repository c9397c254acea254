"""`torchrun tests/team_member.py ...`: train.py without dropout, whose draws differ by process."""

import sys

import torch
from torch import nn

import model
from train.cli import main

build = model.build


def without_dropout(*arguments: str) -> nn.Module:
    net = build(*arguments)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return net


if __name__ == "__main__":
    torch.set_num_threads(1)
    model.build = without_dropout
    sys.exit(main())
