"""What `register_optimizer` takes and refuses, before any recipe names it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import timm.optim
import torch

import barlowctl
from barlowctl.api.registering import register_optimizer
from barlowctl.recipe import load
from barlowctl.recipe.optimizers import REGISTERED
from tests.api.own_optimizers import forget


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    forget()


def with_parameters(*names: str) -> Any:
    scope: dict[str, Any] = {}
    exec(f"def made({', '.join(names)}): pass", scope)
    return scope["made"]


class Claims(torch.optim.SGD):
    elementwise = "yes"


def test_a_class_of_another_package_is_noted_by_the_file_that_registers_it() -> None:
    assert barlowctl.register_optimizer is register_optimizer
    assert register_optimizer("nadam")(torch.optim.NAdam) is torch.optim.NAdam
    keys = REGISTERED["nadam"]
    assert keys.source["module"] == __name__
    assert keys.source["file"] == __file__
    assert keys.given == ("lr", "betas", "weight_decay")
    assert keys.plain[:2] == ("eps", "momentum_decay")
    assert not keys.elementwise


def test_keys_have_its_own_types_and_defaults() -> None:
    register_optimizer("adan")(timm.optim.Adan)
    read = load.load("quickstart", ["optimizer.name=adan"]).optimizer
    assert read.betas == (0.98, 0.92, 0.99)
    assert load.load("quickstart", ["optimizer.name=adan", "optimizer.betas=[0.9,0.8,0.7]"]).optimizer.betas == (
        0.9,
        0.8,
        0.7,
    )
    with pytest.raises(barlowctl.UserError, match=r"optimizer\.betas"):
        load.load("quickstart", ["optimizer.name=adan", "optimizer.betas=[0.9,0.8]"])
    register_optimizer("adafactor")(timm.optim.Adafactor)
    without = load.load("quickstart", ["optimizer.name=adafactor"])
    assert without.optimizer.betas is None
    assert load.parse(load.dump(without)) == without


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (torch.nn.Linear, "'x' is registered as the class Linear, which is no optimizer"),
        (3, "'x' is registered as an int"),
        (torch.optim.LBFGS, "the optimizer 'x' has a step that needs a closure, which computes the loss again, "),
        (Claims, r"Claims.elementwise is 'yes', .*test_registering_optimizers.py, line 3\d"),
        (with_parameters(), "the optimizer 'x' takes no parameters to train"),
        (with_parameters("lr", "momentum"), "the optimizer 'x' takes no parameters to train"),
        (with_parameters("params", "**more"), r"the optimizer 'x' takes \*\*more: a mistyped key of optimizer.args"),
    ],
)
def test_what_is_no_optimizer_is_refused(made: Any, message: str) -> None:
    with pytest.raises(barlowctl.UserError, match=message):
        register_optimizer("x")(made)
    assert "x" not in REGISTERED


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lars", "'lars' is an optimizer of barlowctl's own, and cannot be registered"),
        ("My SGD", "an optimizer is registered as 'My SGD'"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str, message: str) -> None:
    with pytest.raises(barlowctl.UserError, match=message):
        register_optimizer(name)(torch.optim.NAdam)


def test_another_one_of_a_name_is_refused() -> None:
    register_optimizer("again")(torch.optim.NAdam)
    register_optimizer("again")(torch.optim.NAdam)
    with pytest.raises(barlowctl.UserError, match=r"'again' is registered twice: .*NAdam, .*; and .*RAdam, "):
        register_optimizer("again")(torch.optim.RAdam)
