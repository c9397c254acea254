"""`torchrun tests/team_member.py ...`: train.py as the tests of several processes need it.

NO_DROPOUT=1 takes dropout out, whose draws differ by process; STOP_AFTER=N asks to stop then, in
the process of rank STOP_RANK alone.
"""

import itertools
import os
import sys
from contextlib import nullcontext

import torch
from torch import nn

import model
from train import cli

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
    if os.environ.get("NO_DROPOUT"):
        model.build = without_dropout
    if os.environ.get("STOP_AFTER") and os.environ["RANK"] == os.environ["STOP_RANK"]:
        asked = itertools.count(1)
        last = int(os.environ["STOP_AFTER"])
        cli.asked_to_stop = lambda: nullcontext(lambda: next(asked) >= last)
    sys.exit(cli.main())
