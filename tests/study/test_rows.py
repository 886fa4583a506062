"""Every row of Tables 5 and 6, from the study's overrides to the loss: against the float64 oracle of the formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from barlowctl.assemble.model import build_method
from barlowctl.methods import BarlowTwins, Targets
from barlowctl.recipe import load
from barlowctl.study import figure, studies
from barlowctl.study.study import Study
from tests.oracles import loss as oracle

BASE = load.load(
    "resnet50",
    [
        "model.backbone=resnet10t",
        "model.backbone_args={channels = [4, 8, 8, 16], stem_width = 8}",
        "model.projector=[24, 24, 12]",
        "views.size=32",
        "eval.resize=32",
        "eval.crop=32",
    ],
)
LAMBD = BASE.objective.lambd
TABLE_5: dict[str, dict[str, Any]] = {
    "baseline": {"lambd": LAMBD},
    "only-invariance": {"lambd": LAMBD, "terms_used": "invariance"},
    "only-redundancy": {"lambd": LAMBD, "terms_used": "redundancy"},
    "feature-normalization": {"lambd": LAMBD, "normalization": "feature"},
    "no-bn-in-mlp": {"lambd": LAMBD},
    "no-bn-no-normalization": {"lambd": LAMBD, "normalization": "none"},
    "cross-entropy": {"lambd": 1.0, "criterion": "cross-entropy", "temperature": 0.1},
}


def method_of(study: Study, name: str) -> BarlowTwins:
    variant = next(variant for variant in study.variants if variant.name == name)
    return build_method(load.override(BASE, variant.overrides)).double()


def views() -> list[Tensor]:
    return [torch.randn(16, 3, 32, 32, dtype=torch.float64) for _ in range(2)]


def numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def test_the_rows_are_those_of_the_study() -> None:
    assert list(TABLE_5) == [variant.name for variant in studies.loss().variants]


@pytest.mark.parametrize("name", TABLE_5)
def test_a_row_of_table_5_is_its_formula_on_the_right_network(name: str) -> None:
    method = method_of(studies.loss(), name)
    norms = [module for module in method.projector if isinstance(module, nn.BatchNorm1d)]
    assert len(norms) == (0 if name.startswith("no-bn") else 2)
    assert all(module.bias is None for module in method.projector if isinstance(module, nn.Linear))
    images = views()
    with torch.no_grad():
        z1, z2 = (method.projector(method.backbone(view)) for view in images)
        ours = method(images)
    z1, z2 = numbers(z1), numbers(z2)
    assert ours.loss.item() == pytest.approx(BASE.objective.scale * oracle.loss(z1, z2, **TABLE_5[name]), rel=1e-9)


@pytest.mark.parametrize("name", ["baseline", "stop-gradient", "predictor", "stop-gradient-and-predictor"])
def test_a_row_of_table_6_is_its_formula_with_gradient_where_it_belongs(name: str) -> None:
    method = method_of(studies.asymmetry(BASE.model.projector), name)
    z1, z2 = method.embeddings(views())
    assert z1.requires_grad
    assert z2.requires_grad == ("stop-gradient" not in name)
    if "predictor" in name:
        predictor = method.predictor
        assert isinstance(predictor, nn.Sequential)
        kinds = [type(module) for module in predictor]
        assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]  # two layers, as wide as the projector's output
        assert [tuple(m.weight.shape) for m in predictor if isinstance(m, nn.Linear)] == [(12, 12), (12, 12)]
    else:
        assert method.predictor is None
    expected = BASE.objective.scale * oracle.loss(numbers(z1), numbers(z2), lambd=LAMBD)
    assert method.compare([z1, z2], Targets.unlabelled(len(z1))).loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("spread", "words"), [(0.5, " (± sd)"), (None, "")])
def test_a_legend_names_bars_only_where_there_are_some(spread: float | None, words: str) -> None:
    """Of one seed each there are none."""
    assert figure._spread([{"knn_sd": None}, {"knn_sd": spread}], "knn_sd", "± sd") == words
