"""Weights matched with a network: whole and in part, under prefixes, with other channels and other image sizes."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from barlowctl.assemble.matching import match
from barlowctl.model import build_backbone

NARROW = {"channels": [4, 8, 8, 8], "stem_width": 4}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}


def resnet(seed: int = 0, channels: int = 3, **arguments: object) -> nn.Module:
    torch.manual_seed(seed)
    return build_backbone("resnet10t", in_chans=channels, **{**NARROW, **arguments})


def vit(seed: int = 0, **arguments: object) -> nn.Module:
    torch.manual_seed(seed)
    return build_backbone("vit_tiny_patch16_224", in_chans=3, **{**VIT, **arguments})


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def test_the_same_network_takes_everything() -> None:
    weights = resnet(1).state_dict()
    matched = match(resnet(), weights)
    assert matched.complete
    assert matched.taken.keys() == weights.keys()
    assert all(torch.equal(matched.taken[key], weights[key]) for key in weights)
    assert not any((matched.reshaped, matched.fresh, matched.unknown, matched.beside))


def test_the_network_is_the_part_of_a_file_that_fits_best() -> None:
    own, follower = resnet(1).state_dict(), resnet(2).state_dict()
    head = {"projector.0.weight": torch.zeros(2, 8), "queue": torch.zeros(2)}
    matched = match(resnet(), {**under("module.encoder_q.", own), **under("module.encoder_k.", follower), **head})
    assert matched.complete
    assert matched.within == "module.encoder_q."  # of two that are alike the first in the file
    assert torch.equal(matched.taken["conv1.0.weight"], own["conv1.0.weight"])
    assert {"projector.0.weight", "queue", "module.encoder_k.bn1.weight"} <= set(matched.beside)


def test_classifiers_and_heads_are_left_without_a_refusal() -> None:
    beside = {"fc.weight": torch.zeros(10, 8), "fc.bias": torch.zeros(10), "prototypes.weight": torch.zeros(3, 8)}
    matched = match(resnet(), {**resnet(1).state_dict(), **beside})
    assert matched.complete
    assert set(matched.beside) == set(beside)


def test_a_deeper_networks_weights_are_half_a_match_though_every_key_is_there() -> None:
    shallow = build_backbone("resnet14t", in_chans=3, layers=[1, 1, 1, 1], **NARROW)
    weights = build_backbone("resnet14t", in_chans=3, layers=[1, 2, 1, 1], **NARROW).state_dict()
    matched = match(shallow, weights)
    assert not matched.fresh
    assert not matched.complete
    assert all(key.startswith("layer2.1.") for key in matched.unknown)


def test_what_is_missing_and_what_has_another_shape_are_told_apart() -> None:
    weights = resnet(1).state_dict()
    del weights["layer2.0.conv1.weight"]
    weights["layer3.0.conv1.weight"] = torch.zeros(3, 8, 3, 3)
    matched = match(resnet(), weights)
    assert not matched.complete
    assert set(matched.fresh) == {"layer2.0.conv1.weight", "layer3.0.conv1.weight"}
    assert matched.misshapen == {"layer3.0.conv1.weight": ((3, 8, 3, 3), (8, 8, 3, 3))}


def test_batch_norms_counters_may_be_missing_as_in_files_of_early_versions() -> None:
    weights = {key: value for key, value in resnet(1).state_dict().items() if "num_batches" not in key}
    assert match(resnet(), weights).complete


@pytest.mark.parametrize(("old", "new"), [(3, 1), (3, 3), (3, 4), (3, 5)])
def test_the_first_layer_is_made_for_other_channels_as_timm_does(old: int, new: int) -> None:
    weights = resnet(1, old).state_dict()
    matched = match(resnet(0, new), weights, channels=old)
    assert matched.complete
    expected = adapt_input_conv(new, weights["conv1.0.weight"])
    torch.testing.assert_close(matched.taken["conv1.0.weight"], expected)
    shapes = (tuple(weights["conv1.0.weight"].shape), tuple(expected.shape))
    assert dict(matched.reshaped) == ({} if old == new else {"conv1.0.weight": shapes})


@pytest.mark.parametrize(("old", "new"), [(4, 1), (4, 3), (1, 3), (1, 4)])
def test_the_first_layer_of_other_channels_is_summed_or_repeated_and_scaled(old: int, new: int) -> None:
    """timm's rule, for old numbers of channels that its function does not take."""
    weights = resnet(1, old).state_dict()
    filters = weights["conv1.0.weight"]
    columns = [filters[:, number % old] for number in range(new)]
    expected = filters.sum(1, keepdim=True) if new == 1 else torch.stack(columns, 1) * old / new
    torch.testing.assert_close(match(resnet(0, new), weights).taken["conv1.0.weight"], expected)


def test_grey_weights_give_on_grey_pictures_in_colour_what_they_gave() -> None:
    grey, colour = resnet(1, 1).eval(), resnet(0, 3).eval()
    matched = match(colour, grey.state_dict(), channels=1)
    assert matched.complete
    colour.load_state_dict(dict(matched.taken))
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(colour(images.repeat(1, 3, 1, 1)), grey(images))


def test_a_layer_within_is_never_made_for_other_channels() -> None:
    weights = resnet(1).state_dict()
    weights["layer1.0.conv1.weight"] = torch.zeros(4, 3, 3, 3)
    assert "layer1.0.conv1.weight" in match(resnet(), weights, channels=3).misshapen


