"""Folders as on the Hugging Face Hub: timm's own, and transformers' families under timm's keys."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import Tensor, nn

from barlowctl.assemble.matching import match
from barlowctl.assemble.weights import read_weights
from barlowctl.errors import UserError
from barlowctl.exports import read_export
from barlowctl.exports.model_folder import read_model_folder
from barlowctl.exports.transformers_keys import in_timms_words

NARROW = {"channels": [4, 8, 8, 8], "stem_width": 4}
# A layer of each family as transformers' published files name it (facebook/dinov2-small, google/vit-base-patch16-224,
# facebook/convnext-tiny-224, microsoft/resnet-50), and where timm has it.
PAIRS = {
    "resnet": {
        "resnet.embedder.embedder.convolution.weight": "conv1.weight",
        "resnet.embedder.embedder.normalization.running_var": "bn1.running_var",
        "resnet.encoder.stages.0.layers.0.shortcut.convolution.weight": "layer1.0.downsample.0.weight",
        "resnet.encoder.stages.3.layers.1.shortcut.normalization.bias": "layer4.1.downsample.1.bias",
        "resnet.encoder.stages.2.layers.10.layer.1.convolution.weight": "layer3.10.conv2.weight",
        "encoder.stages.2.layers.10.layer.2.normalization.weight": "layer3.10.bn3.weight",
    },
    "vit": {
        "vit.embeddings.cls_token": "cls_token",
        "vit.embeddings.position_embeddings": "pos_embed",
        "vit.embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
        "vit.encoder.layer.11.attention.output.dense.bias": "blocks.11.attn.proj.bias",
        "vit.encoder.layer.11.intermediate.dense.weight": "blocks.11.mlp.fc1.weight",
        "vit.encoder.layer.11.output.dense.weight": "blocks.11.mlp.fc2.weight",
        "vit.encoder.layer.1.layernorm_before.bias": "blocks.1.norm1.bias",
        "vit.encoder.layer.1.layernorm_after.bias": "blocks.1.norm2.bias",
        "vit.layernorm.weight": "norm.weight",
    },
    "dinov2": {
        "embeddings.register_tokens": "register_tokens",
        "encoder.layer.0.norm2.weight": "blocks.0.norm2.weight",
        "encoder.layer.0.layer_scale2.lambda1": "blocks.0.ls2.gamma",
        "encoder.layer.0.mlp.fc2.bias": "blocks.0.mlp.fc2.bias",
    },
    "convnext": {
        "convnext.embeddings.patch_embeddings.bias": "stem.0.bias",
        "convnext.embeddings.layernorm.weight": "stem.1.weight",
        "convnext.encoder.stages.1.downsampling_layer.1.weight": "stages.1.downsample.1.weight",
        "convnext.encoder.stages.2.layers.8.layer_scale_parameter": "stages.2.blocks.8.gamma",
        "convnext.encoder.stages.2.layers.8.dwconv.bias": "stages.2.blocks.8.conv_dw.bias",
        "convnext.encoder.stages.2.layers.8.layernorm.bias": "stages.2.blocks.8.norm.bias",
        "convnext.encoder.stages.2.layers.8.pwconv2.weight": "stages.2.blocks.8.mlp.fc2.weight",
        "convnext.layernorm.weight": "head.norm.weight",
    },
}


@pytest.mark.parametrize("family", PAIRS)
def test_transformers_keys_are_timms_in_other_words(family: str) -> None:
    pairs = PAIRS[family]
    state = {theirs: torch.full((1,), float(number)) for number, theirs in enumerate(pairs)}
    renamed = in_timms_words(family, state)
    assert renamed is not None
    assert {key: int(value) for key, value in renamed.items()} == {ours: n for n, ours in enumerate(pairs.values())}
    assert in_timms_words("bert", state) is None


def test_every_key_that_is_named_has_its_place_in_timm() -> None:
    built = {"resnet": "resnet50", "vit": "vit_tiny_patch16_224", "convnext": "convnext_tiny"}
    with torch.device("meta"):
        states = {name: timm.create_model(network, num_classes=0).state_dict() for name, network in built.items()}
        states["dinov2"] = timm.create_model("vit_small_patch14_dinov2", num_classes=0).state_dict()
    for family, pairs in PAIRS.items():
        numbers_aside = {re.sub(r"\d+", "0", key) for key in states[family]}
        assert {re.sub(r"\d+", "0", key) for key in pairs.values()} - {"register_tokens"} <= numbers_aside


def test_query_key_and_value_become_one_layer_in_that_order() -> None:
    part = "vit.encoder.layer.0.attention.attention."
    state = {
        f"{part}{name}.weight": torch.full((2, 2), n) for name, n in (("key", 2.0), ("query", 1.0), ("value", 3.0))
    }
    renamed = in_timms_words("vit", state)
    assert renamed is not None
    assert renamed["blocks.0.attn.qkv.weight"][:, 0].tolist() == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    assert list(renamed) == ["blocks.0.attn.qkv.weight"]


@pytest.fixture
def timms(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A folder that timm wrote for the hub, with a classifier, and the model."""
    torch.manual_seed(1)
    model = timm.create_model("resnet10t", num_classes=5, **NARROW)
    save_for_hf(model, tmp_path / "folder", model_args=NARROW)
    return tmp_path / "folder", model


