"""Numbers drawn by key: the same for the same key, others for another, evenly spread."""

from __future__ import annotations

import numpy as np
import torch

from barlowctl.methods import keyed


def step(number: int) -> torch.Tensor:
    return torch.tensor(number)


def test_the_key_decides_and_nothing_else() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    counters = torch.arange(50)
    first = keyed.bits(7, step(3), 1, counters)
    assert torch.equal(first, keyed.bits(7, step(3), 1, counters))
    assert torch.equal(first[20:30], keyed.bits(7, step(3), 1, counters[20:30]))
    others = [keyed.bits(8, step(3), 1, counters), keyed.bits(7, step(4), 1, counters)]
    others += [keyed.bits(7, step(3), 2, counters), keyed.bits(7 + (1 << 40), step(3), 1, counters)]
    assert all((first == other).sum() == 0 for other in others)
    assert torch.equal(before, torch.get_rng_state())


def test_a_permutation_has_every_row_once_and_is_another_at_each_step() -> None:
    orders = [keyed.permutation(0, step(s), 1, 64) for s in range(5)]
    assert all(sorted(order.tolist()) == list(range(64)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 5
    assert all((order == torch.arange(64)).sum() < 8 for order in orders)


def test_an_image_has_its_own_order_wherever_it_stands() -> None:
    orders = keyed.permutations(5, step(2), 1, torch.arange(400), 9)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(9).expand(400, 9))
    some = torch.tensor([17, 3, 250])
    assert torch.equal(keyed.permutations(5, step(2), 1, some, 9), orders[some])
    first = np.bincount(orders[:, 0].numpy(), minlength=9)
    assert np.abs(first - 400 / 9).max() < 5 * np.sqrt(400 / 9)


def test_uniform_numbers_are_uniform() -> None:
    """Of 4000 steps: mean and tenths within five standard errors, no correlation from one step to the next."""
    drawn = np.array([keyed.uniform(3, step(s), 2).item() for s in range(4000)])
    assert 0.0 < drawn.min() < 0.01 < 0.99 < drawn.max() < 1.0
    assert abs(drawn.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 4000)
    tenths = np.histogram(drawn, bins=10, range=(0, 1))[0]
    assert np.abs(tenths - 400).max() < 5 * np.sqrt(400 * 0.9)
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 5 / np.sqrt(4000)


def test_whole_numbers_reach_every_row_of_a_bank() -> None:
    drawn = keyed.integers(0, step(9), 1, 60_000, 100).numpy()
    counts = np.bincount(drawn, minlength=100)
    assert len(counts) == 100
    assert np.abs(counts - 600).max() < 5 * np.sqrt(600)
    large = keyed.integers(0, step(9), 1, 10_000, 2**31 - 1)
    assert 0 <= large.min() < 2**20
    assert 2**31 - 2**20 < large.max() < 2**31
