"""Vision transformers and ConvNeXts: timm, transformers and torchvision load them with the source's features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from barlowctl.errors import UserError
from barlowctl.exports import ExportedModel, export, read_export
from barlowctl.exports.formats.torchvision_network import CONVNEXTS, TRANSFORMERS
from barlowctl.exports.torchvision_keys import from_torchvision
from tests.exports.test_export import assert_same_features, exported, images, run_snippet

VIT: dict[str, Any] = {
    "name": "vit_tiny_patch16_224", "img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2,
}  # fmt: skip
CONVNEXT: dict[str, Any] = {"name": "convnext_atto", "depths": [1, 2, 1, 1], "dims": [8, 16, 24, 32], "size": 64}
MODELS: dict[str, dict[str, Any]] = {
    "class token": VIT,
    "images of another size": {**VIT, "size": 48, "dynamic_img_size": True},
    "mean of patches": {**VIT, "global_pool": "avg"},
    "convnext": CONVNEXT,
    "convnext of small patches": {**CONVNEXT, "patch_size": 2, "size": 32},
}
IN_TORCHVISION = ("class token", "images of another size", "convnext")


def trained(case: str) -> ExportedModel:
    """With norms, layer scale and tokens that are not those of the beginning."""
    model = exported(**MODELS[case])
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            if parameter.ndim == 1 or parameter.shape[:1] == (1,):
                parameter.add_(torch.randn(parameter.shape) * 0.3)
    return model


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("format", ["timm", "hub"])
def test_timm_loads_it_and_so_do_we(tmp_path: Path, case: str, format: str) -> None:
    model = trained(case)
    out = tmp_path / ("out.safetensors" if format == "timm" else "out")
    report = export(model, out, format)
    assert_same_features(model, run_snippet(report.python_line))
    assert run_snippet(f"{report.python_line}\n{report.fine_tuning_line}")(images(model)).shape == (3, 10)
    assert_same_features(model, read_export(out).backbone)
    if format == "hub":
        assert_same_features(model, timm.create_model(f"local-dir:{out}", pretrained=True))


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("case", IN_TORCHVISION)
def test_torchvision_loads_it_and_we_read_it_back(tmp_path: Path, case: str, zeros: bool) -> None:
    model = trained(case)
    report = export(model, tmp_path / "out.safetensors", "torchvision", zero_classifier=zeros)
    assert_same_features(model, run_snippet(report.python_line))
    assert run_snippet(f"{report.python_line}\n{report.fine_tuning_line}")(images(model)).shape == (3, 10)
    back = read_export(tmp_path / "out.safetensors")
    assert_same_features(model, back.backbone)
    assert back.preprocessing == model.preprocessing


def test_torchvisions_own_names_are_used_where_there_is_one(tmp_path: Path) -> None:
    model = exported("convnext_tiny", size=32)
    report = export(model, tmp_path / "out.safetensors", "torchvision")
    assert "torchvision.models.convnext_tiny()" in report.python_line
    loaded = torchvision.models.convnext_tiny(num_classes=10)
    missing, unexpected = loaded.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=False)
    assert (sorted(missing), unexpected) == (["classifier.2.bias", "classifier.2.weight"], [])
    loaded.classifier[2] = nn.Identity()
    assert_same_features(model, loaded)


def test_every_name_is_of_that_shape() -> None:
    with torch.device("meta"):
        for (patch, width, depth), name in TRANSFORMERS.items():
            network = torchvision.models.get_model(name)
            assert (network.patch_size, network.hidden_dim, len(network.encoder.layers)) == (patch, width, depth)
        for (depths, width), name in CONVNEXTS.items():
            ours = timm.create_model(name, num_classes=0)
            theirs = from_torchvision(torchvision.models.get_model(name).state_dict(), ours.state_dict())
            assert theirs is not None
            backbone_shapes = {key: value.shape for key, value in theirs.items() if not key.startswith("classifier.")}
            assert backbone_shapes == {key: value.shape for key, value in ours.state_dict().items()}, name
            blocks = tuple(len(stage.blocks) for stage in ours.stages)
            assert (blocks, ours.feature_info[0]["num_chs"]) == (depths, width)


def test_what_is_of_neither_family_is_left_alone() -> None:
    assert from_torchvision(torchvision.models.resnet18().state_dict(), {}) is None
    assert from_torchvision(exported(**VIT).backbone.state_dict(), {}) is None
    assert from_torchvision({}, {}) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({**VIT, "global_pool": "avg"}, "take the class token, and this one's features are pooled by 'avg'"),
        ({**VIT, "reg_tokens": 2}, "does not fit torchvision's vit_tiny_patch16_224"),
        ({**VIT, "qkv_bias": False}, r"it lacks encoder\.layers\.encoder_layer_0\.self_attention\.in_proj_bias, "),
        ({**VIT, "no_embed_class": True}, "and this one has none for the class token"),
        ({**VIT, "pos_embed": "none"}, "for the class token and the patches, and this one has none$"),
        ({**VIT, "in_chans": 1}, "take 3 channels and this one takes 1"),
        ({**VIT, "act_layer": "relu"}, "gives other features"),
        ({**CONVNEXT, "patch_size": 2}, r"it has stages\.0\.downsample\.0\.weight, .*, unknown to the network; "),
        ({**CONVNEXT, "conv_bias": False}, r"it lacks features\.0\.0\.bias, features\.1\.0\.block\.0\.bias"),
    ],
)
def test_what_torchvision_has_not(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        export(exported(**arguments), tmp_path / "out.safetensors", "torchvision")
    assert error.value.next == "--format timm"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", MODELS)
def test_transformers_loads_the_hub_folder(tmp_path: Path, case: str) -> None:
    transformers = pytest.importorskip("transformers")
    model = trained(case)
    export(model, tmp_path / "folder", "hub")
    loaded = transformers.AutoModel.from_pretrained(tmp_path / "folder").eval()
    x = images(model)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x).pooler_output, model.backbone.eval()(x), atol=1e-5, rtol=1e-5)
