"""Views in one pass: the same loss and gradients as a pass for each, and only where that is so."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from barlowctl.assemble.model import build_method, move_to_device
from barlowctl.kernels import thread_team
from barlowctl.methods import Method
from barlowctl.model import choose_attention, choose_convolutions, choose_linears
from barlowctl.model.cpu.fused_blocks import choose_norms
from barlowctl.model.cpu.fused_norm import FusedBatchNormAct2d
from barlowctl.model.one_pass import OnePass
from barlowctl.recipe import load

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SMALL = [
    "model.backbone_args={layers=[1,1,1,1], channels=[8,8,8,16], stem_type='deep', stem_width=8}",
    "model.projector=[16,16]",
]


FAMILIES = [
    "test_efficientnet", "mobilenetv3_small_050", "mobilenetv4_conv_small_035", "regnety_002", "gernet_s",
    "resnetv2_18",
]  # fmt: skip
"""Whose classes are said to go row by row."""


def views(count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(16, 1, 20, 20, generator=generator) for _ in range(count)]


def trained(recipe_name: str, *, one_pass: bool, bf16: bool = True, **ways: bool) -> tuple[Method, list[int]]:
    """The method after a loss and its gradient, and how many images each call of the backbone had."""
    recipe = load.load(recipe_name, [*SMALL, "train.channels_last=true"])
    method = move_to_device(build_method(recipe), recipe, CPU, one_pass=one_pass, **ways).train()
    images: list[int] = []
    method.backbone.register_forward_hook(lambda module, inputs, output: images.append(len(inputs[0])))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = method(views()).loss
    loss.backward()
    return method, images


def gradient(method: Method) -> Tensor:
    return torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("name", ["quickstart", "fashion-mnist-vicreg", "fashion-mnist-byol"])
def test_it_is_a_pass_for_each_view_up_to_rounding(name: str, bf16: bool) -> None:
    each, each_images = trained(name, one_pass=False, bf16=bf16)
    both, both_images = trained(name, one_pass=True, bf16=bf16)
    assert len(each_images) > 1
    assert both_images == [sum(each_images)]
    a, b = gradient(each), gradient(both)
    # in bf16 each view's part of a weight's was rounded, now their sum
    assert (a - b).norm() < (0.05 if bf16 else 1e-4) * a.norm()
    rounding = {"rtol": 2e-2, "atol": 2e-3} if bf16 else {"rtol": 1e-5, "atol": 1e-6}
    for key, buffer in each.backbone.named_buffers():
        torch.testing.assert_close(both.backbone.get_buffer(key), buffer, **rounding)


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_so_in_other_families_whose_batch_norm_has_its_activation(name: str) -> None:
    """In float32, where a pass for each view is the same up to the order of sums."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).to(memory_format=torch.channels_last)
    each, both = copy.deepcopy(network), network
    choose_norms(both, CPU)
    assert {type(part) for part in both.modules() if isinstance(part, nn.BatchNorm2d)} == {FusedBatchNormAct2d}
    generator = torch.Generator().manual_seed(0)
    pair = [torch.randn(8, 3, 64, 64, generator=generator) for _ in range(2)]
    images: list[int] = []
    both.register_forward_hook(lambda module, inputs, output: images.append(len(output)))
    made, expected = OnePass([both])(both, pair), [each(view) for view in pair]
    assert images == [16]
    for own, true in zip(made, expected, strict=True):
        assert (own - true).norm() < 1e-3 * true.norm()
    for embeddings in (made, expected):
        torch.cat(embeddings).square().mean().backward()
    for key, buffer in each.named_buffers():
        torch.testing.assert_close(both.get_buffer(key), buffer, rtol=1e-4, atol=1e-5)
    ours, theirs = (
        torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None]) for part in (both, each)
    )
    assert (ours - theirs).norm() < 1e-2 * theirs.norm()


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("test_vit", {"init_values": 0.1}),
        ("test_vit3", {}),
        ("vit_small_patch16_dinov3", {"depth": 2, "embed_dim": 64, "num_heads": 2}),
        ("eva02_tiny_patch14_224", {"img_size": 56, "depth": 2, "embed_dim": 64, "num_heads": 2}),
        ("test_convnext", {}),
        ("test_convnext2", {}),
        ("test_convnext3", {}),
    ],
)
def test_it_is_so_in_transformers_and_networks_with_layer_norm(name: str, args: dict[str, Any]) -> None:
    """As a run has them: with what is chosen for a CPU."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0, **args).to(memory_format=torch.channels_last)
    each, both = copy.deepcopy(network), network
    choose_attention(both, CPU)
    choose_convolutions(both, CPU)
    choose_linears(both, CPU)
    choose_norms(both, CPU)
    side = args.get("img_size", network.default_cfg["input_size"][-1] if hasattr(network, "patch_embed") else 64)
    pair = [torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    images: list[int] = []
    both.register_forward_hook(lambda module, inputs, output: images.append(len(output)))
    made, expected = OnePass([both])(both, pair), [each(view) for view in pair]
    assert images == [8]
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    for embeddings in (made, expected):
        torch.cat(embeddings).square().mean().backward()
    ours, theirs = (
        torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None]) for part in (both, each)
    )
    assert (ours - theirs).norm() < 1e-4 * theirs.norm()


@pytest.mark.parametrize(
    ("name", "drawing"),
    [
        ("test_vit", {"pos_drop_rate": 0.1}),
        ("test_vit", {"patch_drop_rate": 0.1}),
        ("test_vit", {"attn_drop_rate": 0.1}),
        ("test_vit", {"proj_drop_rate": 0.1}),
        ("test_vit", {"drop_path_rate": 0.1}),
        ("vit_small_patch16_dinov3", {"depth": 1, "patch_drop_rate": 0.1}),
        ("test_convnext", {"drop_rate": 0.1}),
        ("test_convnext", {"drop_path_rate": 0.1}),
    ],
)
def test_a_transformer_that_draws_at_random_has_a_pass_for_each(name: str, drawing: dict[str, Any]) -> None:
    plain = {key: value for key, value in drawing.items() if key == "depth"}
    assert OnePass([timm.create_model(name, num_classes=0, **plain)]).goes
    assert not OnePass([timm.create_model(name, num_classes=0, **drawing)]).goes


def test_so_has_one_whose_patches_places_are_distorted() -> None:
    network = timm.create_model("vit_small_patch16_dinov3", num_classes=0, depth=1)
    assert OnePass([network]).goes
    network.rope.aug_active = True
    assert not OnePass([network]).goes


@pytest.mark.parametrize("drawing", [{"drop_rate": 0.1}, {"drop_path_rate": 0.1}])
@pytest.mark.parametrize("name", ["test_efficientnet", "regnety_002", "resnet10t"])
def test_what_draws_at_random_has_a_pass_for_each(name: str, drawing: dict[str, Any]) -> None:
    network = timm.create_model(name, num_classes=0, **drawing)
    choose_norms(network, CPU)
    assert not OnePass([network]).goes


def test_what_is_computed_again_in_the_backward_pass_has_a_pass_for_each() -> None:
    """By then batch norm no longer knows of parts."""
    recipe = load.load("quickstart", [*SMALL, "train.activation_checkpointing=true"])
    assert move_to_device(build_method(recipe), recipe, CPU).one_pass is None


def test_maps_in_another_format_have_a_pass_for_each() -> None:
    """Our batch norms take them in channels_last alone."""
    recipe = load.load("quickstart", [*SMALL, "train.channels_last=false"])
    assert move_to_device(build_method(recipe), recipe, CPU).one_pass is None


def test_torchs_batch_norm_has_a_pass_for_each() -> None:
    assert trained("quickstart", one_pass=True, norms=False)[1] == [16, 16]


@pytest.mark.parametrize(
    "kind", ["fp16", "two sizes", "threads without a team", "evaluation", "dropout", "another norm"]
)
def test_where_it_would_not_be_the_same_or_no_faster(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Identity())
    if kind == "dropout":
        network[3] = nn.Dropout()
    if kind == "another norm":
        network[3] = nn.GroupNorm(2, 4)
    choose_norms(network, CPU)
    pair = views()
    if kind == "two sizes":
        pair[1] = pair[1][..., :18, :18]
    if kind == "threads without a team":
        torch.set_num_threads(2)
        monkeypatch.setattr(thread_team, "address", lambda: None)
    if kind == "evaluation":
        network.eval()
    images: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: images.append(len(output)))
    with torch.autocast("cpu", dtype=torch.float16 if kind == "fp16" else torch.bfloat16):
        made = OnePass([network])(network, pair)
    assert images == [16, 16]
    assert len(made) == 2


def test_norms_are_as_before_after_an_error() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(400, 4), nn.BatchNorm1d(4))
    choose_norms(network, CPU)

    def broken(view: Tensor) -> Tensor:
        assert network[2].parts == 2
        raise RuntimeError("out of memory")

    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(RuntimeError, match="memory"):
        OnePass([network])(broken, views())
    assert network[2].parts == 1


def test_a_copy_of_a_method_has_its_own_norms() -> None:
    """A run's dry run and its estimate copy what they measure."""
    method, _ = trained("quickstart", one_pass=True)
    again = copy.deepcopy(method)
    assert isinstance(again.one_pass, OnePass)
    own = set(map(id, again.modules()))
    assert all(id(norm) in own for norm in again.one_pass.norms)