def test_timms_folder_is_a_way_in(timms: tuple[Path, nn.Module]) -> None:
    folder, model = timms
    weights = read_weights(str(folder))
    assert weights.kind == "timm folder"
    assert weights.network is not None
    assert (weights.network.architecture, weights.network.arguments) == ("resnet10t", {"global_pool": "avg", **NARROW})
    assert weights.preprocessing is not None
    assert weights.preprocessing.mean == (0.485, 0.456, 0.406)
    matched = match(timm.create_model("resnet10t", num_classes=0, **NARROW), weights.backbone)
    assert matched.complete
    assert set(matched.beside) == {"fc.weight", "fc.bias"}
    assert torch.equal(matched.taken["conv1.0.weight"], model.state_dict()["conv1.0.weight"])


def test_timms_folder_is_read_whole_with_what_timm_notes_of_its_classifier(tmp_path: Path) -> None:
    """What probe, transfer and embed read; timm notes num_classes and in_chans among its arguments."""
    torch.manual_seed(1)
    model = timm.create_model("resnet10t", num_classes=0, **NARROW).eval()
    save_for_hf(model, tmp_path / "folder", model_args={**NARROW, "num_classes": 0}, safe_serialization=True)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(read_export(tmp_path / "folder").backbone(images), model(images))


def test_weights_of_torch_save_are_read_where_a_folder_has_no_others(timms: tuple[Path, nn.Module]) -> None:
    folder, model = timms
    for name in ("model.safetensors", "pytorch_model.bin"):
        (folder / name).unlink(missing_ok=True)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert torch.equal(read_weights(str(folder)).backbone["bn1.weight"], model.state_dict()["bn1.weight"])


def _folder(path: Path, config: Any, state: dict[str, Tensor] | None, *, beside: str | None = None) -> Path:
    path.mkdir()
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if state is not None:
        save_file(state, path / "model.safetensors")
    if beside is not None:
        (path / beside).touch()
    return path


@pytest.mark.parametrize(
    ("config", "state", "beside", "message"),
    [
        ("{", {}, None, "cannot be read"),
        ("[]", {}, None, "no table"),
        ({"model_type": "bert"}, {}, None, "holds transformers' 'bert', which has no counterpart"),
        ({}, {}, None, "a network that it does not name"),
        ({"model_type": "vit"}, None, None, "it has no weights"),
        ({"model_type": "vit"}, None, "model.safetensors.index.json", "in several files"),
    ],
)
def test_folders_that_cannot_be_read_are_refused(
    config: Any, state: dict[str, Tensor] | None, beside: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        read_model_folder(_folder(tmp_path / "folder", config, state, beside=beside))


def test_transformers_processor_says_mean_and_std(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "vit", {"model_type": "vit"}, {"vit.layernorm.weight": torch.ones(4)})
    assert read_model_folder(folder).preprocessing is None
    processor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3, "size": {"height": 224, "width": 224}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    preprocessing = read_model_folder(folder).preprocessing
    assert preprocessing is not None
    assert (preprocessing.mean, preprocessing.std) == ((0.5,) * 3, (0.25,) * 3)
    assert (preprocessing.resize, preprocessing.crop, preprocessing.interpolation) == (224, 224, "bicubic")
    assert preprocessing.squash  # height and width: whatever the picture's shape
    shorter_side = {**processor, "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
    (folder / "preprocessor_config.json").write_text(json.dumps(shorter_side))
    preprocessing = read_model_folder(folder).preprocessing
    assert preprocessing is not None
    assert (preprocessing.resize, preprocessing.crop, preprocessing.squash) == (256, 224, False)


@pytest.mark.parametrize(
    ("values", "squash"),
    [
        ({"size": {"height": 224, "width": 224, "shortest_edge": None}}, True),
        ({"size": 224}, True),  # ViTImageProcessor's, of earlier years
        ({"size": 224, "crop_pct": 0.875}, False),  # ConvNextImageProcessor's
        ({"size": 224, "crop_size": 224, "do_center_crop": True}, False),  # CLIP's
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, False),
    ],
    ids=str,
)
def test_which_transformers_processors_squash(values: dict[str, Any], squash: bool, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "vit", {"model_type": "vit"}, {"vit.layernorm.weight": torch.ones(4)})
    processor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, **values}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    preprocessing = read_model_folder(folder).preprocessing
    assert preprocessing is not None
    assert (preprocessing.crop, preprocessing.squash) == (224, squash)


def test_a_vit_of_transformers_gives_the_same_features_in_timm(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
        layer_norm_eps=1e-6,  # timm's; published files have 1e-12, which shows where variances are tiny
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.ViTForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path / "vit")
    arguments: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments).eval()
    matched = match(network, read_weights(str(tmp_path / "vit")).backbone)
    assert matched.complete
    network.load_state_dict(dict(matched.taken))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(images), theirs.vit(images).last_hidden_state[:, 0], rtol=1e-4, atol=1e-5)
