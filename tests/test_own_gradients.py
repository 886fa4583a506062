"""Gradients by formulas have no gradient themselves: asking for one is refused, and asks nothing else of a step."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from barlowctl.own_gradients import once_differentiable


class Square(torch.autograd.Function):
    """x squared, whose gradient notes whether a graph was graphs for."""

    graphs: ClassVar[list[bool]] = []

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        Square.graphs.append(torch.is_grad_enabled())
        return 2 * ctx.saved_tensors[0] * grad


def test_a_gradient_is_by_the_formula() -> None:
    x = torch.tensor([1.0, -3.0], requires_grad=True)
    Square.apply(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, -6.0]
    assert not Square.graphs.pop()


def test_a_gradient_of_the_gradient_is_refused() -> None:
    x = torch.tensor([1.0, -3.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(Square.apply(x).square().sum(), x, create_graph=True)
    assert gradient.tolist() == [4.0, -108.0]
    assert not Square.graphs.pop()  # nothing of the formula is recorded
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
