"""What a run notes of how it was started."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.training import RANK_TIMEOUT, _flags
from barlowctl.recipe import load


@pytest.mark.parametrize(
    ("typed", "of_the_recipe", "device", "noted"),
    [(None, 0, "cpu", 3), (2, 0, "cpu", 2), (None, 4, "cpu", None), (None, 0, "cuda", None), (2, 4, "cuda", 2)],
)
def test_threads_of_the_environment_are_noted_as_those_that_were_typed(
    monkeypatch: pytest.MonkeyPatch, typed: int | None, of_the_recipe: int, device: str, noted: int | None
) -> None:
    """Results on a CPU depend on them, and where the run is continued the variable may not be set."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    recipe = load.load("resnet50", [f"train.cpu_threads={of_the_recipe}"])
    job = cast(Any, SimpleNamespace(recipe=recipe, device=torch.device(device)))
    assert _flags(Runtime(threads=typed), job, RANK_TIMEOUT, ())["--threads"] == noted
