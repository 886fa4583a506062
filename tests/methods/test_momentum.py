"""Moving averages of networks: hand-computed steps, batch norm's parameters, its statistics, what is no gradient's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.methods.momentum import MovingAverage, Schedule
from barlowctl.model import build_backbone

TOTAL = 3


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2, bias=False)).double()
    for p in made.parameters():
        nn.init.normal_(p)  # batch norm's too
    return made


def at(step: int, total: int = TOTAL) -> Tensor:
    return torch.tensor(step / total, dtype=torch.float64)


def test_it_begins_as_a_copy_that_takes_no_gradient() -> None:
    online = network()
    average = MovingAverage(online, momentum=0.9)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    out = average(x)
    torch.testing.assert_close(out, network()(x), rtol=0, atol=0)
    assert not out.requires_grad
    assert not any(p.requires_grad for p in average.parameters())
    assert {p.data_ptr() for p in average.parameters()}.isdisjoint(p.data_ptr() for p in online.parameters())
    assert all(p.requires_grad for p in online.parameters())


@pytest.mark.parametrize(
    ("schedule", "momenta"),
    # 1 - (1 - 0.9) (1 + cos(pi k / 3)) / 2: 0.9, 1 - 0.1 * 0.75, 1 - 0.1 * 0.25, and 1 where the training ends
    [("constant", [0.9, 0.9, 0.9, 0.9]), ("cosine", [0.9, 0.925, 0.975, 1.0])],
)
def test_steps_by_hand(schedule: Schedule, momenta: list[float]) -> None:
    average = MovingAverage(network(), momentum=0.9, schedule=schedule)
    expected = [p.detach().clone() for p in average.parameters()]
    assert len(expected) == 5  # two weights, a bias, and scale and shift of the batch norm
    for step, m in enumerate(momenta):
        online = network(seed=step + 1)
        average.follow(online, progress=at(step))
        expected = [m * p + (1 - m) * q for p, q in zip(expected, online.parameters(), strict=True)]
        for own, p in zip(average.parameters(), expected, strict=True):
            torch.testing.assert_close(own, p.detach(), rtol=0, atol=1e-15)


def test_the_cosine_is_byols_formula_from_its_first_value_to_one() -> None:
    average = MovingAverage(network(), momentum=0.996, schedule="cosine")
    for step in range(0, 101, 10):
        share = average.share(at(step, 100))
        assert isinstance(share, Tensor)
        expected = 1 - (1 - (1 - 0.996) * (math.cos(math.pi * step / 100) + 1) / 2)  # 1 - tau
        assert share.item() == pytest.approx(expected, abs=1e-15)
    assert average.share(at(100, 100)) == 0.0


def test_running_statistics_are_of_what_passes_through_the_copy() -> None:
    """MoCo issue 70: they are never averaged, and never the online network's."""
    online = network()
    average = MovingAverage(online, momentum=0.5)
    own, other = (torch.randn(6, 3, dtype=torch.float64) + offset for offset in (0.0, 9.0))
    for _ in range(3):
        online(other)
        average.follow(online, progress=at(0))
    assert average.networks[0].get_buffer("1.running_mean").abs().max() == 0.0
    average(own)
    alone = network()
    alone(own)
    for name, buffer in alone.named_buffers():
        torch.testing.assert_close(average.networks[0].get_buffer(name), buffer, rtol=0, atol=0)


def test_several_networks_are_applied_one_behind_the_other() -> None:
    first, second = network(1), nn.Linear(2, 3, dtype=torch.float64)
    average = MovingAverage(first, second, momentum=0.0)
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(average(x), second(first(x)), rtol=0, atol=0)
    with torch.no_grad():
        second.weight.add_(1.0)
    average.follow(first, second, progress=at(1))
    torch.testing.assert_close(average(x), second(first(x)))
    with pytest.raises(ValueError, match="7 parameters cannot follow 5"):
        average.follow(first, progress=at(1))


def test_it_goes_in_and_out_of_evaluation_with_its_method() -> None:
    method = nn.ModuleDict({"key": MovingAverage(network(), momentum=0.9)})
    assert all(module.training for module in method.train().modules())
    assert not any(module.training for module in method.eval().modules())


@pytest.mark.parametrize("momentum", [-0.1, 1.1])
def test_a_momentum_that_is_none(momentum: float) -> None:
    with pytest.raises(UserError, match="momentum of a moving average"):
        MovingAverage(network(), momentum=momentum)


def test_copies_skip_no_residual_branches() -> None:
    """Two passes of a copy agree, and two of the network that is trained do not."""
    network = build_backbone(
        "vit_tiny_patch16_224",
        in_chans=1,
        img_size=8,
        patch_size=4,
        embed_dim=8,
        depth=2,
        num_heads=2,
        drop_path_rate=0.5,
    )
    average = MovingAverage(network, momentum=0.9).train()
    images = torch.rand(16, 1, 8, 8)
    assert torch.equal(average(images), average(images))
    assert not torch.equal(network.train()(images), network(images))
    assert torch.equal(average(images), network.eval()(images))
