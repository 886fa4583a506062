"""Memory of tensors, counted while operations run."""

from __future__ import annotations

import torch

from barlowctl.assemble.allocations import Allocations

FLOATS = 1000
BYTES = 4 * FLOATS


def test_what_is_held_at_most_is_counted_and_views_are_not() -> None:
    given = torch.ones(FLOATS)
    with Allocations() as counted:
        made = given + 1
        assert counted.held == BYTES
        made.mul_(2)
        view = made.view(10, -1).T
        given.view(2, -1)
        assert counted.held == BYTES
        (made + 1) + 1  # two more at a time
        assert (counted.held, counted.peak) == (BYTES, 3 * BYTES)
        del made
        assert counted.held == BYTES  # the view needs it
        del view
        assert counted.held == 0
    given + 1
    assert counted.peak == 3 * BYTES


def test_what_the_backward_pass_needs_is_held_until_then() -> None:
    weight = torch.ones(FLOATS, requires_grad=True)
    with Allocations() as counted:
        (weight.exp().exp().sum()).backward()
    assert weight.grad is not None
    assert counted.held == BYTES  # the gradient
    assert 3 * BYTES <= counted.peak <= 5 * BYTES
