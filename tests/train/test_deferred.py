"""Deferred steps of torch's fused SGD, whose parameters need not all have had a gradient from the first step on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from barlowctl.train.deferred import defer, step_unless

CPU, TAKEN, NOT = torch.device("cpu"), torch.zeros(()), torch.ones(())


def sgd(*values: float) -> tuple[list[nn.Parameter], torch.optim.SGD]:
    parameters = [nn.Parameter(torch.full((3,), value)) for value in values]
    return parameters, torch.optim.SGD(parameters, lr=0.5, momentum=0.9, weight_decay=0.01)


def give(parameters: list[nn.Parameter], *gradients: float | None) -> None:
    for p, gradient in zip(parameters, gradients, strict=True):
        p.grad = None if gradient is None else torch.full_like(p, gradient)


def test_a_parameter_that_was_withheld_begins_later() -> None:
    """As SwAV's prototypes do, after the epoch that they are frozen for."""
    steps: list[tuple[float, float | None]] = [(0.3, None), (-0.2, None), (0.7, 0.4), (0.1, -0.6)]
    left: list[list[Tensor]] = []
    for deferred in (True, False):
        parameters, optimizer = sgd(1.0, 2.0)
        if deferred:
            defer(optimizer, CPU)
        for number, gradients in enumerate(steps):
            give(parameters, *gradients)
            if deferred:
                step_unless(optimizer, TAKEN)
            else:
                optimizer.step()
            assert (parameters[1][0].item() == 2.0) == (number < 2)
        left.append([p.detach() for p in parameters])
    torch.testing.assert_close(left[0], left[1])


def test_momenta_begin_at_zero_where_the_first_step_changes_nothing() -> None:
    parameters, optimizer = sgd(1.0)
    defer(optimizer, CPU)
    give(parameters, float("nan"))
    step_unless(optimizer, NOT)
    assert parameters[0].tolist() == [1.0] * 3
    assert optimizer.state[parameters[0]]["momentum_buffer"].tolist() == [0.0] * 3
