"""What a study's cell measures, and what is said beside it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from barlowctl.assemble.machine import Runtime
from barlowctl.study import cells


def test_a_measurement_says_what_changes_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "knn": {"top1": 50.0, "neighbours": {"k20": 9}},
        "linear": {"top1": None, "top5": None, "reason": "all features are the same"},
        "effective_rank": 1.0,
        "feature_spread": 0.0,
    }
    monkeypatch.setattr(cells, "probe_run", lambda *arguments: iter([("a run", values)]))
    monkeypatch.setattr(cells, "diagnose", lambda *arguments: SimpleNamespace(values=dict))
    run = SimpleNamespace(method=torch.nn.Identity(), recipe=None)
    labelled = SimpleNamespace(train=None, notes=("3 of 9 test images are training images too",))
    measures, notes = cells.measure_cell(run, labelled, Runtime(device="cpu"))  # type: ignore[arg-type]
    assert (measures["knn"], measures["linear_top1"]) == (50.0, None)
    assert notes == [
        "no linear accuracy: all features are the same",
        "kNN: k is 20 but the bank holds 9 images: all of them vote",
        "3 of 9 test images are training images too",
    ]
