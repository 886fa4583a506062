"""Muon against its definition in float64 and torch's own on matrices, and Adam of torch on biases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.train.muon import Muon
from barlowctl.train.optim import build_optimizer
from barlowctl.train.polar import POLYNOMIALS

STEPS = 10
MATRICES = [(6, 4), (4, 6), (5, 5), (40, 7)]


def parameters(shapes: list[tuple[int, ...]]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def run(params: list[nn.Parameter], optimizer: torch.optim.Optimizer, view: Callable[[Tensor], Tensor]) -> None:
    """Ten steps with the same gradients, `view` of them, whatever the parameters' shape."""
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        for p in params:
            p.grad = view(torch.randn(p.numel(), generator=generator)).reshape(p.shape).clone()
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (step + 1)
        optimizer.step()


def by_definition(p: Tensor, weight_decay: float, momentum: float) -> Tensor:
    """Those ten steps in float64, singular values by a decomposition."""
    p, m = p.double(), torch.zeros_like(p, dtype=torch.float64)
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        for shape in MATRICES:  # gradients are drawn one after another
            g = torch.randn(shape, generator=generator).double()
            if shape == tuple(p.shape):
                break
        m = momentum * m + (1.0 - momentum) * g
        u, s, vh = torch.linalg.svd((1.0 - momentum) * g + momentum * m, full_matrices=False)
        s = s / s.pow(8).sum().pow(1 / 8)
        for a, b, c in POLYNOMIALS:
            s = a * s + b * s**3 + c * s**5
        lr, (out, rest) = 0.01 * (step + 1), p.shape
        p = p - lr * weight_decay * p - lr * max(1.0, out / rest) ** 0.5 * (u @ s.diag() @ vh)
    return p


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_matrices_follow_the_definition(weight_decay: float) -> None:
    ours = parameters(MATRICES)
    start = [p.detach().clone() for p in ours]
    run(ours, Muon(ours, lr=0.1, weight_decay=weight_decay, momentum=0.9), lambda g: g)
    for p, before in zip(ours, start, strict=True):
        assert (p - before).abs().max() > 0.05  # it moved
        torch.testing.assert_close(p.double(), by_definition(before, weight_decay, 0.9), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [*MATRICES, (80, 120)])
def test_a_step_points_where_torchs_muon_does(shape: tuple[int, int]) -> None:
    """Whose singular values come near to 1 in another way, so that it is as long as ours within a tenth."""
    (ours,), (theirs,) = parameters([shape]), parameters([shape])
    start = ours.detach().clone()
    ours.grad = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    theirs.grad = ours.grad.clone()
    Muon([ours], lr=0.1).step()
    torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0).step()
    a, b = (ours - start).flatten(), (theirs - start).flatten()
    assert torch.cosine_similarity(a, b, dim=0) > 0.96
    assert 0.9 < a.norm() / b.norm() < 1.3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_is_the_matrix_of_its_filters(layout: torch.memory_format) -> None:
    """Whatever its layout in memory."""
    (matrix,) = parameters([(6, 2 * 3 * 3)])
    conv = nn.Parameter(matrix.detach().clone().reshape(6, 2, 3, 3).contiguous(memory_format=layout))
    run([matrix], Muon([matrix], lr=0.1), lambda g: g)
    run([conv], Muon([conv], lr=0.1), lambda g: g)
    torch.testing.assert_close(conv.flatten(1), matrix, rtol=1e-6, atol=1e-6)


def test_biases_follow_torchs_adam() -> None:
    ours, theirs = parameters([(7,), ()]), parameters([(7,), ()])
    betas = (0.8, 0.95)
    run(ours, Muon(ours, lr=0.1, betas=betas, adapt=False), lambda g: g)
    run(theirs, torch.optim.Adam(theirs, lr=0.1, betas=betas), lambda g: g)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_recipes_optimizer_adapts_weights_alone() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(module, "muon", lr=0.3, lr_biases=0.1, weight_decay=0.2, momentum=0.9, betas=(0.8, 0.9))
    assert isinstance(optimizer, Muon)
    weights, biases = optimizer.param_groups
    assert (weights["adapt"], weights["lr"], weights["weight_decay"], weights["momentum"]) == (True, 0.3, 0.2, 0.9)
    assert (biases["adapt"], biases["lr"], biases["weight_decay"], biases["betas"]) == (False, 0.1, 0.0, (0.8, 0.9))


def test_vectors_and_negative_settings_are_refused() -> None:
    with pytest.raises(UserError, match="fewer than two dimensions"):
        Muon(parameters([(3,)]), lr=0.1)
    with pytest.raises(UserError, match=r"momentum is -1\.0"):
        Muon(parameters([(3, 3)]), lr=0.1, momentum=-1.0)
