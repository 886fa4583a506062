"""What is advised where a network does not take a recipe's images: settings that were tried."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import timm
import torch

from barlowctl import waits
from barlowctl.assemble import fitting, model
from barlowctl.assemble.model import build_recipe_backbone
from barlowctl.errors import UserError
from barlowctl.recipe import catalog, load
from barlowctl.recipe.schema import Recipe

GREY = ("data.channels=1", "views.mean=[0.5]", "views.std=[0.2]")


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "SECONDS", 60.0)


def recipe(backbone: str, size: int, *more: str) -> Recipe:
    sizes = (f"{key}={size}" for key in ("views.size", "eval.resize", "eval.crop"))
    base = load.load(str(catalog.find("imagenet100-resnet18")))
    return load.override(base, [f"model.backbone={backbone}", "model.stem=default", *sizes, *more])


def advice(chosen: Recipe) -> str:
    """What is advised, without a moment's weights."""
    with pytest.raises(UserError) as refused, torch.device("meta"):
        build_recipe_backbone(chosen)
    return str(refused.value.next)


@pytest.mark.parametrize(
    ("backbone", "size", "more", "expected"),
    [
        pytest.param("vit_tiny_patch16_224", 96, (), "model.image_size=96", marks=pytest.mark.slow),
        ("vit_tiny_patch16_224", 100, (), "model.image_size=96 views.size=96 eval.resize=96 eval.crop=96"),
        pytest.param("vit_tiny_patch16_224", 70, ("model.image_size=96",),
                     "model.image_size=64 views.size=64 eval.resize=64 eval.crop=64", marks=pytest.mark.slow),
        ("vit_tiny_patch16_224", 96, ("views.small.count=4", "views.small.size=40"), "views.small.size=32"),
        ("levit_128s", 96, (), "model.image_size=96"),
        ("resnet18", 96, ('model.backbone_args={global_pool=""}',), None),
    ],
)  # fmt: skip
def test_the_nearest_images_that_fit(backbone: str, size: int, more: tuple[str, ...], expected: str | None) -> None:
    text = advice(recipe(backbone, size, *more))
    if expected is None:
        assert text == "remove global_pool from model.backbone_args"
    else:
        assert text == " ".join(f"--set {change}" for change in expected.split())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:CSATv2 is designed for 3-channel RGB input")
@pytest.mark.parametrize(
    ("backbone", "size", "more", "expected"),
    [
        ("deepseek_vit_412m_enc", 224, (), "--set model.backbone=deepseek_vit_412m"),
        ("qwen3_vit_88m_enc", 224, (), "--set model.backbone=qwen3_vit_88m"),
        ("naflexvit_base_patch16_gap", 132, ("eval.resize=150",),
         "--set views.size=128 --set eval.resize=145 --set eval.crop=128"),
        ("csatv2", 96, GREY, "--set data.channels=3 --set 'views.mean=[0.5, 0.5, 0.5]' "
         "--set 'views.std=[0.25, 0.25, 0.25]'"),
        ("qwen3_vit_88m", 100, (), "--set views.size=96 --set eval.resize=96 --set eval.crop=96"),
        ("gemma4_vit_167m", 100, ("model.image_size=100",),
         "--set model.image_size=96 --set views.size=96 --set eval.resize=96 --set eval.crop=96"),
        ("halonet26t", 96, ("model.image_size=96",),
         "--set model.image_size=256 --set views.size=256 --set eval.resize=256 --set eval.crop=256"),
    ],
)  # fmt: skip
def test_large_networks_too(backbone: str, size: int, more: tuple[str, ...], expected: str) -> None:
    if not timm.is_model(backbone):
        pytest.skip(f"timm {timm.__version__} has no {backbone}")
    assert advice(recipe(backbone, size, *more)) == expected


def test_positions_out_of_range_are_refused_before_training() -> None:
    """On the meta device an index is never out of range: MViTv2's, for larger images than it is built for."""
    small = recipe("mvitv2_tiny", 64, "model.image_size=64")
    assert build_recipe_backbone(small)(torch.zeros(1, 3, 64, 64)).shape == (1, 768)
    with pytest.raises(UserError, match="MultiScaleVit does not take images of 96x96: index 31 is out of bounds") as no:
        build_recipe_backbone(load.override(small, ["views.size=96"]))
    assert no.value.next == "--set model.image_size=96"
    assert build_recipe_backbone(load.override(small, ["views.size=96", "model.image_size=96"]))


@pytest.mark.slow
def test_sizes_that_fail_only_with_weights_are_not_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    """MViTv2 for images of 112 pixels passes without weights, and looks a position up that it has not."""
    monkeypatch.setattr(fitting, "_STEPS", (8,))
    chosen = recipe("mvitv2_tiny", 112, "model.image_size=64")
    with pytest.raises(UserError) as refused:
        build_recipe_backbone(chosen)
    assert refused.value.next is not None
    settings = [word for word in refused.value.next.split() if word != "--set"]
    assert "model.image_size=112" not in settings
    assert build_recipe_backbone(load.override(chosen, settings))


def test_a_search_that_takes_too_long_ends_with_timms_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "SECONDS", -1.0)
    tried: list[int] = []

    def fits(changed: Recipe) -> bool:
        tried.append(changed.views.size)
        return True

    search: Callable[..., Mapping[str, Any] | None] = fitting.first_that_fits
    chosen = recipe("vit_tiny_patch16_224", 100)
    expected = {"views.size": 224, "eval.resize": 224, "eval.crop": 224}
    assert search(chosen, {"views.size": 100, "eval.crop": 100}, fits) == expected
    assert tried == [224]


def test_a_search_is_a_wait_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    given = threading.Event()
    monkeypatch.setattr(waits, "SECONDS", 1e-3)
    monkeypatch.setattr(waits, "_listener", lambda text: given.set())
    monkeypatch.setattr(model, "first_that_fits", lambda *_: {"views.size": 64} if given.wait(10.0) else None)
    with pytest.raises(UserError) as no:
        build_recipe_backbone(recipe("halonet26t", 36))
    assert no.value.next == "--set views.size=64"


def test_a_network_that_took_images_excuses_none_with_other_arguments() -> None:
    """A size is tried once in a process for each network, with all that it is built with."""
    from barlowctl.assemble.model import build_checked_backbone
    from barlowctl.model import WrongImages

    def build(img_size: int, channels: int = 3, sizes: tuple[int, ...] = (32,)) -> None:
        arguments = {"img_size": img_size, "depth": 1}
        build_checked_backbone("vit_tiny_patch16_224", channels, sizes, stem="default", arguments=arguments)

    for _ in range(2):
        build(32)
        with pytest.raises(WrongImages, match="does not take images of 32x32"):
            build(64)
        with pytest.raises(WrongImages, match="does not take images of 48x48"):
            build(32, sizes=(32, 48))
    build(32, channels=1)
