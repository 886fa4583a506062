"""What a trial of somebody's optimizer measures; and which of them can be told on a device to change nothing."""

from __future__ import annotations

from typing import Any

import pytest
import timm.optim
import torch
from torch import nn

from barlowctl.train.deferred import heeds
from barlowctl.train.lars import LARS
from barlowctl.train.optim import trained_groups
from barlowctl.train.own_optimizer import Own, try_out


def groups() -> list[dict[str, Any]]:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 16))
    return trained_groups(module, lr=0.1, lr_biases=0.1, weight_decay=0.01)


@pytest.mark.parametrize(
    ("make", "arguments", "slots"),
    [
        (torch.optim.SGD, {"momentum": 0.0}, 0.0),
        (torch.optim.SGD, {"momentum": 0.9}, 1.0),
        (torch.optim.NAdam, {}, 2.0),
        (torch.optim.AdamW, {"amsgrad": True}, 3.0),
        (timm.optim.Lion, {}, 1.0),
        (timm.optim.Adan, {}, 4.0),
    ],
)
def test_what_is_kept_of_each_number_is_measured(make: Any, arguments: dict[str, Any], slots: float) -> None:
    trained = groups()
    before = torch.get_rng_state()
    trial = try_out(Own("x", make, {"lr": 0.1, **arguments}), trained)
    assert torch.equal(torch.get_rng_state(), before)
    assert trial.slots == slots
    assert trial.heeds_rate


class Longer(torch.optim.AdamW):
    """Takes another step than its parent, whose fused form it inherits."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class OtherLARS(LARS):
    def update(self, group: dict[str, Any]) -> None:
        """Nothing."""


class Heeding(torch.optim.NAdam):
    found_inf = None


def test_a_subclass_does_not_inherit_that_it_heeds_a_step_that_must_not_count() -> None:
    assert heeds(torch.optim.AdamW(groups()))
    assert heeds(LARS(groups(), lr=0.1))
    assert heeds(Heeding(groups()))
    assert not heeds(Longer(groups()))
    assert not heeds(OtherLARS(groups(), lr=0.1))
    assert not heeds(torch.optim.NAdam(groups()))
