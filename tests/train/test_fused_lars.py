"""LARS on a CPU in two passes over memory: the formula's numbers on any number of threads, and where it is not used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from barlowctl.kernels import thread_team
from barlowctl.train import fused_lars
from barlowctl.train.lars import LARS
from tests.oracles.lars import larc_trajectory, simclr_trajectory, trajectory

LAST = torch.channels_last
RATES = [0.0, 0.3, 0.2, 0.1]
SETTINGS: dict[str, Any] = {"weight_decay": 0.05, "momentum": 0.9, "eta": 0.02}
SHAPES = {
    "tiles": (300, 400), "convolution": (72, 32, 3, 3), "tile": (8192,), "more": (8193,), "row": (5,), "number": (),
    "nothing": (0, 3), "zeros": (40, 40), "still": (70, 11),
}  # fmt: skip
"""Many tiles, one in full, one value more; of which zeros starts at 0, and still has no gradient but decay."""


@pytest.fixture(autouse=True)
def number_of_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def start(name: str) -> np.ndarray:
    random = np.random.default_rng(len(name))
    return np.zeros(SHAPES[name]) if name == "zeros" else np.asarray(random.normal(size=SHAPES[name]))


def gradient(name: str, step: int) -> np.ndarray:
    still = name == "still" or (name == "zeros" and step == 0)
    return np.zeros(SHAPES[name]) if still else np.random.default_rng([step, len(name)]).normal(size=SHAPES[name])


def float32(values: np.ndarray) -> Tensor:
    tensor = torch.tensor(values, dtype=torch.float32)
    return tensor.contiguous(memory_format=LAST) if tensor.ndim == 4 else tensor


def trained(threads: int = 1, **options: Any) -> dict[str, np.ndarray]:
    """The parameters after a step at each of RATES."""
    torch.set_num_threads(threads)
    parameters = {name: nn.Parameter(float32(start(name))) for name in SHAPES}
    optimizer = LARS(parameters.values(), lr=1.0, **SETTINGS, **options)
    for step, rate in enumerate(RATES):
        optimizer.param_groups[0]["lr"] = rate
        for name, p in parameters.items():
            p.grad = float32(gradient(name, step))
        optimizer.step()
    return {name: p.detach().double().numpy() for name, p in parameters.items()}


def by_the_formula(name: str, variant: str, clip: bool, adapt: bool) -> np.ndarray:
    """In float64, from what float32 makes of the same numbers."""
    first = start(name).astype(np.float32).astype(float)
    gradients = [gradient(name, step).astype(np.float32).astype(float) for step in range(len(RATES))]
    if not adapt:
        p, mu = first, np.zeros_like(first)
        for each, rate in zip(gradients, RATES, strict=True):
            dp = (each + SETTINGS["weight_decay"] * p) * (rate if variant == "simclr" else 1.0)
            mu = SETTINGS["momentum"] * mu + dp
            p = p - mu * (1.0 if variant == "simclr" else rate)
        return p
    if variant == "simclr":
        return simclr_trajectory(first, gradients, lr=RATES, **SETTINGS)[-1]
    if variant == "larc":
        return larc_trajectory(first, gradients, lr=RATES, clip=clip, **SETTINGS)[-1]
    return trajectory(first, gradients, lr=RATES, clip=clip, exclude=False, **SETTINGS)[-1]


@pytest.fixture
def steps_of_kernels(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As many entries as steps that kernels took."""
    steps, step = list[int](), fused_lars.step

    def counted(*arguments: Any) -> None:
        steps.append(len(arguments[0]))
        step(*arguments)

    monkeypatch.setattr(fused_lars, "step", counted)
    return steps


@pytest.mark.parametrize(
    ("variant", "clip"),
    [("barlow-twins", False), ("barlow-twins", True), ("simclr", False), ("larc", False), ("larc", True)],
)
@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_step_is_the_formulas(
    variant: str, clip: bool, adapt: bool, threads: int, steps_of_kernels: list[int]
) -> None:
    if threads > 1 and thread_team.address() is None:
        pytest.skip("torch has no threads here that kernels can use")
    for name, p in trained(threads, variant=variant, clip=clip, adapt=adapt).items():
        expected = by_the_formula(name, variant, clip, adapt)
        np.testing.assert_allclose(p, expected, rtol=2e-6, atol=2e-6, err_msg=name)
        if name == "tiles":
            assert np.abs(expected - start(name)).max() > 1e-3  # it moved
    assert steps_of_kernels == [len(SHAPES)] * len(RATES)


@pytest.mark.skipif(thread_team.address() is None, reason="torch has no threads here that kernels can use")
@pytest.mark.parametrize("variant", ["barlow-twins", "larc"])
def test_numbers_are_those_of_one_thread_to_the_bit(variant: str) -> None:
    alone = trained(1, variant=variant)
    for threads in (2, 3, 4):
        for name, p in trained(threads, variant=variant).items():
            np.testing.assert_array_equal(p, alone[name], err_msg=f"{name}, {threads} threads")


