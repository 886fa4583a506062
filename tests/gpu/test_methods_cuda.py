"""The compared methods on a CUDA device: captured as one graph, a step is what it is kernel by kernel."""

from __future__ import annotations

import pytest
import torch

from barlowctl.distributed import ALONE
from tests.dist import moved
from tests.methods import test_moved_rows
from tests.train.captured_steps import NAMES, trained

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", NAMES)
def test_a_captured_step_of_every_method_is_the_one_that_was_captured(name: str) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    expected, state = trained(name, captures=False, device="cuda")
    actual, same = trained(name, captures=True, device="cuda")
    assert actual == pytest.approx(expected, rel=1e-3)
    for key, value in state.items():
        torch.testing.assert_close(same[key], value, rtol=1e-2, atol=1e-2, msg=key)


@pytest.mark.parametrize("captures", [False, True])
@pytest.mark.parametrize("name", test_moved_rows.LARGE)
def test_a_step_taken_back_leaves_its_bank_or_queue(name: str, captures: bool) -> None:
    """Also where a graph's replay wrote over what the rows of the step before were."""
    test_moved_rows.check(moved.take_back(ALONE, name, 2, 0, 0, captures, "cuda"), name, updated=2)
