"""A measurement that changes the backbone it measures is not reported: by `probe`, in a study, of a classifier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from barlowctl.assemble.finished import FinishedRun, open_run
from barlowctl.assemble.labelled import Labelled, open_labelled
from barlowctl.assemble.machine import Runtime
from barlowctl.eval.features import backbone_digest, check_unchanged
from barlowctl.measure import classification, probing
from barlowctl.measure.subjects import of_run
from barlowctl.recipe.protocol import PROTOCOLS, override
from barlowctl.study import cells


@pytest.fixture
def opened(trained: Path, recipe: Path) -> tuple[FinishedRun, Labelled]:
    return open_run(trained), open_labelled("digits")


def nudging(extract: Callable[..., Any], network: Callable[[nn.Module], nn.Module]) -> Callable[..., Any]:
    """An extraction after which one number of the backbone is another."""

    def nudged(backbone: nn.Module, *arguments: Any, **options: Any) -> Any:
        extracted = extract(backbone, *arguments, **options)
        with torch.no_grad():
            next(network(backbone).parameters()).view(-1)[0] += 1e-3
        return extracted

    return nudged


def test_a_probe_says_so(opened: tuple[FinishedRun, Labelled], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "extract_readable", nudging(probing.extract_readable, lambda backbone: backbone))
    with pytest.raises(AssertionError, match="measuring 'digits' changed the backbone"):
        next(probing.probe_run(*opened, Runtime(threads=1)))


def test_a_study_says_so(opened: tuple[FinishedRun, Labelled], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "extract_readable", nudging(probing.extract_readable, lambda backbone: backbone))
    with pytest.raises(AssertionError, match="measuring 'digits' changed the backbone"):
        cells.measure_cell(*opened, Runtime(threads=1))


def test_a_linear_evaluation_says_so(
    opened: tuple[FinishedRun, Labelled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = classification._Fit._train

    def changing(call: Any, method: Any, *arguments: Any) -> Any:
        result = train(call, method, *arguments)
        with torch.no_grad():
            next(method.backbone.parameters()).view(-1)[0] += 1e-3
        return result

    monkeypatch.setattr(classification._Fit, "_train", changing)
    protocol = override(PROTOCOLS["linear"], ["epochs=1", "batch_size=256"])
    run, data = opened
    with pytest.raises(AssertionError, match=r"linear.* changed the backbone"):
        classification.fit(
            of_run(run), data, protocol, Runtime(threads=1), torch.device("cpu"), folder=tmp_path / "fit", seed=0
        )
    assert not list((tmp_path / "fit").glob("*/result.json"))


def test_buffers_are_of_the_backbone_too() -> None:
    module = nn.BatchNorm1d(3)
    before = backbone_digest(module)
    check_unchanged(module, before, "nothing")
    module(torch.randn(4, 3))  # in training mode: the running mean moves
    with pytest.raises(AssertionError, match="a forward pass changed the backbone"):
        check_unchanged(module, before, "a forward pass")
