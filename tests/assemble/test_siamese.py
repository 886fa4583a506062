"""BYOL, SimSiam and SwAV from recipes: heads as published, groups of the optimizer, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from barlowctl.assemble.compiling import compile_networks
from barlowctl.assemble.methods import Context, check_views
from barlowctl.assemble.model import build_method
from barlowctl.assemble.optimizers import optimizer_of
from barlowctl.errors import UserError
from barlowctl.methods import BYOL, Method, SimSiam, SwAV
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.train.optim import set_learning_rates

NARROW = ["model.backbone=resnet10t", "model.backbone_args={channels=[4,8,8,8], stem_width=4}"]
SIZES = ["views.size=32", "eval.resize=32", "eval.crop=32", "train.batch_size=4"]


def recipe_of(name: str, *overrides: str) -> Recipe:
    """A published recipe on a network that is built at once."""
    return load.load(name, [*NARROW, *SIZES, "train.precision=fp32", *overrides])


def made(name: str, *overrides: str) -> Method:
    return build_method(recipe_of(name, *overrides), Context())


def layers(head: nn.Module) -> list[str]:
    """Each layer in a word: L (Linear) or B (batch norm) with its width, + for a bias or shift, * for a scale, R."""
    words = []
    for layer in head:  # type: ignore[attr-defined]
        if isinstance(layer, nn.Linear):
            words.append(f"L{layer.out_features}{'' if layer.bias is None else '+'}")
        elif isinstance(layer, nn.BatchNorm1d):
            words.append(f"B{layer.num_features}{'*+' if layer.affine else ''}")
        else:
            assert isinstance(layer, nn.ReLU)
            words.append("R")
    return words


def test_byols_heads_are_as_published() -> None:
    method = made("resnet50-byol")
    assert isinstance(method, BYOL)
    assert layers(method.projector) == layers(method.predictor) == ["L4096+", "B4096*+", "R", "L256"]
    norm = method.projector[1]  # type: ignore[index]
    assert (1 - norm.momentum, norm.eps) == (0.9, 1e-5)
    assert (method.target.momentum, method.target.schedule) == (0.996, "cosine")
    online = [*method.backbone.parameters(), *method.projector.parameters()]
    for p, other in zip(method.target.parameters(), online, strict=True):
        assert torch.equal(p, other)
        assert not p.requires_grad


def test_simsiams_heads_are_as_published() -> None:
    method = made("resnet50-simsiam")
    assert isinstance(method, SimSiam)
    assert method.predictor is not None
    assert layers(method.projector) == ["L2048", "B2048*+", "R", "L2048", "B2048*+", "R", "L2048+", "B2048"]
    assert layers(method.predictor) == ["L512", "B512*+", "R", "L2048+"]
    still = [name for name, p in method.named_parameters() if not p.requires_grad]
    assert still == ["projector.6.bias"]


def test_swavs_head_is_as_published() -> None:
    method = made("resnet50-swav", "objective.queue=16")
    assert isinstance(method, SwAV)
    assert layers(method.projector) == ["L2048+", "B2048*+", "R", "L128+"]
    assert method.prototypes.weight.shape == (3000, 128)
    assert method.prototypes.bias is None
    assert method.queue is not None
    assert method.queue.shape == (2, 16, 128)
    assert (method.frozen_share, method.queue_from) == (1 / 400, 15 / 400)
    assert len(method.withheld(0.999 / 400)) == 1
    assert len(method.withheld(1 / 400)) == 0


def test_small_recipes_have_predictors_in_the_published_proportion() -> None:
    byol = build_method(load.load("quickstart", ["objective.name=byol", "model.projector=[96,32]"]))
    simsiam = build_method(load.load("quickstart", ["objective.name=simsiam", "model.projector=[96,32]"]))
    assert layers(byol.heads()["predictor"]) == ["L96+", "B96*+", "R", "L32"]
    assert layers(simsiam.heads()["predictor"]) == ["L8", "B8*+", "R", "L32+"]
    bare = build_method(load.load("quickstart", ["objective.name=simsiam", "objective.predictor=false"]))
    assert list(bare.heads()) == ["projector"]


def test_byols_norms_and_biases_neither_decay_nor_adapt_and_all_of_simsiams_decay() -> None:
    rates = {"weights": 0.05, "biases": 0.05}
    byol = optimizer_of(recipe_of("resnet50-byol"), made("resnet50-byol"), rates)
    assert {(group["name"], group["weight_decay"], group["adapt"]) for group in byol.param_groups} == {
        ("weights", 1.5e-6, True),
        ("biases", 0.0, False),
    }
    swav = optimizer_of(recipe_of("resnet50-swav"), made("resnet50-swav"), rates)
    assert {(group["weight_decay"], group["adapt"], group["variant"]) for group in swav.param_groups} == {
        (1e-6, True, "larc")
    }
    method = made("resnet50-simsiam")
    simsiam = optimizer_of(recipe_of("resnet50-simsiam"), method, rates)
    set_learning_rates(simsiam, 0.25)
    predictor = {id(p) for p in method.heads()["predictor"].parameters()}
    for group in simsiam.param_groups:
        assert group["weight_decay"] == 1e-4
        assert group["lr"] == (0.05 if {id(p) for p in group["params"]} & predictor else 0.05 / 4)


def test_the_target_network_is_compiled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a third of BYOL's forward pass. Compiled is each of its networks, as the online network's are."""
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    method = made("resnet50-byol")
    assert isinstance(method, BYOL)
    compile_networks(method)
    assert compiled == [method.backbone, method.projector, method.predictor, *method.target.networks]


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="SwAV has no predictor"):
        made("resnet50-swav", "model.predictor=[8]")
    with pytest.raises(UserError, match="BYOL takes 2 views of each image"):
        check_views(recipe_of("resnet50-byol", "views.small.count=2"))
    check_views(recipe_of("resnet50-swav-multicrop"))
    for name in ("resnet50-byol", "resnet50-simsiam", "resnet50-swav"):
        assert made(name, "train.micro_batch=4").views == 2  # micro-batches are taken
