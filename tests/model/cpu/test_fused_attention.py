"""Attention head by head in bf16, against float64: values, gradients, what is no number, and where it is taken.

Its kernels are right on every processor; where they are taken is asked apart from it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from timm.layers.attention import AttentionRope
from torch import Tensor, nn

from barlowctl.kernels import thread_team
from barlowctl.model import build_backbone, prepare_attention
from barlowctl.model.attention import choose_attention
from barlowctl.model.cpu import fused_attention
from barlowctl.model.cpu.fused_attention import FUSED, FusedAttention, attend

CPU, BF16 = torch.device("cpu"), torch.bfloat16
pytestmark = pytest.mark.usefixtures("one_thread", "multiplies_bf16")


class Heads(NamedTuple):
    images: int
    heads: int
    patches: int
    width: int


SHAPES = [
    Heads(2, 3, 197, 64),
    Heads(3, 2, 5, 32),  # fewer than a block of 32
    Heads(1, 1, 1, 32),
    Heads(1, 2, 64, 96),  # whole blocks
    Heads(2, 1, 300, 32),  # more rows than are kept for the gradients of keys at a time
    Heads(1, 1, 513, 128),
]


def drawn(heads: Heads, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """q, k and v as one Linear gives them, (images, patches, 3, heads, width), and the gradient of the result."""
    generator = torch.Generator().manual_seed(sum(heads))
    n, h, patches, width = heads
    qkv = scale * torch.randn(n, patches, 3, h, width, generator=generator)
    return qkv.to(BF16), torch.randn(n, patches, h, width, generator=generator).to(BF16)


def formula(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return (scale * q @ k.transpose(-2, -1)).softmax(-1) @ v


def results(attention: Any, qkv: Tensor, grad: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    qkv = qkv.detach().requires_grad_()
    out = attention(*qkv.permute(2, 0, 3, 1, 4).unbind(0), scale)
    out.backward(grad.to(qkv.dtype).transpose(1, 2))
    assert qkv.grad is not None
    return out.detach(), qkv.grad


def difference(made: Tensor, true: Tensor) -> float:
    return ((made.double() - true).norm() / true.norm()).item()


@pytest.mark.parametrize("heads", SHAPES, ids=str)
def test_it_is_the_formula(heads: Heads) -> None:
    """Of q, k, v and gradients by themselves: what is written is rounded once, and shares of the softmax before."""
    qkv, grad = drawn(heads)
    scale = heads.width**-0.5
    (out, of_qkv), (true, of_true) = results(attend, qkv, grad, scale), results(formula, qkv.double(), grad, scale)
    assert (out.shape, out.dtype) == (true.shape, BF16)
    assert difference(out, true) < 2**-8.5
    for which in range(3):
        exact = of_true[:, :, which]
        if heads.patches > 1 or which == 2:
            assert difference(of_qkv[:, :, which], exact) < 2**-7
        else:
            assert bool((of_qkv[:, :, which].abs() < 1e-2).all())  # the only share is 1, whatever q and k are


@pytest.mark.parametrize("heads", SHAPES, ids=str)
def test_a_thread_stays_in_its_room(heads: Heads, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[tuple[np.ndarray, int]] = []

    def take(size: int) -> list[int]:
        rooms.append((np.full(size + 2**20, 171, np.uint8), size))
        return [rooms[-1][0].ctypes.data]

    monkeypatch.setattr(fused_attention.scratchpad, "take", take)
    results(attend, *drawn(heads), 0.2)
    assert len(rooms) == 2
    assert all(bool((memory[size:] == 171).all()) for memory, size in rooms)


def test_it_is_as_exact_as_torchs() -> None:
    qkv, grad = drawn(Heads(2, 3, 197, 64))

    def torchs(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)

    true = results(formula, qkv.double(), grad, 0.2)
    ours, theirs = results(attend, qkv, grad, 0.2), results(torchs, qkv, grad, 0.2)
    for made, other, exact in zip(ours, theirs, true, strict=True):
        assert difference(made, exact) < 1.1 * difference(other, exact)


@pytest.mark.parametrize("factor", [0.0, 1e-3, 20.0])
def test_products_may_be_alike_or_far_apart(factor: float) -> None:
    """All 0, so that each patch has the same share; or so large that one has all: no power of 2 overflows."""
    qkv, grad = drawn(Heads(1, 2, 70, 32))
    qkv[:, :, :2] *= factor
    (out, of_qkv), (true, of_true) = results(attend, qkv, grad, 1.0), results(formula, qkv.double(), grad, 1.0)
    assert difference(out, true) < 2**-8
    assert difference(of_qkv[:, :, 2], of_true[:, :, 2]) < 2**-8
    assert bool(of_qkv.isfinite().all())


def test_sums_of_a_softmax_are_float32s() -> None:
    """Their logarithms, from which the backward pass has its shares."""
    qkv, _ = drawn(Heads(1, 2, 70, 32))
    q, k, v = qkv.requires_grad_().permute(2, 0, 3, 1, 4).unbind(0)
    out = attend(q, k, v, 0.2)
    *_, sums = out.grad_fn.saved_tensors  # type: ignore[union-attr]
    exact = (0.2 * q.double() @ k.double().transpose(-2, -1)).logsumexp(-1) / math.log(2)
    torch.testing.assert_close(sums.double(), exact, rtol=1e-6, atol=1e-5)


def test_all_products_may_be_far_below_0() -> None:
    """2^-sum is beyond float32 then, and must not be taken behind the last patch, where products are 0."""
    qkv, grad = drawn(Heads(1, 1, 70, 32), scale=0.05)
    qkv[:, :, 0] += 5.0
    qkv[:, :, 1] -= 5.0
    (out, of_qkv), (true, of_true) = results(attend, qkv, grad, 1.0), results(formula, qkv.double(), grad, 1.0)
    assert difference(out, true) < 2**-8
    assert bool(of_qkv.isfinite().all())
    assert difference(of_qkv[:, :, 2], of_true[:, :, 2]) < 2**-8


def test_rows_may_lie_anywhere() -> None:
    """q, k, v and the gradient by themselves, with other steps, and with numbers that do not follow one another."""
    qkv, grad = drawn(Heads(2, 3, 50, 32))
    expected, of_expected = results(attend, qkv, grad, 0.1)
    q, k, v = (part.contiguous() for part in qkv.permute(2, 0, 3, 1, 4).unbind(0))
    k = k.transpose(-2, -1).contiguous().transpose(-2, -1)
    parts = [part.detach().requires_grad_() for part in (q, k, v)]
    out = attend(*parts, 0.1)  # type: ignore[call-arg]
    out.backward(grad.transpose(1, 2).transpose(-2, -1).contiguous().transpose(-2, -1))
    assert torch.equal(out, expected)
    for part, exact in zip(parts, of_expected.permute(2, 0, 3, 1, 4).unbind(0), strict=True):
        assert part.grad is not None
        assert torch.equal(part.grad, exact)


class _Seen(nn.Module):
    """What attention has of one tensor of q, k and v, and the gradients that come back."""

    def __init__(self, changed: str) -> None:
        super().__init__()
        self.changed = changed

    def forward(self, qkv: Tensor) -> Tensor:
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.changed == "normalised":
            q = 2 * q
        elif self.changed == "shared":
            v = v + k
        return nn.functional.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize("changed", ["nothing", "normalised", "shared"])
def test_gradients_of_q_k_and_v_are_put_together(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they were written, without a copy, where nothing lies between; the same numbers else."""
    copies: list[int] = []
    stack = torch.stack

    def counted(parts: Any, dim: int = 0) -> Tensor:
        copies.append(len(parts))
        return stack(parts, dim)

    qkv, grad = drawn(Heads(2, 3, 40, 32))
    made = []
    for unbound in (True, False):
        x = qkv.detach().requires_grad_()
        if not unbound:
            monkeypatch.setattr(fused_attention, "_holds_rows_of_all", lambda x: False)
        monkeypatch.setattr(torch, "stack", counted)
        with fused_attention._Ours():
            out = _Seen(changed)(x)
        out.backward(grad.transpose(1, 2))
        monkeypatch.setattr(torch, "stack", stack)
        made.append(x.grad)
    assert made[0] is not None
    assert torch.equal(*made)
    assert copies == ([] if changed == "nothing" else [3])


