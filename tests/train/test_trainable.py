"""The engine trains what takes a batch of its own: images of several sizes, in iterations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from barlowctl.distributed import ALONE
from barlowctl.errors import RunStopped
from barlowctl.methods import Targets
from tests.train import ragged
from tests.train.ragged import ITERATIONS, Ragged, RaggedLoader


def test_its_steps_are_those_of_a_plain_loop_over_iterations(tmp_path: Path) -> None:
    trained = ragged.train(ALONE, str(tmp_path))
    assert trained["steps"] == len(trained["loss"]) == ITERATIONS
    warm = [0.1, 0.4, 0.7, 1.0, 1.0, 1.0]
    expected_rates = [0.5 * factor for factor in [*warm, 0.1, 0.1, 0.01, 0.01]]
    assert trained["rates"] == pytest.approx(expected_rates, rel=1e-12)

    plain = Ragged()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-3)
    batches = (batch for interval in range(3) for batch in RaggedLoader().epoch(interval))
    for rate, loss, batch in zip(expected_rates, trained["loss"], batches, strict=False):
        optimizer.param_groups[0]["lr"] = rate
        terms = plain(batch, Targets.unlabelled(len(batch.images)))
        assert loss == pytest.approx(terms.loss.item(), rel=1e-12)
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
    for name, value in plain.state_dict().items():
        np.testing.assert_allclose(trained["weights"][name], value.numpy(), rtol=1e-12)


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_it_goes_on_bit_for_bit_within_an_interval_or_between_two(tmp_path: Path, stop_at: int) -> None:
    whole = ragged.train(ALONE, str(tmp_path / "whole"))
    with pytest.raises(RunStopped):
        ragged.train(ALONE, str(tmp_path / "parts"), stop_at=stop_at)
    resumed = ragged.train(ALONE, str(tmp_path / "parts"), resume=True)
    assert np.array_equal(resumed["loss"], whole["loss"][stop_at:])
    assert all(np.array_equal(resumed["weights"][name], value) for name, value in whole["weights"].items())


@pytest.mark.parametrize(("micro_batch", "largest"), [(4, 3), (5, 3), (2, 2), (1, 1)])
def test_losses_that_add_up_are_summed_over_micro_batches(tmp_path: Path, micro_batch: int, largest: int) -> None:
    whole = ragged.train(ALONE, str(tmp_path / "whole"))
    parts = ragged.train(ALONE, str(tmp_path / "parts"), micro_batch=micro_batch)
    assert parts["largest"] == largest
    np.testing.assert_allclose(parts["loss"], whole["loss"], rtol=1e-10)
    for name, value in whole["weights"].items():
        np.testing.assert_allclose(parts["weights"][name], value, rtol=1e-9, atol=1e-12)


def test_parts_of_unequal_size_weigh_as_many_rows_as_they_have() -> None:
    """Of 5 and of 2 rows on two ranks, 3 parts have 3, 2 and 2 rows."""
    targets = Targets(torch.full((5,), -1), torch.arange(5), (5, 2), torch.zeros(()))
    parts = targets.parts(3)
    assert [part.indices.tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert [part.shares for part in parts] == [(2, 1), (2, 1), (1, 0)]
