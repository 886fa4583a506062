"""Stochastic depth: its draws are part of the saved state, the same in both passes, and others on every rank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from barlowctl.distributed import ALONE
from barlowctl.errors import RunStopped
from barlowctl.methods import BarlowTwins, Targets
from barlowctl.model import recompute_activations
from barlowctl.train.gradient import Gradient
from tests.dist.work import Run, train_transformer, transformer

ROWS, PIECE = 20, 8
RUN = Run(dtype="float32", optimizer="adamw", lr=1e-2, lr_biases=1e-2, batches=3)


def views() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (ROWS, 6, 6, 1), dtype=torch.uint8, generator=generator) for _ in range(2)]


def to_input(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).double() / 255


def gradient_of(method: BarlowTwins, **options: Any) -> dict[str, Tensor]:
    """The gradient of a batch, with draws from the generator's state 5."""
    gradient = Gradient(
        method.train(),
        to_input=to_input,
        device=torch.device("cpu"),
        precision="fp32",
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        ranks=ALONE,
        **options,
    )
    torch.manual_seed(5)
    gradient(views(), Targets.unlabelled(ROWS))
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-9, atol=1e-12)


def test_micro_batches_have_the_gradient_of_the_network_that_was_drawn() -> None:
    """One graph over all pieces, with the same draws: what two passes must come to."""
    method = transformer(ALONE, dtype="float64").train()
    torch.manual_seed(5)
    pieces = [method.embeddings([to_input(view) for view in part]) for part in zip(*map(_split, views()), strict=True)]
    whole = [torch.cat(rows) for rows in zip(*pieces, strict=True)]
    method.compare(whole, Targets.unlabelled(ROWS)).loss.backward()
    expected = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    assert_same(gradient_of(transformer(ALONE, dtype="float64"), micro_batch=PIECE), expected)
    another = gradient_of(transformer(ALONE, dtype="float64"))
    assert max(float((another[name] - expected[name]).abs().max()) for name in expected) > 1e-3, "nothing was dropped"


def _split(view: Tensor) -> tuple[Tensor, ...]:
    return view.tensor_split(-(-ROWS // PIECE))


@pytest.mark.parametrize("micro_batch", [0, PIECE])
def test_recomputed_activations_drop_the_same_again(micro_batch: int) -> None:
    expected = gradient_of(transformer(ALONE, dtype="float64"), micro_batch=micro_batch)
    method = transformer(ALONE, dtype="float64")
    recompute_activations(method.backbone)
    assert_same(gradient_of(method, micro_batch=micro_batch, recomputes=True), expected)


@pytest.mark.parametrize("micro_batch", [0, PIECE])
def test_a_resumed_run_is_bit_identical(tmp_path: Path, micro_batch: int) -> None:
    run = replace(RUN, micro_batch=micro_batch)
    torch.manual_seed(11)
    whole = train_transformer(ALONE, run, str(tmp_path / "whole"))
    with pytest.raises(RunStopped):
        train_transformer(ALONE, run, str(tmp_path / "parts"), stop_at=2)
    torch.manual_seed(12)  # whatever the new process has drawn before
    resumed = train_transformer(ALONE, run, str(tmp_path / "parts"), resume=True)
    assert resumed["loss"].tolist() == whole["loss"].tolist()[2:]
    for key in whole.keys() - {"loss", "path"}:
        np.testing.assert_array_equal(resumed[key], whole[key], err_msg=key)
