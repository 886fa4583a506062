"""Squeeze-and-excitation: both passes of our kernels beside timm's and float64, and where they are taken."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from timm.layers.squeeze_excite import SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from barlowctl.kernels import thread_team
from barlowctl.model.cpu import squeeze_excitation
from barlowctl.model.cpu.fused_blocks import choose_norms, prepare_norms
from barlowctl.model.cpu.squeeze_excitation import FUSED, choose_squeeze_excitation
from barlowctl.model.one_pass import OnePass

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
KINDS = {"efficientnet": SqueezeExcite, "regnet": SEModule}


def drawn(dtype: torch.dtype, shape: tuple[int, int, int, int] = (3, 40, 7, 5)) -> tuple[Tensor, Tensor]:
    """A map and a gradient, in channels_last."""
    generator = torch.Generator().manual_seed(sum(shape))
    made = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    x, grad = (part.contiguous(memory_format=torch.channels_last) for part in made)
    return x, grad


def module_of(kind: str, channels: int = 40) -> Any:
    torch.manual_seed(channels)
    return KINDS[kind](channels)


def fused(module: nn.Module) -> Any:
    module = copy.deepcopy(module)
    choose_squeeze_excitation(module)
    assert type(module) in FUSED.values()
    return module


def results(module: nn.Module, x: Tensor, grad: Tensor) -> list[Tensor]:
    """The result, and the gradients of the map and of every parameter that has one."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        out = module(x)
    inputs = [x, *(parameter for parameter in module.parameters() if parameter.requires_grad)]
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def difference(made: Tensor, true: Tensor) -> float:
    return ((made.double() - true).norm() / true.norm()).item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(3, 40, 7, 5), (1, 24, 1, 1), (5, 96, 12, 12)], ids=str)
def test_it_is_timms(kind: str, dtype: torch.dtype, shape: tuple[int, int, int, int]) -> None:
    """As near to float64 as timm's; the gradient of the map in bf16, which is rounded once, is nearer."""
    x, grad = drawn(dtype, shape)
    module = module_of(kind, shape[1])
    true = results(copy.deepcopy(module).double(), x.double(), grad.double())
    theirs, ours = results(module, x, grad), results(fused(module), x, grad)
    for made, other, exact in zip(ours, theirs, true, strict=True):
        assert (made.dtype, made.shape) == (other.dtype, other.shape)
        assert difference(made, exact) <= 1.3 * difference(other, exact) + 2e-7
    assert ours[1].is_contiguous(memory_format=torch.channels_last)
    if dtype == torch.bfloat16 and shape[2] > 1:
        assert difference(ours[1], true[1]) < 0.9 * difference(theirs[1], true[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_that_others_take_too_has_the_sum_of_their_gradients(kind: str) -> None:
    """A residual block's, whose shortcut begins where the map does, and one with frozen gates."""
    x, grad = drawn(torch.float32)
    module = module_of(kind)
    module.requires_grad_(False)
    made = []
    for part in (module, fused(module)):
        own = x.clone(memory_format=torch.preserve_format).requires_grad_()
        (part(own) + 2 * own).backward(grad)
        made.append(own.grad)
    assert made[0] is not None
    torch.testing.assert_close(made[1], made[0], rtol=1e-5, atol=1e-6)


def test_two_passes_have_gates_of_their_own() -> None:
    """Both results of one module before either gradient."""
    module = module_of("efficientnet")
    ours = fused(module)
    maps = [drawn(torch.float32, (2, 40, 4, 4))[0], drawn(torch.float32, (2, 40, 5, 5))[0]]
    made = []
    for part in (module, ours):
        own = [x.clone(memory_format=torch.preserve_format).requires_grad_() for x in maps]
        outs = [part(x) for x in own]
        sum(out.square().sum() for out in outs).backward()
        made.append([x.grad for x in own])
    for other, gradient in zip(*made, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-6)


def test_results_are_the_same_on_any_number_of_threads() -> None:
    if thread_team.address() is None:
        pytest.skip("torch has threads of its own")
    x, grad = drawn(torch.bfloat16, (7, 40, 9, 9))
    module = fused(module_of("efficientnet"))
    alone = results(module, x, grad)
    torch.set_num_threads(3)
    for made, expected in zip(results(module, x, grad)[:2], alone[:2], strict=True):
        assert torch.equal(made, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_no_number_stays_in_its_image(dtype: torch.dtype) -> None:
    x, grad = drawn(dtype)
    x[1, 3, 2, 2] = torch.nan
    for made in results(fused(module_of("regnet")), x, grad)[:2]:
        assert bool(made[1].isnan().any())
        assert bool(made[[0, 2]].isfinite().all())


def test_there_is_no_gradient_of_the_gradient() -> None:
    x, _ = drawn(torch.float32)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(fused(module_of("efficientnet"))(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


# ---- where it is taken ------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    call = squeeze_excitation._call

    def counted(which: int, x: Tensor, **tensors: Tensor) -> None:
        made.append(which)
        call(which, x, **tensors)

    monkeypatch.setattr(squeeze_excitation, "_call", counted)
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changed", ["nothing", "evaluation", "contiguous", "no gradient", "float64", "compiled", "no team", "maximum"]
)
def test_where_our_kernels_take_it(kind: str, changed: str, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = drawn(torch.float64 if changed == "float64" else torch.float32)
    module = module_of(kind).to(x.dtype)
    if changed == "maximum":
        if kind == "efficientnet":
            pytest.skip("it has no maximum")
        module.add_maxpool = True
    ours = fused(module)
    assert list(ours.state_dict()) == list(module.state_dict())
    for part in (module, ours):
        part.train(changed != "evaluation")
    x = x.contiguous() if changed == "contiguous" else x
    if changed == "no team":
        monkeypatch.setattr(thread_team, "address", lambda: None)
        torch.set_num_threads(2)
    if changed == "compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    x.requires_grad_(changed != "no gradient")
    torch.testing.assert_close(ours(x), module(x))
    assert bool(calls) == (changed == "nothing")


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv3_small_050", "regnety_002"])
def test_networks_have_it_and_go_in_one_pass(name: str, calls: list[int]) -> None:
    network = timm.create_model(name, num_classes=0).to(memory_format=torch.channels_last)
    plain = copy.deepcopy(network).eval()
    names = list(network.state_dict())
    choose_norms(network, CPU)
    prepare_norms(network, torch.float32)
    calls.clear()
    assert list(network.state_dict()) == names
    parts = [part for part in network.modules() if isinstance(part, (SqueezeExcite, SEModule))]
    assert {type(part) for part in parts} <= set(FUSED.values())
    assert len(parts) > 5
    assert OnePass([network]).goes
    x = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    network.train()(x).sum().backward()
    assert len(calls) == 4 * len(parts)
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(network.eval()(x), plain(x))


def test_other_devices_are_left_alone() -> None:
    network = timm.create_model("mobilenetv3_small_050", num_classes=0)
    choose_norms(network, torch.device("cuda"))
    assert not any(type(part) in FUSED.values() for part in network.modules())
