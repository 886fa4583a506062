"""The backbone: timm's models, our stems, and errors that arrive before training does."""

from __future__ import annotations

import pytest
import torch
from timm.layers.blur_pool import BlurPool2d
from torch import nn

from barlowctl import model
from barlowctl.errors import UserError
from barlowctl.model import feature_width, zero_initialized_norms
from barlowctl.model.backbone import WITH_ANTI_ALIASING


def build_backbone(name: str, *, in_chans: int = 3, **arguments) -> nn.Module:
    return model.build_backbone(name, in_chans=in_chans, **arguments)


def check_input(backbone: nn.Module, size: int, *, in_chans: int = 3) -> int:
    return model.check_input(backbone, size, in_chans=in_chans)


def images(channels: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_resnet50_has_the_papers_width_and_zero_last_norms() -> None:
    backbone = build_backbone("resnet50")
    assert backbone.num_features == feature_width(backbone) == 2048
    blocks = [3, 4, 6, 3]
    expected = [f"layer{i + 1}.{j}.bn3" for i, count in enumerate(blocks) for j in range(count)]
    assert zero_initialized_norms(backbone) == tuple(expected)
    assert check_input(backbone, 224) == 2048


def test_zero_init_last_can_be_turned_off() -> None:
    assert zero_initialized_norms(build_backbone("resnet18", zero_init_last=False)) == ()


def test_zero_init_last_is_left_out_where_timm_has_none() -> None:
    backbone = build_backbone("efficientnet_lite0")
    assert zero_initialized_norms(backbone) == ()


@pytest.mark.parametrize(
    ("stem", "kernel", "stride", "map_size"),
    [("cifar", 3, 1, 32), ("stride2", 5, 2, 16), ("default", 7, 2, 8)],
)
def test_stems(stem: str, kernel: int, stride: int, map_size: int) -> None:
    backbone = build_backbone("resnet18", in_chans=1, stem=stem)
    assert backbone.conv1.weight.shape == (64, 1, kernel, kernel)
    assert backbone.conv1.stride == (stride, stride)
    assert backbone.conv1.bias is None
    seen: list[torch.Size] = []
    backbone.layer1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    assert backbone(images(1)).shape == (2, 512)
    assert seen == [torch.Size((2, 64, map_size, map_size))]
    reductions = [stage["reduction"] for stage in backbone.feature_info]
    assert reductions[1] == 32 // map_size
    assert reductions[4] == 8 * reductions[1]


def test_stem_weights_are_initialised_like_timms() -> None:
    backbone = build_backbone("resnet18", stem="cifar")
    # kaiming, fan_out, ReLU: variance 2 / (out_channels * kernel area)
    assert backbone.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


def test_a_narrow_stem_through_timms_deep_stem() -> None:
    backbone = build_backbone("resnet18", stem="stride2", stem_type="deep", stem_width=8, channels=[16, 32, 64, 128])
    assert isinstance(backbone.conv1, nn.Conv2d)
    assert backbone.conv1.weight.shape == (16, 3, 5, 5)
    assert backbone(images()).shape == (2, 128)


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights() -> torch.Tensor:
        torch.manual_seed(3)
        return torch.cat([p.flatten() for p in build_backbone("resnet18", stem="cifar").parameters()])

    assert torch.equal(weights(), weights())


def test_stems_of_other_families_are_refused() -> None:
    with pytest.raises(UserError, match="stem 'cifar' is not available for 'regnetx_002'") as error:
        build_backbone("regnetx_002", stem="cifar")
    assert "resnet18" in (error.value.allowed or "")
    with pytest.raises(UserError, match="unknown stem 'tiny'"):
        build_backbone("resnet18", stem="tiny")


@pytest.mark.parametrize(
    "name", ["timm/resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18.a1_in1k"]
)
def test_weights_on_the_hub_lead_to_their_architecture(name: str) -> None:
    with pytest.raises(UserError, match="names published weights") as error:
        build_backbone(name)
    assert "'resnet18', and beside it --init hf-hub:timm/resnet18.a1_in1k to" in str(error.value.allowed)
    assert error.value.next == "--set model.backbone=resnet18"


def test_unknown_names_get_near_ones() -> None:
    with pytest.raises(UserError, match="no model named 'resnt18'") as error:
        build_backbone("resnt18")
    assert "resnet18" in (error.value.allowed or "")
    assert "; a network of your own is registered with timm first (docs/python.md" in (error.value.allowed or "")
    for path in ("./x", "weights/x", "resnt18.pth"):
        with pytest.raises(UserError, match=f"backbone '{path}' is a path") as error:
            build_backbone(path)
    with pytest.raises(UserError, match="names published weights") as error:
        build_backbone("resnet18.a1_in1k")
    assert "--init resnet18.a1_in1k" in (error.value.allowed or "")
    assert error.value.next == "--set model.backbone=resnet18"
    with pytest.raises(UserError, match="no model named"):
        build_backbone("hf-hub:someone/something")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stem_widht": 3}, "stem_widht"),
        ({"channels": "wide"}, "channels='wide'"),
        ({"act_layer": "no_such"}, "act_layer='no_such'"),
        ({"pretrained": True}, "'pretrained', which barlowctl sets itself"),
        ({"num_classes": 10}, "'num_classes', which"),
    ],
)
def test_arguments_that_timm_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_backbone("resnet18", **arguments)


