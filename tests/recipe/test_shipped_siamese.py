"""The ImageNet recipes of BYOL, SimSiam and SwAV against the papers and the authors' code, value by value."""

from __future__ import annotations

import math
import re

import pytest

from barlowctl.recipe import catalog, load
from barlowctl.recipe.objectives import BYOL, SimSiam, SwAV
from barlowctl.recipe.schema import Recipe
from barlowctl.recipe.views import View
from barlowctl.train.schedule import scheduled

PUBLISHED = ["resnet50-byol", "resnet50-simsiam", "resnet50-swav", "resnet50-swav-multicrop"]
IMAGES = 1_281_167


def colours(view: View) -> tuple[float, ...]:
    jitter = (view.jitter, view.brightness, view.contrast, view.saturation, view.hue)
    return (*jitter, view.grayscale, view.blur, view.solarize)


def peak(recipe: Recipe) -> float:
    return recipe.optimizer.lr * recipe.train.batch_size / 256


def factor(recipe: Recipe, epoch: float) -> float:
    """Of the learning rate, an epoch's share into training."""
    per_epoch = IMAGES // recipe.train.batch_size
    return scheduled(
        round(epoch * per_epoch),
        total_steps=round(recipe.train.epochs * per_epoch),
        steps_per_epoch=per_epoch,
        warmup_epochs=recipe.train.warmup_epochs,
        start_scale=recipe.train.warmup_start_scale,
        kind=recipe.train.schedule,
        every=recipe.train.schedule_every,
        final_scale=recipe.train.final_lr_scale,
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_all_have(name: str) -> None:
    """One ResNet-50 on 224 pixels, whole batches, batch norm over devices, W_ref 1 said with its reason."""
    recipe = load.load(name)
    assert (recipe.model.backbone, recipe.views.size, recipe.data.drop_last) == ("resnet50", 224, True)
    assert recipe.train.sync_batch_norm
    assert recipe.optimizer.lr == recipe.optimizer.lr_biases
    header = " ".join(catalog.find(name).read_text(encoding="utf-8").split("\nname =")[0].replace("\n#", " ").split())
    assert "W_ref is 1, and no number depends on it" in header
    for view in (recipe.views.first, recipe.views.second):
        assert (view.flip, view.blur_sigma) == (0.5, (0.1, 2.0))


def test_byol() -> None:
    """Tables 6 and 8 of the paper, `configs/byol.py`."""
    recipe = load.load("resnet50-byol")
    assert recipe.objective == BYOL(momentum=0.996, momentum_schedule="cosine")
    assert colours(recipe.views.first) == (0.8, 0.4, 0.4, 0.2, 0.1, 0.2, 1.0, 0.0)
    assert colours(recipe.views.second) == (0.8, 0.4, 0.4, 0.2, 0.1, 0.2, 0.1, 0.2)
    assert recipe.views.first.brightness_added
    assert (recipe.views.first.crop_scale, recipe.views.interpolation) == ((0.08, 1.0), "bicubic")
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.lars_variant, optimizer.eta, optimizer.momentum) == (
        "lars",
        "barlow-twins",
        0.001,
        0.9,
    )
    assert (optimizer.weight_decay, optimizer.exclude_biases) == (1.5e-6, True)
    assert (recipe.train.epochs, recipe.train.batch_size, peak(recipe)) == (1000, 4096, pytest.approx(3.2))
    assert factor(recipe, 5) == pytest.approx(0.5, rel=1e-3)
    assert factor(recipe, 505) == pytest.approx(0.5, rel=1e-3)
    assert factor(recipe, 1000) == 0.0


def test_byols_shorter_schedules() -> None:
    header = catalog.find("resnet50-byol").read_text(encoding="utf-8")
    given = re.findall(r"--set (\S+)", header)
    recipe = load.load("resnet50-byol", given)
    assert (recipe.train.epochs, recipe.optimizer.lr, recipe.optimizer.lr_biases) == (300, 0.3, 0.3)
    assert isinstance(recipe.objective, BYOL)
    assert (recipe.optimizer.weight_decay, recipe.objective.momentum) == (1e-6, 0.99)


def test_simsiam() -> None:
    """Section 3 and Table 4 of the paper, `main_simsiam.py`."""
    recipe = load.load("resnet50-simsiam")
    assert recipe.objective == SimSiam()
    for view in (recipe.views.first, recipe.views.second):
        assert colours(view) == (0.8, 0.4, 0.4, 0.4, 0.1, 0.2, 0.5, 0.0)
        assert view.crop_scale == (0.2, 1.0)
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (optimizer.exclude_biases, optimizer.nesterov) == (False, False)
    assert (recipe.train.epochs, recipe.train.batch_size, peak(recipe)) == (800, 256, pytest.approx(0.05))
    assert factor(recipe, 0) == 1.0  # no warm-up
    assert factor(recipe, 400.5) == pytest.approx(0.5 * (1 + math.cos(math.pi * 400 / 800)))  # constant in an epoch


@pytest.mark.parametrize(("name", "epochs", "smallest"), [("swav", 400, 0.08), ("swav-multicrop", 800, 0.14)])
def test_swav(name: str, epochs: int, smallest: float) -> None:
    """`scripts/swav_400ep_2x224_pretrain.sh` and `scripts/swav_800ep_pretrain.sh`."""
    recipe = load.load(f"resnet50-{name}")
    assert recipe.objective == SwAV(
        prototypes=3000, temperature=0.1, epsilon=0.05, sinkhorn_iterations=3, freeze_prototypes_epochs=1, queue=0
    )
    multi = name == "swav-multicrop"
    assert recipe.sizes == [224, 224] + [96] * 6 * multi
    for view in [recipe.views.first, recipe.views.second, *[recipe.views.small] * multi]:
        assert colours(view) == (0.8, 0.8, 0.8, 0.8, 0.2, 0.2, 0.5, 0.0)
    assert recipe.views.first.crop_scale == recipe.views.second.crop_scale == (smallest, 1.0)
    assert recipe.views.small.crop_scale == (0.05, 0.14)
    assert recipe.views.std == (0.228, 0.224, 0.225)
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.lars_variant, optimizer.clip_trust_ratio) == ("lars", "larc", False)
    assert (optimizer.eta, optimizer.weight_decay, optimizer.exclude_biases) == (0.001, 1e-6, False)
    assert (recipe.train.epochs, recipe.train.batch_size, peak(recipe)) == (epochs, 4096, pytest.approx(4.8))
    assert 4.8 * factor(recipe, 0) == pytest.approx(0.3)
    assert factor(recipe, 10) == 1.0
    assert 4.8 * factor(recipe, epochs) == pytest.approx(0.0048)
    assert not recipe.model.zero_init_last


def test_swavs_small_batches() -> None:
    """`scripts/swav_400ep_bs256_pretrain.sh`."""
    header = catalog.find("resnet50-swav-multicrop").read_text(encoding="utf-8")
    lines = [line for line in header.splitlines() if line.startswith("#   --set")]
    recipe = load.load("resnet50-swav-multicrop", re.findall(r"--set (\S+)", "".join(lines)))
    assert (recipe.train.epochs, recipe.train.batch_size, peak(recipe)) == (400, 256, pytest.approx(0.6))
    assert factor(recipe, 0) == 1.0
    assert 0.6 * factor(recipe, 400) == pytest.approx(0.0006)
    assert isinstance(recipe.objective, SwAV)
    assert (recipe.objective.queue, recipe.objective.queue_from_epoch) == (3840, 15)
