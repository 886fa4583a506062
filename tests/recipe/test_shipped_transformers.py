"""The recipes of transformers and ConvNeXt: their settings, their networks, and what their headers say to set."""

from __future__ import annotations

import pytest
import torch

from barlowctl.assemble.model import build_recipe_backbone
from barlowctl.cli.app import run as barlowctl
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.train.groups import parameter_groups
from tests.recipe.test_shipped import header, overrides_in

LARGE = ("vit-small", "vit-small-imagenette", "convnext-tiny")


def network(recipe: Recipe) -> torch.nn.Module:
    with torch.device("meta"):
        return build_recipe_backbone(recipe)


@pytest.mark.parametrize("name", LARGE)
def test_adamw_with_one_rate_a_warm_up_and_drop_path_and_nobody_ran_it(name: str) -> None:
    recipe = load.load(name)
    optimizer = recipe.optimizer
    assert optimizer.name == "adamw"
    assert optimizer.lr == optimizer.lr_biases
    assert optimizer.exclude_biases
    assert optimizer.weight_decay == 0.05
    assert recipe.train.warmup_epochs >= 10
    assert recipe.model.drop_path == 0.1
    assert "have not run it" in header(name)
    backbone = network(recipe)
    assert max(getattr(part, "drop_prob", 0.0) for part in backbone.modules()) == pytest.approx(0.1)
    weights, biases = parameter_groups(backbone, lr=1.0, lr_biases=1.0, weight_decay=0.05)
    kinds = {id(p): kind for kind, group in (("w", weights), ("b", biases)) for p in group["params"]}
    for key, parameter in backbone.named_parameters():
        excepted = parameter.ndim == 1 or key in ("cls_token", "pos_embed")
        assert kinds[id(parameter)] == ("b" if excepted else "w"), key


def test_imagenette_at_both_sizes_and_the_published_setting() -> None:
    recipe = load.load("vit-small-imagenette")
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.model.projector) == (200, 256, (2048, 2048, 2048))
    assert (recipe.optimizer.lr, recipe.optimizer.betas, recipe.objective.lambd) == (5e-4, (0.9, 0.95), 0.0051)
    assert "kNN 81.2, linear 83.0" in header("vit-small-imagenette")
    (line,) = [line for line in header("vit-small-imagenette").splitlines() if "views.size=128" in line]
    for side, patches, given in ((160, 100, recipe), (128, 64, load.load("vit-small-imagenette", overrides_in(line)))):
        backbone = network(given)
        assert (given.views.size, given.eval.crop, backbone.patch_embed.num_patches) == (side, side, patches)
        assert backbone.global_pool == "avg"
    published = network(load.load("vit-small-imagenette", ["model.pooling=token"]))
    assert published.global_pool == "token"


def test_what_the_headers_say_to_set_can_be_set() -> None:
    for name in (*LARGE, "vit-tiny"):
        for line in header(name).splitlines():
            load.load(name, [text.strip("`,.;:") for text in overrides_in(line) if "NORM" not in text])
    assert network(load.load("convnext-tiny", ["model.patch_size=1", "views.size=32", "eval.crop=32"])) is not None


def test_vit_tiny_has_quickstarts_images_views_and_optimizer() -> None:
    vit, resnet = load.load("vit-tiny"), load.load("quickstart")
    assert (vit.data, vit.optimizer, vit.objective) == (resnet.data, resnet.optimizer, resnet.objective)
    assert (vit.views.first, vit.views.second) == (resnet.views.first, resnet.views.second)
    backbone = network(vit)
    assert (backbone.patch_embed.num_patches, len(backbone.blocks), backbone.embed_dim) == (16, 4, 192)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_the_dry_run_needs_no_images(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert barlowctl(["pretrain", "--recipe", name, "--dry-run", "--threads", "1"]) == 0
    assert "not here yet" in capsys.readouterr().out
