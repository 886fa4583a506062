"""MoCo's queue: what it begins with, what is replaced, and what it does not take."""

from __future__ import annotations

import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.methods.queue import Queue


def batch(number: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(2, 3, generator=torch.Generator().manual_seed(number)), dim=1)


def test_it_begins_with_random_rows_of_unit_length_drawn_by_the_seed() -> None:
    torch.manual_seed(4)
    first = Queue(6, 3, batch=2)
    torch.manual_seed(4)
    torch.testing.assert_close(first.rows, Queue(6, 3, batch=2).rows, rtol=0, atol=0)
    torch.testing.assert_close(first.rows.norm(dim=1), torch.ones(6))
    assert {name: value.dtype for name, value in first.state_dict().items()} == {
        "rows": torch.float32,
        "pointer": torch.int64,
    }


def test_the_oldest_rows_are_replaced_and_it_begins_anew_as_a_whole() -> None:
    queue = Queue(6, 3, batch=2)
    begun = queue.rows.clone()
    address = queue.rows.data_ptr()
    for number in range(5):
        queue.put(batch(number))
        if number == 0:
            torch.testing.assert_close(queue.rows[2:], begun[2:], rtol=0, atol=0)
    assert queue.pointer.item() == 4  # 5 batches of 2 in 6 rows
    for rows, number in ((slice(0, 2), 3), (slice(2, 4), 4), (slice(4, 6), 2)):
        torch.testing.assert_close(queue.rows[rows], batch(number), rtol=0, atol=0)
    assert queue.rows.data_ptr() == address  # in place: a captured step reads it there


def test_rows_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"queue of 7 entries .* batches of 2") as refused:
        Queue(7, 3, batch=2)
    assert refused.value.next == "--set objective.queue=6"
    with pytest.raises(UserError) as refused:
        Queue(2_000_000_001, 3, batch=192)
    assert refused.value.next == "--set objective.queue=65472"  # the usual one, in whole batches
    with pytest.raises(UserError) as refused:
        Queue(100_001, 3, batch=256)
    assert refused.value.next == "--set objective.queue=99840"
    with pytest.raises(UserError, match="queue of 1 entries") as refused:
        Queue(1, 3, batch=2)
    assert refused.value.next == "--set objective.queue=2"
    with pytest.raises(UserError) as refused:
        Queue(2**31 - 1, 3, batch=16)
    assert refused.value.next == "--set objective.queue=65536"  # no memory holds the nearest
    with pytest.raises(ValueError, match="8 rows do not fit into a queue of 6"):
        Queue(6, 3, batch=2).put(torch.zeros(8, 3))


def test_rows_beyond_the_end_are_not_cut_off() -> None:
    """lightly's bank cuts them off; a step on fewer images than a batch has must not end at another place."""
    queue, put = Queue(6, 3, batch=2), [batch(number) for number in range(4)]
    for rows in (put[0], put[1][:1], put[2], put[3]):
        queue.put(rows)
    assert queue.pointer.item() == 1
    torch.testing.assert_close(queue.rows, torch.cat([put[3][1:], put[0][1:], put[1][:1], put[2], put[3][:1]]))