def test_check_input_finds_a_vit_of_another_size() -> None:
    backbone = build_backbone("vit_tiny_patch16_224")
    with pytest.raises(UserError, match=r"VisionTransformer does not take images of 32x32: .*224") as error:
        check_input(backbone, 32)
    assert error.value.next == "--set model.image_size=32"
    assert check_input(build_backbone("vit_tiny_patch16_224", img_size=32, patch_size=4), 32) == 192


def test_check_input_of_a_network_that_has_no_size_of_its_own() -> None:
    backbone = build_backbone("halonet_h1")  # attention within blocks of 8 pixels, which do not divide 224 / 16
    with pytest.raises(UserError, match=r"ByobNet does not take images of 224x224: .*block_size") as error:
        check_input(backbone, 224)
    assert "or change views.size and eval.crop" in str(error.value.next)
    assert check_input(backbone, 256) == 512


def test_check_input_measures_the_width_where_num_features_is_not_it() -> None:
    backbone = build_backbone("mobilenetv3_small_050")
    assert check_input(backbone, 64) == feature_width(backbone) == backbone(images(size=64)).shape[1]
    assert backbone.num_features != feature_width(backbone)


def test_check_input_refuses_unpooled_features_and_wrong_channels() -> None:
    with pytest.raises(UserError, match="not one vector"):
        check_input(build_backbone("resnet18", global_pool=""), 32)
    with pytest.raises(UserError, match="does not take images"):
        check_input(build_backbone("resnet18", in_chans=1), 32, in_chans=3)


def test_check_input_leaves_no_trace() -> None:
    backbone = build_backbone("resnet18").train()
    backbone.layer1.eval()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    modes = [part.training for part in backbone.modules()]
    generator = torch.get_rng_state()
    check_input(backbone, 32)
    assert [part.training for part in backbone.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key
        assert value.device.type == "cpu"


def test_check_input_leaves_modules_that_others_share_their_weights() -> None:
    """CoaT's blocks have one position encoding: its weights stayed on the meta device."""
    backbone = build_backbone("coat_tiny", embed_dims=[16, 16, 16, 16], serial_depths=[1, 1, 1, 1], parallel_depth=1)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    assert check_input(backbone, 224) == 16
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_check_input_falls_back_to_one_real_image() -> None:
    class Stubborn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) * float(x.sum().item() + 1)  # .item() does not work on the meta device

    assert check_input(Stubborn(), 8) == 3


@pytest.mark.parametrize("layer", ["avg", "blur", "none"])
def test_a_class_that_timm_takes_is_refused_as_a_name(layer: str) -> None:
    """A network with it would be trained, and timm could not load what is exported."""
    with pytest.raises(UserError, match=f"aa_layer='{layer}': one of them is a Python class for timm") as refused:
        build_backbone("resnet18", aa_layer=layer)
    assert refused.value.allowed == "without it, or of resnetblur18, resnetblur50, resnetaa50"
    for name in WITH_ANTI_ALIASING:
        assert any(isinstance(part, BlurPool2d | nn.AvgPool2d) for part in build_backbone(name).modules())


def test_a_layer_that_timm_does_not_have_is_refused_by_its_name() -> None:
    with pytest.raises(UserError, match="with act_layer='none': timm has nothing by the name of 'none'"):
        build_backbone("resnet18", act_layer="none")


@pytest.mark.parametrize("name", ["resnet10t", "regnetx_002", "repvgg_a0"])
def test_two_vectors_of_a_pooling_are_counted_whatever_timm_says(name: str) -> None:
    """timm before 1.0.31 says the width of one."""
    backbone = build_backbone(name, in_chans=3, global_pool="catavgmax")
    width = feature_width(backbone)
    assert width == check_input(backbone, 64, in_chans=3) == 2 * backbone.num_features
    backbone.head_hidden_size = backbone.num_features
    assert feature_width(backbone) == width
