"""Layer norms with results in bf16 against float64, which norms they are, and where they are torch's own."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import timm
import torch
from timm.layers.norm import LayerNorm, LayerNorm2d
from torch import Tensor, nn

from barlowctl.model import choose_attention
from barlowctl.model.cpu import fused_layer_norm
from barlowctl.model.cpu.fused_blocks import choose_norms, prepare_norms
from barlowctl.model.cpu.fused_layer_norm import ROUNDED, choose_layer_norms, normalize

pytestmark = pytest.mark.usefixtures("one_thread")
CPU, BF16 = torch.device("cpu"), torch.bfloat16


def assert_rounded_once(made: Tensor, true: Tensor, dtype: torch.dtype) -> None:
    """Within one rounding, and the rounding of float32 sums where terms cancel."""
    step = 2.0**-8 if dtype == BF16 else 2.0**-20
    assert made.dtype == dtype
    assert ((made.double() - true).abs() <= true.abs() * step + 2e-6 * true.abs().max()).all()


@pytest.mark.parametrize("dtype", [BF16, torch.float32])
@pytest.mark.parametrize("shape", [(3, 5), (3, 7, 40), (2, 5, 5, 192), (5000, 33)])
def test_it_is_the_layer_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    width = shape[-1]
    x = (3 * torch.randn(shape) + 5).to(dtype).requires_grad_()
    weight, bias = torch.randn(width, requires_grad=True), torch.randn(width, requires_grad=True)
    grad = torch.randn(shape).to(BF16)
    y = normalize(x, weight, bias, 1e-3)
    y.backward(grad)
    exact = [part.detach().double().requires_grad_() for part in (x, weight, bias)]
    true = nn.functional.layer_norm(exact[0], (width,), *exact[1:], 1e-3)
    true.backward(grad.double())
    assert_rounded_once(y.detach(), true.detach(), BF16)
    for made, of, kind in zip((x, weight, bias), exact, (dtype, torch.float32, torch.float32), strict=True):
        assert made.grad is not None
        assert of.grad is not None
        assert_rounded_once(made.grad, of.grad, kind)


def test_it_is_the_same_to_the_bit_on_any_number_of_threads() -> None:
    x, grad = (torch.randn(1000, 48, generator=torch.Generator().manual_seed(seed)) for seed in range(2))
    made = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        parts = [x.clone().requires_grad_(), torch.ones(48, requires_grad=True), torch.zeros(48, requires_grad=True)]
        y = normalize(*parts, 1e-6)
        y.backward(grad.to(BF16))
        made.append([y.detach(), *(part.grad for part in parts)])
    for one, several in zip(*made, strict=True):
        assert torch.equal(one, several)


def test_what_is_no_number_stays_in_its_row() -> None:
    x = torch.randn(100, 32)
    x[70, 3] = torch.nan
    x.requires_grad_()
    weight = torch.ones(32, requires_grad=True)
    y = normalize(x, weight, torch.zeros(32), 1e-6)
    y.sum().backward()
    assert x.grad is not None
    for made in (y, x.grad):
        assert made[70].isnan().all()
        assert made.isnan().sum() == 32
    assert weight.grad is not None
    assert weight.grad.isnan().all()


@pytest.mark.parametrize(
    ("name", "args", "chosen"),
    [
        ("test_vit", {"depth": 1}, {"blocks.0.norm1", "blocks.0.norm2"}),
        ("eva02_tiny_patch14_224", {"depth": 1}, {"blocks.0.norm1", "blocks.0.norm2"}),
        ("vit_small_patch16_dinov3", {"depth": 1}, {"blocks.0.norm1", "blocks.0.norm2"}),
        (
            "convnext_atto",
            {"depths": (1, 1, 1, 1)},
            {f"stages.{n}.blocks.0.norm" for n in range(4)} | {f"stages.{n}.downsample.0" for n in range(1, 4)},
        ),
        (
            "convnext_tiny",
            {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)},
            {f"stages.{n}.blocks.0.norm" for n in range(4)} | {f"stages.{n}.downsample.0" for n in range(1, 4)},
        ),
        ("swin_tiny_patch4_window7_224", {}, set()),
    ],
)
def test_those_are_chosen_that_a_product_follows(name: str, args: dict[str, Any], chosen: set[str]) -> None:
    """Not what a residual branch begins with, what is pooled, nor the network's last one."""
    network = timm.create_model(name, num_classes=0, **args)
    names = list(network.state_dict())
    choose_attention(network, CPU)
    choose_norms(network, CPU)
    assert {path for path, part in network.named_modules() if type(part) in ROUNDED.values()} == chosen
    assert list(network.state_dict()) == names


