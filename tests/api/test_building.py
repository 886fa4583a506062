"""Every method as a module: in a loop of one's own it does what the engine's step does."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

import barlowctl
from barlowctl.api.recipes import open_recipe
from barlowctl.methods import Method, Targets
from barlowctl.train.step import TrainingStep

VIT = {"model.backbone": "vit_tiny_patch16_224", "model.backbone_args": {"patch_size": 4, "depth": 1}}
NAMES = (
    "barlow-twins", "mixed-barlow-twins", "vicreg", "simclr", "moco", "moco-v2", "byol", "simsiam", "swav", "pirl",
)  # fmt: skip
PATCHES = {"views.patches.grid": 2, "views.patches.cell": 16, "views.patches.window": 16}


def overrides(name: str) -> dict[str, object]:
    """Keys of a method with which it takes 8 images of 16 pixels."""
    small: dict[str, dict[str, object]] = {
        "moco": {"objective.queue": 16},
        "moco-v2": {"objective.queue": 16},
        "pirl": {
            "objective.negatives": 4,
            "views.patches.grid": 2,
            "views.patches.cell": 16,
            "views.patches.window": 16,
        },
        "swav": {"objective.prototypes": 8},
    }
    return {"objective.name": name, "model.projector": [32, 16], "train.batch_size": 8, **small.get(name, {})}


def network() -> nn.Module:
    """A backbone that is not of timm: 1 x S x S -> 12 features."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def batches(sizes: list[int]) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [[torch.randn(8, 1, size, size, generator=generator) for size in sizes] for _ in range(3)]


def trained_here(method: Method, steps: list[list[Tensor]]) -> list[float]:
    """The loop of docs/python.md; returns its losses."""
    optimizer, losses = torch.optim.SGD(method.parameters(), lr=0.1), []
    method.train()
    for step, views in enumerate(steps):
        progress = torch.tensor(step / len(steps))
        method.before_step(progress)
        terms = method(views, Targets(torch.full((8,), -1), torch.arange(8), None, progress))
        optimizer.zero_grad()
        terms.loss.backward()
        for parameter in method.withheld(float(progress)):
            parameter.grad = None
        optimizer.step()
        method.after_step(progress)
        losses.append(terms.loss.item())
    return losses


def trained_by_the_engine(method: Method, steps: list[list[Tensor]]) -> list[float]:
    """The same by the step of a run."""
    optimizer, losses = torch.optim.SGD(method.parameters(), lr=0.1), []
    method.train()
    step = TrainingStep(method, optimizer, to_input=None, device=torch.device("cpu"), precision="fp32")
    for number, views in enumerate(steps):
        targets = step.targets(torch.full((8,), -1), torch.arange(8), [8], number / len(steps))
        computed = step.compute(views, targets)
        losses.append(computed.loss())
        step.update(computed)
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_of_ones_own_trains_as_the_engine_does(recipe: Path, name: str) -> None:
    sizes = open_recipe(recipe, overrides(name)).sizes
    methods = [
        barlowctl.build_method(recipe, backbone=network(), overrides=overrides(name), images=8) for _ in range(2)
    ]
    assert methods[0].views <= len(sizes)
    here, there = trained_here(methods[0], batches(sizes)), trained_by_the_engine(methods[1], batches(sizes))
    assert here == there
    assert len(set(here)) == 3
    for (key, value), other in zip(methods[0].state_dict().items(), methods[1].state_dict().values(), strict=True):
        assert torch.equal(value, other), key


def test_without_a_backbone_it_is_the_recipes(recipe: Path) -> None:
    before = torch.get_rng_state()
    first, again = (barlowctl.build_method(recipe) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.eval().backbone(torch.zeros(2, 1, 16, 16)).shape == (2, 32)
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))


def test_a_backbone_must_give_features(recipe: Path) -> None:
    with pytest.raises(barlowctl.UserError, match=r"returned \(2, 4, 14, 14\) for 2 images"):
        barlowctl.build_method(recipe, backbone=nn.Conv2d(1, 4, 3))
    with pytest.raises(barlowctl.UserError, match=r"does not take images of shape \(2, 1, 16, 16\)"):
        barlowctl.build_method(recipe, backbone=nn.Conv2d(3, 4, 3))
    with pytest.raises(barlowctl.UserError, match="a classifier of 1,000 classes"):
        barlowctl.build_method(recipe, backbone=timm.create_model("resnet10t", in_chans=1))
    assert barlowctl.build_method(recipe, backbone=timm.create_model("resnet10t", in_chans=1, num_classes=0))
    assert barlowctl.build_method(recipe, backbone=timm.create_model("vit_tiny_patch16_224", in_chans=1, num_classes=0))
    own = network()
    own.num_features = 24  # type: ignore[assignment]
    with pytest.raises(barlowctl.UserError, match="Sequential gives vectors of 12 numbers, and its num_features is 24"):
        barlowctl.build_method(recipe, backbone=own)
    maps = timm.create_model("resnet10t", in_chans=1, num_classes=0, global_pool="")
    with pytest.raises(barlowctl.UserError, match=r"returned \(2, 512, 1, 1\) for 2 images"):
        barlowctl.build_method(recipe, backbone=maps)


def test_an_image_size_that_patches_do_not_divide_is_refused_as_by_the_command(recipe: Path) -> None:
    with pytest.raises(barlowctl.UserError, match="cuts images into patches of 4: 2 pixels of each side") as error:
        barlowctl.build_method(recipe, overrides={**VIT, "model.image_size": 18})
    assert error.value.allowed == "multiples of 4; the nearest are 16 and 20"


def test_a_method_leads_to_its_backbone_where_a_network_is_taken(recipe: Path) -> None:
    method = barlowctl.build_method(recipe, backbone=network(), overrides={"objective.name": "byol"})
    images = torch.zeros(2, 1, 16, 16)
    for call in (
        lambda: barlowctl.features(method, images),
        lambda: barlowctl.open_network(method),
        lambda: barlowctl.export(method),
    ):
        with pytest.raises(barlowctl.UserError, match=r"^a BYOL is a method: a network with") as refused:
            call()
        assert str(refused.value.allowed).endswith("method.backbone")
    assert barlowctl.features(method.backbone, images, mean=[0.5], std=[0.5], size=16).shape == (2, 12)
