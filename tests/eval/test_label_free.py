"""RankMe, LiDAR and alpha against their formulas in NumPy, and on representations whose answer is known."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.eval.diagnostics import NotFinite, effective_rank, effective_rank_in_parts, spectrum_decay
from barlowctl.eval.lidar import lidar
from tests.oracles import label_free


def views(n: int, q: int, d: int, *, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    """q distorted copies of n points, whose directions and distortions differ in size."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(n, 1, d)) * np.geomspace(2, 0.05, d)
    return points + noise * random.normal(size=(n, q, d)) * np.geomspace(0.2, 1, d) + 3.0


@pytest.mark.parametrize(("n", "q", "d"), [(30, 4, 6), (9, 5, 20), (5, 2, 17), (40, 2, 40), (6, 3, 1)])
def test_lidar_is_its_formula(n: int, q: int, d: int) -> None:
    """Also where there are fewer images than dimensions, and where there are fewer views than dimensions."""
    x = views(n, q, d)
    assert lidar(torch.tensor(x)) == pytest.approx(label_free.lidar(x), rel=1e-6)
    assert lidar(torch.tensor(x), delta=0.5, epsilon=1e-3) == pytest.approx(label_free.lidar(x, 0.5, 1e-3), rel=1e-6)


def test_lidar_counts_the_directions_that_distortions_leave_apart() -> None:
    random = np.random.default_rng(0)
    blurred = np.zeros((200, 5, 8))
    blurred[..., :3] = random.normal(size=(200, 1, 3)) + 0.01 * random.normal(size=(200, 5, 3))
    blurred[..., 3:] = random.normal(size=(200, 5, 5))  # of the views alone: no image is recognised by it
    assert lidar(torch.tensor(blurred)) == pytest.approx(3.0, abs=0.1)
    everything = torch.tensor(blurred).reshape(-1, 8)
    assert effective_rank(everything) > 7.5  # RankMe counts what the distortions did, too
    assert lidar(torch.ones(4, 3, 5)) == 0.0
    assert lidar(torch.tensor(random.normal(size=(50, 1, 1)) * np.ones((50, 4, 6)))) == pytest.approx(1.0, abs=1e-4)


def test_lidar_refuses_what_has_no_classes() -> None:
    for shape in ((1, 3, 4), (3, 1, 4), (3, 4)):
        with pytest.raises(UserError, match=re.escape(str(shape))) as raised:
            lidar(torch.zeros(shape))
        assert "at least 2 images and 2 views" in str(raised.value.allowed)
    with pytest.raises(NotFinite):
        lidar(torch.full((3, 2, 4), float("inf")))


@pytest.mark.parametrize(("n", "d"), [(50, 8), (8, 50), (200, 30)])
def test_rankme_and_alpha_are_their_formulas(n: int, d: int) -> None:
    x = views(n, 1, d)[:, 0]
    assert effective_rank(torch.tensor(x)) == pytest.approx(label_free.rankme(x), rel=1e-6)
    parts = torch.tensor(x).split(7)
    assert effective_rank_in_parts(parts, n) == pytest.approx(label_free.rankme(x), rel=1e-6)
    with pytest.raises(NotFinite):
        effective_rank_in_parts([*parts, torch.full((2, d), float("nan"))], n + 2)
    assert spectrum_decay(torch.tensor(x)) == pytest.approx(label_free.alpha(x), rel=1e-5)
