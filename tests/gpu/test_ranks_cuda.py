"""Several ranks over NCCL against one GPU. Skipped, with the reason, where there are not two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.dist import divided, gang, work

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


def test_a_divided_backbone_over_nccl_trains_what_a_whole_one_does(tmp_path: Path) -> None:
    """FSDP2: losses and norms of the gradient of ten steps; the checkpoint is written too."""
    run = work.Run(optimizer="adamw", lr=0.01, lr_biases=0.01, clip=0.5)
    whole = gang.together(divided.train_on_gpus, 2, run, str(tmp_path / "whole"))
    for values in gang.together(divided.train_on_gpus, 2, replace(run, shard=True), str(tmp_path / "divided")):
        assert len(values) == 20
        assert values == pytest.approx(whole[0], rel=1e-6)
