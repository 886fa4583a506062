"""A step of SimCLR and MoCo reads nothing on the host, and changes its state in place: so it can be captured."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from barlowctl.distributed import ALONE
from barlowctl.train.optim import build_optimizer, set_learning_rates
from barlowctl.train.step import TrainingStep
from tests.dist import methods
from tests.dist.work import Images
from tests.train.test_step import counted_reads


@pytest.mark.parametrize("name", ["simclr", "moco", "moco, symmetric"])
def test_a_deferred_step_reads_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = methods.MAKERS[name](ALONE).float()
    optimizer = build_optimizer(method, "sgd", lr=0.1, lr_biases=0.1, weight_decay=0.0)
    step = TrainingStep(
        method,
        optimizer,
        to_input=lambda images: images.permute(0, 3, 1, 2).float() / 255,
        device=torch.device("cpu"),
        precision="fp32",
        deferred=True,
    )
    set_learning_rates(optimizer, 1.0)
    places = [tensor.data_ptr() for tensor in (*method.buffers(), *method.moving())]
    batches = list(islice(Images(ALONE, 2, methods.ROWS).epoch(0), 2))
    with counted_reads(monkeypatch) as reads:
        for number, batch in enumerate(batches):
            targets = step.targets(batch.labels, batch.indices, [methods.ROWS], number / 2)
            step.update(step.compute(batch.views, targets))
    assert reads == []
    assert places == [tensor.data_ptr() for tensor in (*method.buffers(), *method.moving())]
