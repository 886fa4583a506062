"""What changes on the host from step to step is noticed, and what does not is left in peace."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from barlowctl.methods.host_state import changed, host_state


class Some(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(2, 2)
        self.part.scale = 1.0  # type: ignore[assignment]
        self.steps, self.widths, self.recent = 0, [1, 2], {"loss": 0.5}
        self.own, self.numpy, self.torch = random.Random(1), np.random.default_rng(1), torch.Generator()
        self.register_buffer("count", torch.zeros(()))


def add(some: Some) -> None:
    some.steps += 1


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (add, "Some.steps"),
        (lambda some: some.widths.append(3), "Some.widths"),
        (lambda some: some.recent.update(loss=0.25), "Some.recent"),
        (lambda some: setattr(some.part, "scale", 2.0), "Some.part.scale"),
        (lambda some: some.own.random(), "Some.own"),
        (lambda some: some.numpy.random(), "Some.numpy"),
        (lambda some: torch.rand(1, generator=some.torch), "Some.torch"),
        (lambda some: random.random(), "Python's random"),
        (lambda some: np.random.rand(), "numpy.random"),  # noqa: NPY002
        (lambda some: torch.rand(1), "torch's generator of the CPU"),
        (lambda some: setattr(some, "fresh", 1), "Some.fresh"),
        (lambda some: some.count.add_(1), None),
        (lambda some: some.eval(), None),
        (lambda some: some.part(torch.ones(2)).sum().backward(), None),
    ],
)
def test_what_a_step_changes_on_the_host_is_named(change: Callable[[Some], Any], name: str | None) -> None:
    some = Some()
    before = host_state(some, on_host=False)
    change(some)
    assert changed(before, host_state(some, on_host=False)) == name


def test_on_the_host_dropout_is_no_reason() -> None:
    some = Some()
    before = host_state(some, on_host=True)
    torch.rand(1)
    assert changed(before, host_state(some, on_host=True)) is None