def test_position_embeddings_are_resampled_as_timm_does() -> None:
    weights = vit(1).state_dict()
    matched = match(vit(img_size=48), weights)
    assert matched.complete
    assert dict(matched.reshaped) == {"pos_embed": ((1, 17, 16), (1, 37, 16))}
    expected = timm.layers.resample_abs_pos_embed(weights["pos_embed"], new_size=[6, 6], num_prefix_tokens=1)
    torch.testing.assert_close(matched.taken["pos_embed"], expected)


def test_patches_of_another_size_are_resampled_too() -> None:
    matched = match(vit(patch_size=4, img_size=16), vit(1).state_dict())
    assert matched.complete
    assert dict(matched.reshaped) == {"patch_embed.proj.weight": ((16, 3, 8, 8), (16, 3, 4, 4))}


def test_the_authors_convnext_is_read_by_timms_converter() -> None:
    torch.manual_seed(1)
    arguments = {"depths": [1, 1, 1, 1], "dims": [4, 8, 8, 8]}
    network = build_backbone("convnext_atto", in_chans=3, **arguments)
    state = network.state_dict()
    theirs = {_of_the_authors(key): value for key, value in state.items()}
    assert theirs.keys() != state.keys()
    matched = match(build_backbone("convnext_atto", in_chans=1, **arguments), theirs)
    assert len(matched.taken) > 0.8 * len(state)
    assert torch.equal(matched.taken["stages.1.blocks.0.mlp.fc1.weight"], state["stages.1.blocks.0.mlp.fc1.weight"])
    assert dict(matched.reshaped) == {"stem.0.weight": ((4, 3, 4, 4), (4, 1, 4, 4))}  # under timm's name


def test_a_linear_layer_is_a_convolution_of_one_pixel_and_back() -> None:
    """timm builds the small ConvNeXts with the one (conv_mlp), all others have the other."""
    arguments = {"depths": [1, 1, 1, 1], "dims": [4, 8, 8, 8]}
    linear = build_backbone("convnext_atto", in_chans=3, **arguments, conv_mlp=False).eval()
    convolutions = build_backbone("convnext_atto", in_chans=3, **arguments).eval()
    for one, other in ((linear, convolutions), (convolutions, linear)):
        matched = match(one, other.state_dict())
        assert matched.complete
        assert not matched.reshaped  # the same numbers in the same order
        one.load_state_dict(dict(matched.taken))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(linear(images), convolutions(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [56, 84])
def test_registers_of_dinov2_are_read_though_its_class_token_has_a_position(side: int) -> None:
    """The authors' files and transformers': timm's network has that position within the class token."""
    small = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    network = build_backbone("vit_small_patch14_reg4_dinov2", in_chans=3, img_size=side, **small)
    state = build_backbone("vit_small_patch14_reg4_dinov2", in_chans=3, img_size=56, **small).state_dict()
    position, mask = torch.randn(1, 1, 16), torch.zeros(1, 16)
    theirs = {**state, "pos_embed": torch.cat([position, state["pos_embed"]], 1), "mask_token": mask}
    theirs["register_tokens"] = theirs.pop("reg_token")
    matched = match(network, theirs)
    assert matched.complete
    assert torch.equal(matched.taken["reg_token"], state["reg_token"])
    torch.testing.assert_close(matched.taken["cls_token"], state["cls_token"] + position)
    grid = [side // 14] * 2
    expected = timm.layers.resample_abs_pos_embed(state["pos_embed"], grid, num_prefix_tokens=0)
    torch.testing.assert_close(matched.taken["pos_embed"], expected)
    assert matched.reshaped["pos_embed"][0] == (1, 17, 16)


def _of_the_authors(key: str) -> str:
    """A key of timm's ConvNeXt as facebookresearch/ConvNeXt has it."""
    for ours, theirs in (
        ("stem.", "downsample_layers.0."), (".blocks.", "."), ("mlp.fc1", "pwconv1"), ("mlp.fc2", "pwconv2"),
        ("conv_dw", "dwconv"), ("head.norm", "norm"),
    ):  # fmt: skip
        key = key.replace(ours, theirs)
    parts = key.split(".")
    if parts[0] == "stages" and parts[2] == "downsample":
        return ".".join(["downsample_layers", parts[1], *parts[3:]])
    return key


@pytest.mark.parametrize("side", [32, 48])
def test_torchvisions_transformer_is_read_also_for_another_image_size(side: int) -> None:
    torch.manual_seed(1)
    theirs = VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=64, num_classes=3
    ).eval()
    own = vit(depth=2, img_size=side).eval()
    matched = match(own, theirs.state_dict())
    assert matched.complete
    assert set(matched.beside) == {"heads.head.weight", "heads.head.bias"}
    assert dict(matched.reshaped) == ({} if side == 32 else {"pos_embed": ((1, 17, 16), (1, 37, 16))})
    expected = timm.layers.resample_abs_pos_embed(theirs.encoder.pos_embedding.data, [side // 8] * 2)
    torch.testing.assert_close(matched.taken["pos_embed"], expected)
    own.load_state_dict(dict(matched.taken))
    if side == 32:
        theirs.heads = nn.Identity()  # type: ignore[assignment]
        images = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(own(images), theirs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("before", "after"), [("token", "avg"), ("avg", "token")])
def test_the_last_norm_follows_the_pooling(before: str, after: str) -> None:
    weights = vit(1, global_pool=before).state_dict()
    names = {"token": "norm", "avg": "fc_norm"}
    assert f"{names[before]}.weight" in weights
    weights[f"{names[before]}.weight"].normal_()
    matched = match(vit(global_pool=after), weights)
    assert matched.complete
    assert dict(matched.renamed) == {names[after]: names[before]}
    assert torch.equal(matched.taken[f"{names[after]}.weight"], weights[f"{names[before]}.weight"])
    assert not match(vit(global_pool=before), weights).renamed
