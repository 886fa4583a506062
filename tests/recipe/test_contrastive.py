"""The recipes of SimCLR and MoCo against what their papers and code say, number by number."""

from __future__ import annotations

import pytest

from barlowctl.recipe import load
from barlowctl.recipe.objectives import MoCo, MoCoV2, SimCLR
from barlowctl.recipe.views import View


def colours(view: View) -> tuple[float, ...]:
    return (view.jitter, view.brightness, view.contrast, view.saturation, view.hue, view.grayscale, view.blur)


def test_simclr() -> None:
    recipe = load.load("resnet50-simclr")
    assert recipe.objective == SimCLR(temperature=0.1, scale=2.0)
    assert recipe.model.projector == (2048, 128)
    assert recipe.views.first == recipe.views.second
    assert (recipe.views.first.crop_scale, recipe.views.first.brightness_added) == ((0.08, 1.0), True)
    assert colours(recipe.views.first) == (0.8, 0.8, 0.8, 0.8, 0.2, 0.2, 0.5)
    assert (recipe.views.mean, recipe.views.std) == ((0.0,) * 3, (1.0,) * 3)
    optimizer, train = recipe.optimizer, recipe.train
    assert (optimizer.name, optimizer.lars_variant, optimizer.exclude_biases) == ("lars", "simclr", True)
    assert optimizer.lr * train.batch_size / 256 == pytest.approx(4.8)
    assert (optimizer.lr_biases, optimizer.weight_decay, optimizer.momentum) == (optimizer.lr, 1e-6, 0.9)
    assert (train.epochs, train.batch_size, train.warmup_epochs, train.final_lr_scale) == (1000, 4096, 10, 0.0)
    assert train.sync_batch_norm


@pytest.mark.parametrize("name", ["resnet50-moco", "resnet50-moco-v2"])
def test_what_both_mocos_share(name: str) -> None:
    recipe = load.load(name)
    assert isinstance(recipe.objective, MoCo | MoCoV2)
    assert (recipe.objective.queue, recipe.objective.momentum, recipe.objective.symmetric) == (65536, 0.999, False)
    assert recipe.train.batch_size // recipe.objective.batch_norm_groups == 32  # images on each of 8 GPUs
    assert recipe.views.first == recipe.views.second
    assert recipe.views.first.crop_scale == (0.2, 1.0)
    optimizer, train = recipe.optimizer, recipe.train
    assert (optimizer.name, optimizer.lr, optimizer.lr_biases, optimizer.momentum) == ("sgd", 0.03, 0.03, 0.9)
    assert (optimizer.weight_decay, optimizer.exclude_biases) == (1e-4, False)
    assert (train.batch_size, train.warmup_epochs, train.sync_batch_norm, recipe.data.drop_last) == (
        256,
        0,
        False,
        True,
    )
    assert not recipe.model.zero_init_last


def test_where_the_two_mocos_differ() -> None:
    first, second = load.load("resnet50-moco"), load.load("resnet50-moco-v2")
    assert (first.model.projector, second.model.projector) == ((128,), (2048, 128))
    assert isinstance(first.objective, MoCo)
    assert isinstance(second.objective, MoCoV2)
    assert (first.objective.temperature, second.objective.temperature) == (0.07, 0.2)
    assert (colours(first.views.first), first.views.first.grayscale_first) == (
        (1.0, 0.4, 0.4, 0.4, 0.4, 0.2, 0.0),
        True,
    )
    assert colours(second.views.first) == (0.8, 0.4, 0.4, 0.4, 0.1, 0.2, 0.5)
    assert (first.train.epochs, first.train.schedule, first.train.milestones) == (200, "step", (120, 160))
    cosine = (second.train.epochs, second.train.schedule, second.train.schedule_every, second.train.final_lr_scale)
    assert cosine == (800, "cosine", "epoch", 0.0)


@pytest.mark.parametrize("name", ["simclr", "moco", "moco-v2"])
def test_the_small_recipes_have_quickstarts_images_network_and_views_and_one_length(name: str) -> None:
    quick, small = load.load("quickstart"), load.load(f"fashion-mnist-{name}")
    assert (small.data, small.views, small.optimizer, small.eval) == (
        quick.data,
        quick.views,
        quick.optimizer,
        quick.eval,
    )
    assert (small.model.backbone_args, small.train.epochs) == (quick.model.backbone_args, 5)
    assert small.objective.name == name