def test_a_norm_of_many_values_is_exact() -> None:
    """Of 2 million values of one sign, of which each alone hardly counts beside their sum."""
    p, other = nn.Parameter(torch.full((2**21,), 0.1)), torch.linspace(1.0, 3.0, 2**21)
    p.grad = other.clone()
    LARS([p], lr=1.0, momentum=0.0, eta=0.5).step()
    factor = 0.5 * np.linalg.norm(np.full(2**21, np.float32(0.1)).astype(float)) / other.double().norm().item()
    np.testing.assert_allclose((0.1 - p.detach().double()) / other.double(), factor, rtol=3e-6)


def test_what_is_not_a_number_stays_so() -> None:
    for place, value in (("gradient", float("nan")), ("gradient", float("inf")), ("parameter", float("nan"))):
        p = nn.Parameter(torch.ones(3, 3))
        p.grad = torch.ones(3, 3)
        (p.grad if place == "gradient" else p.data)[1, 1] = value
        LARS([p], lr=0.1, weight_decay=0.1).step()
        assert not p[1, 1].isfinite()


def test_autograd_knows_that_a_parameter_is_another() -> None:
    p = nn.Parameter(torch.ones(3, 3))
    p.grad = torch.ones(3, 3)
    optimizer = LARS([p], lr=0.1)
    square = (p * p).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.backward()
    momentum = optimizer.state[p]["mu"]
    before = momentum._version
    optimizer.step()
    assert momentum._version > before


@pytest.mark.parametrize("overflow", [0.0, 1.0])
def test_a_step_that_nobody_waits_for_is_torchs(overflow: float, steps_of_kernels: list[int]) -> None:
    p = nn.Parameter(torch.ones(3, 3))
    p.grad = torch.ones(3, 3)
    optimizer = LARS([p], lr=0.1)
    optimizer.found_inf = torch.tensor(overflow)
    optimizer.step()
    assert not steps_of_kernels
    assert bool((p == 1.0).all()) is (overflow == 1.0)


def test_gradients_stay_as_they_are() -> None:
    p = nn.Parameter(torch.ones(300, 300))
    p.grad = torch.arange(90000.0).view(300, 300)
    before = p.grad.clone()
    LARS([p], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(p.grad, before)


def alike(*shape: int) -> dict[str, Any]:
    p = nn.Parameter(torch.ones(*shape))
    return {"p": p, "gradient": torch.ones(*shape), "mu": torch.zeros(*shape), "rate": 0.1}


OTHERS: dict[str, dict[str, Any]] = {
    "float64": {"p": nn.Parameter(torch.ones(4, 3, 2, 2).double()), "gradient": torch.ones(4, 3, 2, 2).double(),
                "mu": torch.zeros(4, 3, 2, 2).double()},
    "bfloat16": {"gradient": torch.ones(4, 3, 2, 2).bfloat16()},
    "a gradient in channels_last": {"gradient": torch.ones(4, 3, 2, 2).to(memory_format=LAST)},
    "a momentum in channels_last": {"mu": torch.ones(4, 3, 2, 2).to(memory_format=LAST)},
    "a view with gaps": {name: torch.ones(4, 3, 2, 4)[..., ::2] for name in ("p", "gradient", "mu")},
    "numbers that are one in memory": {name: torch.ones(1).expand(4, 3, 2, 2) for name in ("p", "gradient", "mu")},
    "a rate on a device": {"rate": torch.tensor(0.1)},
    "without memory": {name: torch.ones(4, 3, 2, 2, device="meta") for name in ("p", "gradient", "mu")},
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_what_lies_in_memory_otherwise_is_torchs(what: str) -> None:
    def taken(p: Tensor, gradient: Tensor, mu: Tensor, rate: Any) -> bool:
        return fused_lars.takes([torch.zeros(3), p], [torch.zeros(3), gradient], [torch.zeros(3), mu], rate)

    assert taken(**alike(4, 3, 2, 2))
    assert not taken(**{**alike(4, 3, 2, 2), **OTHERS[what]})


def test_a_gradient_that_lies_otherwise_has_the_same_step(steps_of_kernels: list[int]) -> None:
    p = nn.Parameter(float32(start("convolution")))
    p.grad = torch.tensor(gradient("convolution", 0), dtype=torch.float32)
    LARS([p], lr=0.3, **SETTINGS).step()
    assert not steps_of_kernels
    expected = trajectory(
        start("convolution"), [gradient("convolution", 0)], lr=[0.3], clip=False, exclude=False, **SETTINGS
    )
    np.testing.assert_allclose(p.detach().numpy(), expected[-1], rtol=1e-5, atol=1e-6)


def test_threads_that_are_not_torchs_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr(thread_team, "address", lambda: None)
    assert not fused_lars.takes([torch.zeros(3)], [torch.zeros(3)], [torch.zeros(3)], 0.1)
    torch.set_num_threads(1)
    assert fused_lars.takes([torch.zeros(3)], [torch.zeros(3)], [torch.zeros(3)], 0.1)
