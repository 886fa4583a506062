"""A step that is taken back leaves a memory bank or a queue as it was, of which no step copies more than it moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from barlowctl.distributed import ALONE
from barlowctl.methods import MovedRows
from barlowctl.train.gradient import buffers_kept
from tests.dist import methods, moved
from tests.train.recorded_graph import use_recorded_graphs

LARGE = {"pirl": "bank", "pirl, cross-entropy": "bank", "moco": "queue.rows", "moco, symmetric": "queue.rows"}
"""By method, the buffer of which a step moves some rows."""
CASES = [(1, 0), (2, 0), (1, 1), (0, 1)]
"""Steps whose weights were (not) updated, and steps that were only computed, when they are taken back."""


def check(result: dict[str, Any], name: str, *, updated: int) -> None:
    """`moved.take_back`: every number of the state is what it was, and some were not between."""
    before, between, after = result["states"]
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert after[key].tobytes() == value.tobytes(), key
    assert np.array_equal(between[LARGE[name]], before[LARGE[name]]) == (updated == 0)


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize(("updated", "computed"), CASES)
@pytest.mark.parametrize("how", ["", "captured", "micro-batches"])
def test_every_number_is_what_it_was(
    monkeypatch: pytest.MonkeyPatch, name: str, updated: int, computed: int, how: str
) -> None:
    use_recorded_graphs(monkeypatch)
    micro_batch = 8 * (how == "micro-batches")
    check(moved.take_back(ALONE, name, updated, computed, micro_batch, how == "captured"), name, updated=updated)


@pytest.mark.parametrize("name", LARGE)
def test_the_whole_is_never_copied(name: str) -> None:
    """Not before a step, nor around the passes of micro-batches."""
    method = methods.MAKERS[name](ALONE)
    large = method.get_buffer(LARGE[name])
    assert large.numel() > methods.ROWS  # of which one step may move all in these tests, and no fewer in a run
    rest = [b.numel() for key, b in method.named_buffers() if key != LARGE[name]]
    assert moved.take_back(ALONE, name, 1, 0)["copied"] == sum(rest) + sum(p.numel() for p in method.moving())
    others = [buffer for buffer in method.buffers() if buffer is not large and buffer.is_floating_point()]
    with buffers_kept(method):
        for buffer in (large, *others):
            buffer.fill_(7.0)
    assert (large == 7.0).all()
    assert not any((buffer == 7.0).all() for buffer in others)


def test_a_row_that_is_moved_twice_was_one() -> None:
    """And what moved it may use its memory again."""
    buffer = torch.tensor([[1.0, -0.0], [torch.nan, 2.0], [3.0, 4.0]])
    bits = buffer.numpy().tobytes()
    where = torch.tensor([1, 0, 1])
    moved_rows = MovedRows.move(buffer, where, torch.full((3, 2), 9.0))
    assert buffer.tolist() == [[9.0, 9.0], [9.0, 9.0], [3.0, 4.0]]
    where.fill_(2)
    moved_rows.put_back()
    assert buffer.numpy().tobytes() == bits
