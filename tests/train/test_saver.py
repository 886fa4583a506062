"""What is said of an error that ended a run: what became of the state, and how to go on, once."""

from __future__ import annotations

import pytest

from barlowctl.errors import UserError
from barlowctl.train.saver import annotate


@pytest.mark.parametrize(
    "go_on",
    ["barlowctl pretrain --resume a --threads 1", "torchrun --standalone -m barlowctl pretrain --resume a"],
)
def test_a_command_that_is_half_of_the_one_that_goes_on_is_left_out(go_on: str) -> None:
    """Where run.json is gone, who found that out did not know how the run was started."""
    error = UserError("'a' is not there any more", next="barlowctl pretrain --resume a\nls -l a")
    annotate(error, "the newest checkpoint is of step 4", go_on, resumable=True)
    assert error.message == "'a' is not there any more; the newest checkpoint is of step 4"
    assert error.next == f"ls -l a\n{go_on}"
    annotate(error, "again", go_on, resumable=True)
    assert error.next == f"ls -l a\n{go_on}"
