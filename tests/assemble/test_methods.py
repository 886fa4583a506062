"""From an objective to its method: what is built, and what a method refuses of a recipe."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import build_method, preprocessing_of
from barlowctl.assemble.resolve import resolve
from barlowctl.errors import UserError
from barlowctl.methods import PIRL, BarlowTwins, Classifier, Targets
from barlowctl.recipe import load
from barlowctl.recipe.objectives import METHODS
from barlowctl.train.step import TrainingStep

NARROW = ["model.backbone=resnet10t", "model.backbone_args={channels=[4,8,8,8], stem_width=4}", "model.projector=[8]"]
SIZES = ["views.size=32", "eval.resize=32", "eval.crop=32", "train.batch_size=4"]
TINY = load.load("quickstart", [*NARROW, *SIZES])
CONTEXT = Context(images=40, classes=7)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_built_and_takes_the_views_that_its_keys_say(name: str) -> None:
    recipe = load.override(TINY, [f"objective.name={name}"])
    method = build_method(recipe, CONTEXT)
    assert len(recipe.sizes) >= method.views
    targets = Targets.unlabelled(4, label=0)
    terms = method([torch.randn(4, 1, size, size) for size in recipe.sizes], targets)
    assert terms.loss.requires_grad
    assert list(terms._asdict()) == ["loss", *method.terms]


def test_a_supervised_run_has_a_classifier_of_the_images_classes_and_no_projector() -> None:
    method = build_method(load.override(TINY, ["objective.name=supervised"]), CONTEXT)
    assert isinstance(method, Classifier)
    assert (method.head.out_features, list(method.heads())) == (7, ["head"])
    assert all(p.requires_grad for p in method.parameters())
    same = build_method(TINY)
    assert isinstance(same, BarlowTwins)
    for a, b in zip(same.backbone.parameters(), method.backbone.parameters(), strict=True):
        assert torch.equal(a, b)  # drawn first, by the same seed


@pytest.mark.parametrize("name", METHODS)
def test_activations_computed_again_change_nothing(name: str) -> None:
    """Gradients, running statistics, queues and moving averages: of networks that follow others, too."""

    def stepped(recomputes: bool) -> dict[str, Tensor]:
        keys = [f"objective.name={name}", f"train.activation_checkpointing={str(recomputes).lower()}"]
        recipe = load.override(TINY, keys)
        method = build_method(recipe, CONTEXT).train()
        targets = Targets.unlabelled(4, label=0)
        generator = torch.Generator().manual_seed(0)
        views = [torch.randint(0, 256, (4, s, s, 1), dtype=torch.uint8, generator=generator) for s in recipe.sizes]
        step = TrainingStep(
            method,
            None,
            to_input=preprocessing_of(recipe).normalization(),
            device=torch.device("cpu"),
            precision="fp32",
            recomputes=recomputes,
        )
        step.compute(views, targets)
        gradients = {f"grad {key}": p.grad for key, p in method.named_parameters() if p.grad is not None}
        return {**method.state_dict(), **gradients}

    plain, again = stepped(False), stepped(True)
    assert sum(key.startswith("grad ") for key in plain) > 10
    assert plain.keys() == again.keys()
    for key, value in plain.items():
        torch.testing.assert_close(again[key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_what_a_run_notes_of_its_context_comes_back() -> None:
    assert Context.noted(CONTEXT.as_dict()) == CONTEXT
    assert Context.noted(None) == Context()


def test_views_and_predictors_that_a_method_has_no_use_for_are_refused() -> None:
    with pytest.raises(UserError, match=r"Supervised takes one view of each image, .* there are 3") as caught:
        resolve(load.override(TINY, ["objective.name=supervised", "views.small.count=2"]), torch.device("cpu"), 1, 99)
    assert caught.value.next == "--set views.small.count=0"
    with pytest.raises(UserError, match=r"Supervised has no predictor, and model\.predictor is \[8\]") as caught:
        build_method(load.override(TINY, ["objective.name=supervised", "model.predictor=[8]"]), CONTEXT)
    assert caught.value.next == "--set model.predictor=[]"


def test_small_views_are_for_barlow_twins_without_a_second_branch() -> None:
    method = build_method(load.override(TINY, ["views.small.count=2"]), CONTEXT)
    assert isinstance(method, BarlowTwins)
    assert method.small == 2
    for setting in ("objective.stop_gradient=true", "model.predictor=[8]"):
        with pytest.raises(UserError, match="there is no second branch") as caught:
            build_method(load.override(TINY, ["views.small.count=2", setting]), CONTEXT)
        assert caught.value.next == "--set views.small.count=0"
    for name in ("vicreg", "mixed-barlow-twins", "pirl"):
        with pytest.raises(UserError, match=r"takes .* of each image, and with views\.small\.count = 2"):
            build_method(load.override(TINY, [f"objective.name={name}", "views.small.count=2"]), CONTEXT)


def test_lambd_auto_is_resolved_and_said() -> None:
    method = build_method(load.override(TINY, ["objective.lambd=auto"]), CONTEXT)
    assert isinstance(method, BarlowTwins)
    assert method.loss_options["lambd"] == pytest.approx(0.0051 * 32, rel=1e-12)
    assert method.describe(4).startswith("lambd 0.1632 (auto: 0.0051 x sqrt(8192 / 8)), ")


def test_pirls_bank_has_a_row_for_each_image_of_the_source() -> None:
    method = build_method(load.override(TINY, ["objective.name=pirl"]), CONTEXT)
    assert isinstance(method, PIRL)
    assert method.bank.shape == (40, 8)
    assert list(method.heads()) == ["projector", "patch head"]
