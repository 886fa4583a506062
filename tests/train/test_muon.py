"""Muon against torch's own on matrices, the exact polar factor, and Adam of torch on biases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.train.muon import Muon, orthogonalize
from barlowctl.train.optim import build_optimizer

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


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_matrices_follow_torchs_muon(weight_decay: float) -> None:
    ours, theirs = parameters(MATRICES), parameters(MATRICES)
    start = [p.detach().clone() for p in ours]
    run(ours, Muon(ours, lr=0.1, weight_decay=weight_decay, momentum=0.9), lambda g: g)
    run(theirs, torch.optim.Muon(theirs, lr=0.1, weight_decay=weight_decay, momentum=0.9), lambda g: g)
    for a, b, before in zip(ours, theirs, start, strict=True):
        assert (a - before).abs().max() > 0.05  # it moved
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2)  # ten steps of bfloat16 rounding


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_is_the_matrix_of_its_filters(layout: torch.memory_format) -> None:
    """Whatever its layout in memory."""
    (matrix,) = parameters([(6, 2 * 3 * 3)])
    conv = nn.Parameter(matrix.detach().clone().reshape(6, 2, 3, 3).contiguous(memory_format=layout))
    run([matrix], Muon([matrix], lr=0.1), lambda g: g)
    run([conv], Muon([conv], lr=0.1), lambda g: g)
    torch.testing.assert_close(conv.flatten(1), matrix, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", MATRICES)
def test_orthogonalisation_keeps_the_singular_vectors(shape: tuple[int, int]) -> None:
    """Against a float64 decomposition: the same vectors, singular values near 1."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    between = u.t() @ orthogonalize(matrix).double() @ vh.t()
    values = between.diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (between - torch.diag(values)).abs().max() < 0.03


def test_orthogonalisation_does_not_depend_on_scale_and_keeps_zeros() -> None:
    matrix = torch.randn(5, 7, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(orthogonalize(1e4 * matrix), orthogonalize(matrix), rtol=0.0, atol=0.02)
    assert not orthogonalize(torch.zeros(3, 4)).any()


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
