"""Several ranks over NCCL against one GPU. Skipped, with the reason, where there are not two."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.dist import gang, work

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.dist,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices"),
]


@pytest.mark.parametrize("form", ["gram", "primal"])
def test_loss_and_gradients_over_nccl_are_those_of_one_process(form: str) -> None:
    cases = [(24, 40, "float64", {"form": form}), (26, 10, "float32", {"form": form})]
    expected = work.loss_and_gradients(work.ALONE, cases)
    by_rank = gang.together(work.loss_and_gradients_on_gpus, 2, cases)
    for number, alone in enumerate(expected):
        assert by_rank[0][number][0] == pytest.approx(float(alone[0]), rel=1e-4)
        for view in (3, 4):
            rows = np.concatenate([rank[number][view] for rank in by_rank])
            np.testing.assert_allclose(rows, alone[view], rtol=1e-3, atol=1e-4)
