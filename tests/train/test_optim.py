"""LARS against the formula over ten steps, its exclusions, its state, and the groups of all optimizers."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from barlowctl.errors import UserError
from barlowctl.train.groups import parameter_groups
from barlowctl.train.lars import LARS
from barlowctl.train.muon import Muon
from barlowctl.train.optim import build_optimizer, set_learning_rates
from tests.oracles.lars import larc_trajectory, simclr_trajectory, trajectory

STEPS = 10
RATES = [0.02 * step for step in range(STEPS)]  # a warm-up: the first step has learning rate 0


class Odd(nn.Module):
    """One parameter of every kind the rules tell apart."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(0)
        self.conv = nn.Parameter(torch.tensor(random.normal(size=(4, 3, 2, 2))))
        self.linear = nn.Parameter(torch.tensor(random.normal(size=(5, 4))))
        self.zero = nn.Parameter(torch.zeros(3, 3, dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(random.normal(size=4)))
        self.gain = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        self.unused = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
        self.frozen = nn.Parameter(torch.ones(2, 2, dtype=torch.float64), requires_grad=False)


def gradient(name: str, step: int, shape: torch.Size) -> np.ndarray:
    """Zero now and then, so that both zero-norm cases occur."""
    if name == "linear" and step in (0, 4):
        return np.zeros(shape)
    if name == "zero" and step < 2:
        return np.zeros(shape)
    return np.asarray(np.random.default_rng([step, len(name), *name.encode()]).normal(size=shape))


def run(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        for name, p in module.named_parameters():
            if name not in ("unused", "frozen"):
                p.grad = torch.tensor(gradient(name, step, p.shape), dtype=p.dtype)
        set_learning_rates(optimizer, RATES[step])
        optimizer.step()


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_ten_steps_of_lars_match_the_formula(
    weight_decay: float, clip: bool, dtype: torch.dtype, tolerance: float
) -> None:
    module = Odd().to(dtype)
    start = {name: p.detach().double().numpy().copy() for name, p in module.named_parameters()}
    optimizer = build_optimizer(
        module,
        "lars",
        lr=0.2,
        lr_biases=0.0048,
        weight_decay=weight_decay,
        momentum=0.9,
        eta=0.02,
        clip_trust_ratio=clip,
    )
    run(module, optimizer, range(STEPS))
    for name, p in module.named_parameters():
        if name in ("unused", "frozen"):
            np.testing.assert_array_equal(p.detach().numpy(), start[name])
            continue
        peak = 0.0048 if p.ndim <= 1 else 0.2
        expected = trajectory(
            start[name],
            [gradient(name, step, p.shape) for step in range(STEPS)],
            lr=[peak * rate for rate in RATES],
            weight_decay=weight_decay,
            momentum=0.9,
            eta=0.02,
            clip=clip,
        )[-1]
        assert np.abs(expected - start[name]).max() > 1e-4  # it moved
        np.testing.assert_allclose(p.detach().double().numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("variant", ["simclr", "larc", "larc, clipped"])
@pytest.mark.parametrize("on_device", [False, True])
def test_the_variants_of_lars_match_their_sources_while_the_rate_changes(variant: str, on_device: bool) -> None:
    """With decay and adaptation of every parameter, and also where a rate is a tensor and `found_inf` is heeded."""
    module = Odd()
    start = {name: p.detach().numpy().copy() for name, p in module.named_parameters()}
    name, _, clip = variant.partition(", ")
    settings: dict[str, Any] = {"weight_decay": 0.05, "momentum": 0.9, "eta": 0.02}
    optimizer = build_optimizer(
        module, "lars", lr=0.2, lr_biases=0.1, lars_variant=name, clip_trust_ratio=bool(clip), exclude_biases=False,
        **settings,
    )  # fmt: skip
    tolerance = 1e-13
    if on_device:
        optimizer.found_inf = torch.zeros(())
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros(())  # float32, as on a GPU
        tolerance = 1e-6
    run(module, optimizer, range(STEPS))
    for key, p in module.named_parameters():
        if key in ("unused", "frozen"):
            continue
        lr = [(0.1 if p.ndim <= 1 else 0.2) * rate for rate in RATES]
        gradients = [gradient(key, step, p.shape) for step in range(STEPS)]
        if name == "simclr":
            expected = simclr_trajectory(start[key], gradients, lr=lr, **settings)
        else:
            expected = larc_trajectory(start[key], gradients, lr=lr, clip=bool(clip), **settings)
        others = trajectory(start[key], gradients, lr=lr, clip=bool(clip), exclude=False, **settings)
        np.testing.assert_allclose(p.detach().numpy(), expected[-1], rtol=tolerance, atol=tolerance)
        if key == "conv":
            assert np.abs(expected[-1] - others[-1]).max() > 1e-5  # another path than the authors'


def test_a_checkpoint_of_before_the_variants_goes_on_as_it_was() -> None:
    module = Odd()
    optimizer = build_optimizer(module, "lars", lr=0.2, lr_biases=0.1, weight_decay=0.0)
    run(module, optimizer, range(2))
    state = copy.deepcopy(optimizer.state_dict())
    for group in state["param_groups"]:
        del group["variant"]
    resumed = build_optimizer(module, "lars", lr=0.2, lr_biases=0.1, weight_decay=0.0)
    resumed.load_state_dict(state)
    run(module, resumed, range(2, 3))
    assert [group["variant"] for group in resumed.param_groups] == ["barlow-twins"] * 2


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw", "muon"])
def test_decay_on_all_parameters(name: str) -> None:
    """SimSiam's, MoCo's and SwAV's: with gradients of zero, biases move by decay alone, and only if not excluded."""
    moved = {}
    for exclude in (True, False):
        module = Odd()
        optimizer = build_optimizer(
            module, name, lr=0.1, lr_biases=0.1, weight_decay=0.5, momentum=0.0, eta=1.0, exclude_biases=exclude
        )
        before = module.bias.detach().clone()
        for p in module.parameters():
            p.grad = torch.zeros_like(p) if p.requires_grad else None
        optimizer.step()
        moved[exclude] = (before - module.bias.detach()) / before
    assert torch.equal(moved[True], torch.zeros(4, dtype=torch.float64))
    share = 0.1 if name == "lars" else 0.1 * 0.5  # LARS: decay is the direction, trust its length: lr eta |p|
    torch.testing.assert_close(moved[False], torch.full((4,), share, dtype=torch.float64), rtol=1e-12, atol=0.0)


def test_nesterovs_momentum_is_the_formula() -> None:
    module = Odd()
    p, v = module.conv.detach().numpy().copy(), np.zeros(module.conv.shape)
    bias = module.bias.detach().numpy().copy()
    optimizer = build_optimizer(
        module, "sgd", lr=0.2, lr_biases=0.0, weight_decay=0.05, momentum=0.9, nesterov=True, exclude_biases=True
    )
    run(module, optimizer, range(STEPS))
    for step in range(STEPS):
        g = gradient("conv", step, module.conv.shape) + 0.05 * p
        v = 0.9 * v + g
        p = p - 0.2 * RATES[step] * (g + 0.9 * v)
    np.testing.assert_allclose(module.conv.detach().numpy(), p, rtol=1e-13)
    np.testing.assert_array_equal(module.bias.detach().numpy(), bias)


def test_the_settings_matter() -> None:
    """Eta, momentum, weight decay, adaptation and clipping each change the outcome."""
    ends = []
    for changed in ({}, {"eta": 0.01}, {"momentum": 0.5}, {"weight_decay": 0.1}, {"adapt": False}, {"clip": True}):
        module = Odd()
        options: dict[str, Any] = {
            "eta": 0.02,
            "momentum": 0.9,
            "weight_decay": 0.0,
            "adapt": True,
            **changed,
        }
        optimizer = LARS([{"params": [module.conv], "peak_lr": 1.0}], lr=1.0, **options)
        run(module, optimizer, range(3))
        ends.append(module.conv.sum().item())
    assert len({round(end, 12) for end in ends}) == 6


def test_without_adaptation_lars_is_momentum_sgd() -> None:
    ours, theirs = Odd(), Odd()
    run(ours, LARS(with_peak(ours), lr=0.1, momentum=0.8, adapt=False), range(STEPS))
    run(theirs, torch.optim.SGD(with_peak(theirs), lr=0.1, momentum=0.8), range(STEPS))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def with_peak(module: nn.Module) -> list[dict[str, object]]:
    return [{"params": list(module.parameters()), "peak_lr": 0.1}]


def test_lars_leaves_gradients_alone() -> None:
    module = Odd()
    optimizer = build_optimizer(module, "lars", lr=0.1, lr_biases=0.1, weight_decay=0.5)
    run(module, optimizer, range(3))
    assert module.conv.grad is not None
    np.testing.assert_array_equal(module.conv.grad.numpy(), gradient("conv", 2, module.conv.shape))


def test_a_closure_is_evaluated_with_gradients() -> None:
    p = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([p], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    torch.testing.assert_close(p.detach(), torch.full((2, 2), 1 - 0.1 * 0.001 * 1.0))


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw", "muon"])
def test_state_goes_through_json_and_resumes_bit_for_bit(name: str) -> None:
    settings: dict[str, Any] = {"lr": 0.2, "lr_biases": 0.01, "weight_decay": 0.01}
    straight = Odd()
    run(straight, build_optimizer(straight, name, **settings), range(STEPS))

    first = Odd()
    optimizer = build_optimizer(first, name, **settings)
    run(first, optimizer, range(4))
    second = Odd()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    resumed = build_optimizer(second, name, **settings)
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"] = json.loads(json.dumps(state["param_groups"]))
    resumed.load_state_dict(state)
    run(second, resumed, range(4, STEPS))
    for a, b in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_parameter_groups_are_the_papers() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    weights, biases = parameter_groups(module, lr=0.2, lr_biases=0.0048, weight_decay=1e-6)
    assert [p.ndim for p in weights["params"]] == [4, 2]
    assert [p.ndim for p in biases["params"]] == [1, 1, 1, 1]
    assert (weights["lr"], weights["weight_decay"], weights["adapt"]) == (0.2, 1e-6, True)
    assert (biases["lr"], biases["weight_decay"], biases["adapt"]) == (0.0048, 0.0, False)
    assert [group["name"] for group in (weights, biases)] == ["weights", "biases"]
    only_weights = parameter_groups(nn.Linear(3, 2, bias=False), lr=1.0, lr_biases=1.0, weight_decay=0.0)
    assert [group["name"] for group in only_weights] == ["weights"]


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_torchs_own_optimizers_get_the_same_groups(name: str, kind: type) -> None:
    optimizer = build_optimizer(Odd(), name, lr=0.3, lr_biases=0.1, weight_decay=0.2, momentum=0.7, betas=(0.8, 0.95))
    assert isinstance(optimizer, kind)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.3, 0.2), (0.1, 0.0)]
    settings = optimizer.param_groups[0]
    assert settings["momentum"] == 0.7 if name == "sgd" else settings["betas"] == (0.8, 0.95)


def test_learning_rates_follow_their_peaks() -> None:
    optimizer = build_optimizer(Odd(), "lars", lr=0.2, lr_biases=0.01, weight_decay=0.0)
    set_learning_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.005]
    set_learning_rates(optimizer, 1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.01]


def test_bad_settings_are_named() -> None:
    with pytest.raises(UserError, match="did you mean 'adamw'"):
        build_optimizer(Odd(), "adam-w", lr=0.1, lr_biases=0.1, weight_decay=0.0)
    with pytest.raises(UserError, match="did you mean 'simclr'"):
        build_optimizer(Odd(), "lars", lr=0.1, lr_biases=0.1, weight_decay=0.0, lars_variant="simclar")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no trainable parameters"):
        build_optimizer(nn.ReLU(), "lars", lr=0.1, lr_biases=0.1, weight_decay=0.0)
    with pytest.raises(UserError, match=r"momentum is -0\.1"):
        LARS([nn.Parameter(torch.ones(2))], lr=0.1, momentum=-0.1)


@pytest.mark.parametrize("optimizer", [LARS, Muon])
@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
@pytest.mark.parametrize("name", ["lr", "weight_decay", "momentum"])
def test_settings_that_no_step_can_be_taken_with_are_refused(optimizer: Any, name: str, value: float) -> None:
    """Of all parameters, and of a group of them."""
    kind = optimizer.__name__
    with pytest.raises(UserError, match=rf"^{kind}: {name} is {value}$"):
        optimizer([nn.Parameter(torch.ones(2, 2))], **{"lr": 0.1, name: value})
    groups = [{"params": [nn.Parameter(torch.ones(2, 2))]}, {"params": [nn.Parameter(torch.ones(2, 2))], name: value}]
    with pytest.raises(UserError, match=rf"^{kind}: {name} is {value}$"):
        optimizer(groups, lr=0.1)


def test_a_trust_coefficient_and_betas_are_numbers_of_their_range() -> None:
    with pytest.raises(UserError, match=r"^LARS: eta is inf$"):
        LARS([nn.Parameter(torch.ones(2, 2))], lr=0.1, eta=math.inf)
    with pytest.raises(UserError, match=r"^Muon: a beta is 1\.0$"):
        Muon([nn.Parameter(torch.ones(2, 2))], lr=0.1, betas=(0.9, 1.0))