@pytest.mark.parametrize("order", [[2, 1, 0], [0, 0, 0], [0, 2, 1], [0, 1, 2]])
def test_parts_in_one_are_in_their_order(order: list[int]) -> None:
    """However they lie in one memory."""
    x = torch.randn(3, 2, 4)
    parts = [x[number] for number in order]
    assert torch.equal(fused_attention._in_one(parts), torch.stack(parts))


def test_results_are_the_same_on_any_number_of_threads() -> None:
    if thread_team.address() is None:
        pytest.skip("torch has threads of its own")
    qkv, grad = drawn(Heads(3, 3, 100, 32))
    alone = results(attend, qkv, grad, 0.2)
    torch.set_num_threads(3)
    for made, expected in zip(results(attend, qkv, grad, 0.2), alone, strict=True):
        assert torch.equal(made, expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_so_where_it_is_seen(value: float) -> None:
    qkv, grad = drawn(Heads(2, 2, 40, 32))
    qkv[1, 7, 0, 1, 3] = value  # a query: of its row alone, in its head
    out, of_qkv = results(attend, qkv, grad, 1.0)
    seen = torch.zeros(2, 2, 40, dtype=torch.bool)
    seen[1, 1, 7] = True
    assert torch.equal(out.isnan().all(-1), seen)
    assert torch.equal(out.isnan().any(-1), seen)
    assert bool(of_qkv[1, :, 1:, 1].isnan().any())
    assert bool(of_qkv[0].isfinite().all())


def test_there_is_no_gradient_of_the_gradient() -> None:
    qkv, _ = drawn(Heads(1, 1, 8, 32))
    q = qkv[:, :, 0].transpose(1, 2).requires_grad_()
    (grad,) = torch.autograd.grad(attend(q, q, q, 1.0).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


# ---- where it is taken ------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What scale our kernel is called with, on any processor; it gives what torch's does."""
    made: list[float] = []
    torchs = nn.functional.scaled_dot_product_attention

    def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        made.append(scale)
        return torchs(q, k, v, scale=scale)

    monkeypatch.setattr(fused_attention, "is_usable", lambda: True)
    monkeypatch.setattr("barlowctl.model.attention.is_usable", lambda: True)
    monkeypatch.setattr(fused_attention, "attend", attend)
    return made


def transformer(**arguments: Any) -> nn.Module:
    small = {"embed_dim": 64, "depth": 2, "num_heads": 2, "img_size": 16, "patch_size": 4, "in_chans": 1}
    return build_backbone("vit_tiny_patch16_224", **(small | arguments))


@pytest.mark.parametrize(
    "changed",
    ["nothing", "evaluation", "fp32", "dropout", "heads", "no team", "qk_norm", "processor", "device", "compiled"],
)
def test_where_attention_takes_it(changed: str, calls: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {
        "dropout": {"attn_drop_rate": 0.1},
        "heads": {"num_heads": 4},
        "qk_norm": {"qk_norm": True},
    }.get(changed, {})
    network = transformer(**arguments)
    names = list(network.state_dict())
    if changed == "processor":
        monkeypatch.setattr("barlowctl.model.attention.is_usable", lambda: False)
    choose_attention(network, torch.device("cuda" if changed == "device" else "cpu"))
    assert list(network.state_dict()) == names
    ours = changed not in ("heads", "processor", "device")
    assert [type(part) for part in network.modules() if hasattr(part, "fused_attn")] == [
        FusedAttention if ours else next(iter(FUSED))
    ] * 2
    if changed == "no team":
        monkeypatch.setattr(thread_team, "address", lambda: None)
        torch.set_num_threads(2)
    if changed == "compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    network.train(changed != "evaluation")
    with torch.autocast("cpu", dtype=BF16, enabled=changed != "fp32"):
        network(torch.randn(2, 1, 16, 16))
    taken = changed in ("nothing", "evaluation", "qk_norm")
    assert calls == pytest.approx([32**-0.5] * 2 if taken else [])


def test_a_scale_is_the_callers(calls: list[float]) -> None:
    q = torch.randn(1, 2, 5, 32).to(BF16)
    with fused_attention._Ours():
        nn.functional.scaled_dot_product_attention(q, q, q, scale=0.3)
        nn.functional.scaled_dot_product_attention(q, q, q, scale=None)
    assert calls == pytest.approx([0.3, 32**-0.5])


def test_a_mask_is_torchs(calls: list[float]) -> None:
    layer = FUSED[AttentionRope](64, num_heads=2)
    x, mask = torch.randn(2, 9, 64), torch.zeros(9, 9, dtype=torch.bool).fill_diagonal_(True)
    with torch.autocast("cpu", dtype=BF16):
        masked, plain = layer(x, attn_mask=mask), layer(x)
    assert len(calls) == 1
    assert not torch.allclose(masked, plain)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224", "vit_small_patch16_dinov3"])
def test_networks_are_what_they_are_without_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As near as bf16 is, features and gradients of all parameters."""
    torch.manual_seed(0)
    side = 64 if "patch16" in name else 56
    network = build_backbone(name, in_chans=3, img_size=side, depth=2)
    images = torch.randn(2, 3, side, side)

    def step() -> tuple[Tensor, Tensor]:
        network.zero_grad()
        with torch.autocast("cpu", dtype=BF16):
            features = network(images)
        features.float().square().mean().backward()
        gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        return features.detach().float(), torch.cat(gradients)

    plain = step()
    monkeypatch.setattr("barlowctl.model.attention.is_usable", lambda: True)
    choose_attention(network, CPU)
    assert any(type(part) in FUSED.values() for part in network.modules())
    for made, expected in zip(step(), plain, strict=True):
        assert difference(made, expected.double()) < 0.03


def test_kernels_are_compiled_before_where_they_are_used(calls: list[float]) -> None:
    network = transformer()
    prepare_attention(network, "bf16")
    choose_attention(network, CPU)
    prepare_attention(network, "fp32")
    assert calls == []
    prepare_attention(network, "bf16")
    assert calls == [1.0]


def test_a_step_keeps_no_products_of_all_patches() -> None:
    """What the backward pass needs grows with the patches, not with their square."""
    saved: list[int] = []
    qkv, _ = drawn(Heads(1, 1, 1024, 32))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
        attend(*qkv.requires_grad_().permute(2, 0, 3, 1, 4).unbind(0), math.sqrt(2))  # type: ignore[call-arg]
    assert sum(saved) < 1024 * 32 * 2 * 5
