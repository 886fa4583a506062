"""Activations by a table against float64, of every number of bfloat16, and where they are torch's own."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from timm.layers import activations as timms
from torch import Tensor, nn
from torch.nn import functional

from barlowctl.kernels import activation_table, thread_team
from barlowctl.model.cpu import tabulated_activations
from barlowctl.model.cpu.fused_blocks import choose_norms, prepare_norms
from barlowctl.model.cpu.tabulated_activations import FEWEST, TABULATED, activate

pytestmark = pytest.mark.usefixtures("one_thread", "taken")
CPU, BF16 = torch.device("cpu"), torch.bfloat16
EVERY = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(BF16)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every processor: what is looked up is the same on one whose vectors are too short for it to be fast."""
    monkeypatch.setattr(activation_table, "is_usable", lambda: True)


def gelu(x: Tensor) -> Tensor:
    return x * torch.erfc(-x / 2**0.5) / 2


def gelu_tanh(x: Tensor) -> Tensor:
    return x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


@pytest.mark.parametrize(
    ("name", "formula"), [("gelu", gelu), ("gelu tanh", gelu_tanh), ("silu", silu)], ids=["gelu", "tanh", "silu"]
)
def test_every_number_is_the_function_rounded_once(name: str, formula: Any) -> None:
    """Of numbers up to 64, from the formulas; what is not a number stays so, and nothing else becomes it."""
    x = EVERY.clone().requires_grad_()
    grad = torch.full_like(EVERY, -3.0)
    y = activate(x, name)
    y.backward(grad)
    assert x.grad is not None
    exact = EVERY.double().requires_grad_()
    true = formula(exact)
    (slopes,) = torch.autograd.grad(true.sum(), exact)
    near = EVERY.double().abs() <= 64
    assert near.sum() == 2 * (133 * 128 + 1)  # exponents up to 63.75, and 64, of both signs
    true, slopes, made, of_x = (part.detach()[near] for part in (true, slopes, y.double(), x.grad.double()))
    assert ((made - true).abs() <= true.abs() * 2.0**-8 + 1e-15).all()
    assert ((of_x + 3 * slopes).abs() <= 3 * slopes.abs() * (2.0**-8 + 2.0**-11) + 3 * 2.0**-24).all()
    assert torch.equal(y.isnan(), EVERY.isnan() | y.isnan() & EVERY.isinf())
    assert not x.grad[EVERY.isfinite()].isnan().any()
    assert x.grad[EVERY.isnan()].isnan().all()


@pytest.mark.parametrize("kind", [nn.GELU, partial(nn.GELU, approximate="tanh"), timms.GELU, timms.GELUTanh, nn.SiLU])
def test_a_layer_is_torchs_up_to_the_last_bit(kind: Any) -> None:
    torch.manual_seed(0)
    theirs, ours = kind().train(), kind().train()
    choose_norms(ours, CPU)
    assert type(ours) is TABULATED[type(theirs)]
    x, grad = (3 * torch.randn(4, 8, 16, 16)).to(BF16), torch.randn(4, 8, 16, 16).to(BF16)
    made = []
    for layer in (theirs, ours):
        own = x.clone().to(memory_format=torch.channels_last).requires_grad_()
        y = layer(own)
        assert y.is_contiguous(memory_format=torch.channels_last)
        y.backward(grad)
        made.append((y.detach(), own.grad))
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=2.0**-7, atol=1e-3)
        assert (one == other).float().mean() > 0.9


def test_it_is_the_same_to_the_bit_on_any_number_of_threads() -> None:
    made = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        x = torch.randn(100_003, generator=torch.Generator().manual_seed(0)).to(BF16).requires_grad_()
        y = activate(x, "silu")
        y.backward(x.detach())
        made.append((y.detach(), x.grad))
    for one, several in zip(*made, strict=True):
        assert torch.equal(one, several)


def test_what_is_given_stays_as_it_is() -> None:
    """Also where torch's would compute in place."""
    layer = nn.Sequential(nn.SiLU(inplace=True)).train()
    choose_norms(layer, CPU)
    leaf = torch.randn(FEWEST).to(BF16).requires_grad_()
    x = leaf * 1
    before = x.detach().clone()
    layer(x).sum().backward()
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "kind",
    ["as it is", "evaluation", "float32", "few", "no gradient", "within no_grad", "apart", "other vectors", "no team"],
)
def test_where_it_is_torchs_own(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Sequential(nn.GELU()).train(kind != "evaluation")
    choose_norms(layer, CPU)
    x = torch.randn(2 * FEWEST, dtype=torch.float32 if kind == "float32" else BF16)
    x = x[: FEWEST - 1] if kind == "few" else x[::2] if kind == "apart" else x
    x = x.detach().requires_grad_(kind != "no gradient")
    if kind == "other vectors":
        monkeypatch.setattr(activation_table, "is_usable", lambda: False)
    if kind == "no team":
        monkeypatch.setattr(thread_team, "serves", lambda: False)
    calls: list[str] = []
    ours = tabulated_activations.activate

    def counted(x: Tensor, name: str) -> Tensor:
        calls.append(name)
        return ours(x, name)

    monkeypatch.setattr(tabulated_activations, "activate", counted)
    with torch.set_grad_enabled(kind != "within no_grad"):
        y = layer(x)
    torch.testing.assert_close(y, functional.gelu(x))
    assert calls == (["gelu"] if kind == "as it is" else [])


def test_kernels_are_compiled_before_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(tabulated_activations, "activate", lambda x, name: calls.append(name) or x * 1)
    network = nn.Sequential(nn.GELU())
    prepare_norms(network, BF16)
    choose_norms(network, CPU)
    prepare_norms(network, torch.float32)
    assert calls == []
    prepare_norms(network, BF16)
    assert calls == ["gelu"]
