"""What a trial of somebody's optimizer measures; and which of them can be told on a device to change nothing."""

from __future__ import annotations

from typing import Any, ClassVar

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


class Squaring(torch.optim.SGD):
    """Multiplies every number of a parameter by every other, as Kron's factors where they are contracted in turn."""

    sizes: ClassVar[list[tuple[int, ...]]] = []

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                self.sizes.append(tuple(p.shape))
                torch.outer(p.detach().flatten(), p.detach().flatten())
        return super().step(closure)


def test_a_step_that_squares_the_numbers_of_a_parameter_is_tried_on_corners_of_large_ones() -> None:
    module = nn.Sequential(nn.Conv2d(64, 96, 3), nn.BatchNorm2d(2048), nn.Linear(512, 2048, bias=False))
    trained = trained_groups(module, lr=0.1, lr_biases=0.1, weight_decay=0.01)
    assert try_out(Own("x", Squaring, {"lr": 0.1}), trained).slots == 0.0
    assert set(Squaring.sizes) == {(12, 8, 3, 3), (32, 32), (96,)}


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
