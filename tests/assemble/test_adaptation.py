"""A recipe that adapts weights: frozen parts, heads first, layer-wise rates, and what the first lines say of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from timm.optim import param_groups_layer_decay

from barlowctl.assemble.first_lines import describe_adaptation
from barlowctl.assemble.job import Job
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import build_method
from barlowctl.assemble.optimizers import optimizer_of
from barlowctl.assemble.synthetic_steps import SyntheticSteps
from barlowctl.distributed import Ranks
from barlowctl.errors import UserError
from barlowctl.methods import Method
from barlowctl.model import Preprocessing, build_backbone
from barlowctl.model.batch_norm import GlobalBatchNorm
from barlowctl.recipe import load
from barlowctl.recipe.caution import cautions
from barlowctl.recipe.schema import Recipe
from barlowctl.train.optim import OPTIMIZERS

CPU = torch.device("cpu")
SMALL = ["model.projector=[16,16]", "train.batch_size=256"]
RESNET = [*SMALL, "model.backbone=resnet10t", "model.backbone_args={channels=[4,8,8,16],stem_width=4}"]
VIT = [
    *SMALL, "model.backbone=vit_tiny_patch16_224", "views.size=32", "eval.crop=32", "eval.resize=36",
    "model.backbone_args={img_size=32,patch_size=8,embed_dim=12,depth=3,num_heads=2}",
]  # fmt: skip
CONVNEXT = [*SMALL, "model.backbone=convnext_atto", "model.backbone_args={depths=[1,1,1,1],dims=[4,8,8,16]}"]


def recipe_of(*changes: str) -> Recipe:
    return load.load("resnet50", [*changes, "views.size=32", "eval.crop=32", "eval.resize=36"])


def method_of(*changes: str) -> Method:
    return build_method(recipe_of(*changes))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("model", [RESNET, VIT, CONVNEXT], ids=["resnet", "vit", "convnext"])
def test_layers_have_timms_share_of_the_rates_and_heads_the_whole(name: str, model: list[str]) -> None:
    recipe = recipe_of(*model, f"optimizer.name={name}", "optimizer.layer_decay=0.6", "objective.name=byol")
    method = build_method(recipe)
    optimizer = optimizer_of(recipe, method, {"weights": 0.4, "biases": 0.1})
    of_group = {p: group for group in optimizer.param_groups for p in group["params"]}
    values = recipe.model
    whole = build_backbone(values.backbone, in_chans=3, zero_init_last=True, **values.backbone_args)
    whole.reset_classifier(5)  # type: ignore[operator]
    timms = {
        p: group["lr_scale"] for group in param_groups_layer_decay(whole, layer_decay=0.6) for p in group["params"]
    }
    scales = {key: timms[p] for key, p in whole.named_parameters()}
    assert len({scales[key] for key, _ in method.backbone.named_parameters()}) >= 4
    for key, p in method.backbone.named_parameters():
        group = of_group[p]
        is_weight = p.ndim > 1 and key not in ("cls_token", "pos_embed")
        assert group["peak_lr"] == pytest.approx((0.4 if is_weight else 0.1) * scales[key], rel=1e-12), key
        assert group["weight_decay"] == (recipe.optimizer.weight_decay if is_weight else 0.0)
    for head in method.heads().values():
        assert {of_group[p]["peak_lr"] for p in head.parameters()} == {0.4, 0.1}
    trained = [p for part in (method.backbone, *method.heads().values()) for p in part.parameters()]
    assert of_group.keys() == set(trained)  # the moving average is nobody's


@pytest.mark.parametrize(
    ("objective", "networks"), [("barlow-twins", 1), ("byol", 2), ("moco", 2), ("vicreg", 1), ("supervised", 1)]
)
def test_frozen_parts_are_those_of_every_network(objective: str, networks: int) -> None:
    method = method_of(*RESNET, "data.drop_last=true", f"objective.name={objective}", "train.freeze=layer2").train()
    assert len(method.backbones()) == networks
    for backbone in method.backbones():
        modes = {name: module.training for name, module in backbone.named_children()}
        assert {name for name, training in modes.items() if not training} == {"conv1", "bn1", "layer1", "layer2"}
    below = ("conv1", "bn1", "layer1", "layer2")
    trained = {name for name, p in method.backbone.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in method.backbone.named_parameters() if not name.startswith(below)}


def test_batch_norm_of_a_frozen_part_stays_its_own_over_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It evaluates whatever the ranks do; one put in its place would count batches again."""
    recipe = recipe_of(*RESNET, "train.freeze=layer2", "train.sync_batch_norm=true")
    job = Job(recipe, Runtime(), None, cast(Any, None), cast(Any, SimpleNamespace(device=CPU)), Ranks(0, 2))
    monkeypatch.setattr(Job, "context", Context(ranks=Ranks(0, 2)))
    method = job.method.train()
    norms = {name: module for name, module in method.named_modules() if name.endswith(("bn1", "bn2", "bn3"))}
    below = {name for name in norms if name.startswith(("backbone.bn1", "backbone.layer1.", "backbone.layer2."))}
    assert {name for name, module in norms.items() if isinstance(module, GlobalBatchNorm)} == norms.keys() - below
    assert {name for name, module in norms.items() if not module.training} == below
    assert below
    assert norms.keys() > below