def test_a_networks_own_sequences_count_too() -> None:
    network = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), LayerNorm(8))
    choose_norms(network, CPU)
    assert [type(part) in ROUNDED.values() for part in network] == [True, False, False, False, False]


@pytest.mark.parametrize(
    "kind",
    [
        "as it is", "float32 maps", "evaluation", "float32", "fp16", "contiguous", "float64", "a hook", "no bias",
        "bf16 weight", "two sides",
    ],
)  # fmt: skip
@pytest.mark.parametrize("of_maps", [True, False])
def test_where_it_is_torchs_own(of_maps: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if of_maps and kind == "two sides":
        pytest.skip("timm's is of channels")
    bias = kind != "no bias"
    norm: nn.LayerNorm = LayerNorm2d(16, bias=bias) if of_maps else nn.LayerNorm(16, bias=bias)
    if kind == "two sides":
        norm = nn.LayerNorm((5, 16))
    choose_layer_norms(nn.Sequential(norm, nn.Conv2d(16, 4, 1)).train(kind != "evaluation"))
    if kind == "a hook":
        norm.register_forward_hook(lambda module, inputs, output: None)
    if kind == "bf16 weight":
        norm.weight = nn.Parameter(norm.weight.detach().to(BF16))
    x = torch.randn(2, 4, 5, 16)
    x = x.permute(0, 3, 1, 2) if of_maps else x
    if kind == "contiguous":
        x = x.contiguous() if of_maps else x.transpose(0, 1)
    x = x.double() if kind == "float64" else x if "float32" in kind else x.to(BF16)
    calls: list[torch.Size] = []
    ours = fused_layer_norm.normalize

    def counted(rows: Tensor, *rest: Any) -> Tensor:
        calls.append(rows.shape)
        return ours(rows, *rest)

    monkeypatch.setattr(fused_layer_norm, "normalize", counted)
    refused = (
        pytest.raises(RuntimeError, match=r"dtype|scalar type") if kind in ("float64", "bf16 weight") else nullcontext()
    )
    with (
        torch.autocast("cpu", torch.float16 if kind == "fp16" else BF16, enabled=kind != "float32"),
        refused,
    ):  # torch's
        out = norm(x)
        assert out.shape == x.shape
        assert out.dtype == (BF16 if calls else x.dtype)
    assert calls == ([torch.Size((2, 4, 5, 16))] if kind in ("as it is", "float32 maps") else [])


@pytest.mark.parametrize("name", ["test_vit", "test_convnext3"])
def test_a_networks_gradient_is_torchs_up_to_rounding(name: str) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=0).train().to(memory_format=torch.channels_last)
    ours = copy.deepcopy(theirs)
    choose_norms(ours, CPU)
    side = theirs.default_cfg["input_size"][-1]
    x = torch.randn(4, 3, side, side).to(memory_format=torch.channels_last)
    gradients = []
    for network in (theirs, ours):
        with torch.autocast("cpu", dtype=BF16):
            network(x).float().square().mean().backward()
        gradients.append(torch.cat([part.grad.flatten() for part in network.parameters() if part.grad is not None]))
    assert (gradients[0] - gradients[1]).norm() < 0.03 * gradients[0].norm()


def test_kernels_are_compiled_before_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.dtype] = []
    ours = fused_layer_norm.normalize

    def counted(rows: Tensor, *rest: Any) -> Tensor:
        calls.append(rows.dtype)
        return ours(rows, *rest)

    monkeypatch.setattr(fused_layer_norm, "normalize", counted)
    network = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))
    prepare_norms(network, BF16)
    assert calls == []
    choose_norms(network, CPU)
    prepare_norms(network, torch.float32)
    assert calls == []
    prepare_norms(network, BF16)
    assert sorted(map(str, calls)) == ["torch.bfloat16", "torch.float32"]
