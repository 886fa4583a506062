"""Batch norm over ranks, seen from one: output, gradients and running statistics are torch's own.

Over several ranks: `tests/dist`.
"""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from barlowctl.distributed import ALONE
from barlowctl.model.batch_norm import GlobalBatchNorm, synchronize_batch_norm

CPU = torch.device("cpu")
NORMS = {
    "vectors": (lambda: nn.BatchNorm1d(5), (7, 5)),
    "images": (lambda: nn.BatchNorm2d(5), (3, 5, 4, 6)),
    "no affine": (lambda: nn.BatchNorm1d(5, affine=False), (7, 5)),
    "cumulative": (lambda: nn.BatchNorm2d(5, momentum=None), (3, 5, 4, 6)),
    "untracked": (lambda: nn.BatchNorm2d(5, track_running_stats=False), (3, 5, 4, 6)),
    "timm's, with its activation": (lambda: BatchNormAct2d(5), (3, 5, 4, 6)),
}


def run(norm: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = []
    for _ in range(3):
        x = (torch.randn(shape, generator=generator, dtype=torch.float64) * 2 + 10).to(dtype).requires_grad_()
        out = norm(x)
        (out * torch.arange(out.numel(), dtype=dtype).view_as(out).sin()).sum().backward()
        assert x.grad is not None
        tensors += [out.detach(), x.grad]
    tensors += [p.grad for p in norm.parameters() if p.grad is not None]
    norm.eval()
    tensors.append(norm(x).detach())
    return [*tensors, *norm.state_dict().values()]


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_it_is_torchs_batch_norm(name: str, dtype: torch.dtype, limit: float) -> None:
    make, shape = NORMS[name]
    theirs = make()
    for p in theirs.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    ours = synchronize_batch_norm(copy.deepcopy(theirs).to(dtype), ALONE, CPU)
    assert isinstance(ours, GlobalBatchNorm)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for actual, expected in zip(run(ours, shape, dtype), run(theirs.to(dtype), shape, dtype), strict=True):
        torch.testing.assert_close(actual, expected, rtol=limit, atol=limit)


def test_under_autocast_the_dtype_of_the_input_stays() -> None:
    norm = synchronize_batch_norm(nn.BatchNorm1d(4), ALONE, CPU)
    x = torch.randn(6, 4, dtype=torch.bfloat16, requires_grad=True)
    out = norm(x)
    out.sum().backward()
    assert out.dtype == torch.bfloat16
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16


def test_every_batch_norm_of_a_network_is_replaced_and_names_stay() -> None:
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.Sequential(BatchNormAct2d(5)))
    names = list(net.state_dict())
    converted = synchronize_batch_norm(net, ALONE, CPU)
    assert list(converted.state_dict()) == names
    assert sum(isinstance(module, GlobalBatchNorm) for module in converted.modules()) == 2