def test_all_but_the_heads_and_a_backbone_that_waits() -> None:
    method = method_of(*RESNET, "train.freeze=backbone").train()
    assert not any(p.requires_grad for p in method.backbone.parameters())
    assert not any(module.training for module in method.backbone.modules())
    assert all(p.requires_grad for p in method.heads()["projector"].parameters())
    assert method_of(*RESNET, "train.epochs=40", "train.freeze_backbone_epochs=10").heads_alone == 0.25


def test_the_optimizer_has_what_is_trained() -> None:
    recipe = recipe_of(*RESNET, "train.freeze=layer4", "optimizer.layer_decay=0.5")
    method = build_method(recipe)
    optimizer = optimizer_of(recipe, method, {"weights": 0.4, "biases": 0.1})
    assert [group["name"] for group in optimizer.param_groups] == ["weights", "biases"]  # of the projector
    assert {p for group in optimizer.param_groups for p in group["params"]} == set(method.projector.parameters())  # type: ignore[union-attr,operator]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([], {}),
        (
            ["train.freeze=stem"],
            {"frozen": "the backbone up to stem: {stem:,} of its {all:,} parameters, and its batch norm"},
        ),
        (
            ["train.freeze=backbone", "train.freeze_backbone_epochs=1"],
            {"frozen": "the whole backbone: {all:,} of its {all:,} parameters, and its batch norm"},
        ),
        (
            ["train.freeze_backbone_epochs=2.5", "optimizer.layer_decay=0.5"],
            {
                "frozen": "all of the backbone for the first 2.5 epochs, while the heads learn",
                "layers": "rates of the backbone times 0.5 from layer to layer: 0.0312 at the stem, 0.5 at the top, "
                "1 at the heads",
            },
        ),
    ],
)
def test_the_first_lines_say_what_stays_and_how_rates_fall(changes: list[str], says: dict[str, str]) -> None:
    recipe = recipe_of(*RESNET, *changes)
    method = build_method(recipe)
    sizes = {name: p.numel() for name, p in method.backbone.named_parameters()}
    stem = sum(size for name, size in sizes.items() if name.startswith(("conv1", "bn1")))
    expected = {key: text.format(stem=stem, all=sum(sizes.values())) for key, text in says.items()}
    assert describe_adaptation(recipe, method) == expected


def test_a_part_without_batch_norm_has_none_that_stays() -> None:
    small = "model.backbone_args={embed_dim=8, depth=1, num_heads=2}"
    vit = ["model.backbone=vit_tiny_patch16_224", small, "model.image_size=32"]
    recipe = recipe_of(*vit, "train.freeze=patch_embed")
    (line,) = describe_adaptation(recipe, build_method(recipe)).values()
    assert line.startswith("the backbone up to patch_embed: 6,152 of its ")  # 8 filters of 3 x 16 x 16, and biases
    assert line.endswith(" parameters")


def test_a_step_that_is_timed_trains_all_that_is_trained() -> None:
    """The first steps of such a run cost less than most."""
    method = method_of(*RESNET, "train.epochs=40", "train.freeze_backbone_epochs=10").train()
    preprocessing = Preprocessing(resize=36, crop=32, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
    SyntheticSteps(preprocessing, method, torch.device("cpu"), 4, sizes=[32, 32]).take("fp32")
    assert all(p.grad is not None for p in method.backbone.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["train.epochs=5", "train.warmup_epochs=1", "train.freeze_backbone_epochs=5"],
            "the backbone would never move",
        ),
        (["optimizer.layer_decay=0"], "layer_decay"),
        (["optimizer.layer_decay=1.1"], "layer_decay"),
        (["train.freeze_backbone_epochs=-1"], "freeze_backbone_epochs"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_recipe(changes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe_of(*RESNET, *changes)


def test_a_run_of_before_there_was_freezing_has_the_digest_it_had() -> None:
    recipe = load.load("quickstart")
    assert load.digest(recipe) != load.digest(load.override(recipe, ["train.freeze=stem"]))
    values = recipe.model_dump(mode="json")
    del values["train"]["freeze"], values["train"]["freeze_backbone_epochs"], values["optimizer"]["layer_decay"]
    assert load.digest(load.validate(values, "before")) == load.digest(recipe)


def test_random_weights_that_are_kept_are_warned_about() -> None:
    def says(*changes: str) -> list[str]:
        return cautions(recipe_of(*RESNET, *changes))

    message = "train.freeze = 'layer2' keeps random weights as they are; name weights to start from with --init"
    assert says("train.freeze=layer2", "train.freeze_backbone_epochs=1") == [message]
    waits = "for the first 2.5 epochs the heads learn from a backbone of random weights; "
    assert says("train.freeze_backbone_epochs=2.5") == [f"{waits}name weights to start from with --init"]
    assert says("train.freeze=layer2", "train.freeze_backbone_epochs=1", "init.weights=run") == []
    assert says("train.freeze=stem") == says("train.freeze=patch_embed") == says() == []
