"""A vision transformer and a ConvNeXt through the command line: trained, measured with another pooling, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl.cli.app import run as barlowctl
from tests.cli.conftest import RECIPE

Captured = pytest.CaptureFixture[str]
VIT = [
    "model.backbone=vit_tiny_patch16_224",
    "model.backbone_args={embed_dim = 16, depth = 2, num_heads = 2}",
    "model.image_size=16",
    "model.patch_size=4",
    "model.drop_path=0.2",
    "views.small.count=1",
    "views.small.size=8",
    "optimizer.clip_grad_norm=5.0",
    "train.freeze=patch_embed",
    "train.epochs=1",
    "train.micro_batch=64",
    "train.activation_checkpointing=true",
]
CONVNEXT = [
    "model.backbone=convnext_atto",
    "model.backbone_args={depths = [1, 1, 1, 1], dims = [8, 8, 16, 16]}",
    "model.patch_size=1",  # of 16 pixels 2 are left; with 2 or 4 timm divides by 32
    "model.drop_path=0.2",
    "train.epochs=1",
    "train.activation_checkpointing=true",
]


def flags(overrides: list[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """A finished run of the transformer, trained with its class token."""
    folder = tmp_path_factory.mktemp("transformer")
    (folder / "digits.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BARLOWCTL_DATA", str(digits))
        arguments = ["--recipe", str(folder / "digits.toml"), "--out", str(folder / "run"), "--threads", "1", "--quiet"]
        assert barlowctl(["pretrain", *arguments, *flags(VIT)]) == 0
    return folder / "run"


def measured(arguments: list[str], capsys: Captured) -> dict[str, Any]:
    code = barlowctl(["probe", *arguments, "--threads", "1", "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result: dict[str, Any] = json.loads(captured.out)
    return result


def test_a_convnext_trains(recipe: Path, tmp_path: Path) -> None:
    assert barlowctl(["pretrain", "-r", str(recipe), "--out", "convnext", "--threads", "1", *flags(CONVNEXT)]) == 0
    assert json.loads((tmp_path / "convnext" / "result.json").read_text())["loss"] > 0


def test_a_patch_embedding_that_is_frozen_stays(recipe: Path, transformer: Path) -> None:
    from barlowctl.assemble.finished import open_run
    from barlowctl.assemble.model import build_method

    run = open_run(transformer)
    fresh = build_method(run.recipe)
    trained, drawn = run.method.backbone.state_dict(), fresh.backbone.state_dict()
    moved = {key for key in trained if not torch.equal(trained[key], drawn[key])}
    assert not any(key.startswith("patch_embed.") for key in moved)
    assert {"pos_embed", "cls_token", "blocks.0.attn.qkv.weight", "norm.weight"} <= moved


def test_another_pooling_is_another_measurement_of_the_same_weights(
    recipe: Path, transformer: Path, capsys: Captured
) -> None:
    own = measured([str(transformer), "--random-init"], capsys)
    mean = measured([str(transformer), "--random-init", "--set", "model.pooling=avg"], capsys)
    assert "pooling" not in own
    assert mean["pooling"] == "avg"
    assert mean["identity"]["weights"] == own["identity"]["weights"]
    assert mean["identity"]["key"] != own["identity"]["key"]
    assert mean["file"] != own["file"]
    assert mean["knn"] != own["knn"]
    assert mean["floors"] != own["floors"]
    same = measured([str(transformer), "--random-init", "--set", "model.pooling=default"], capsys)
    assert same["identity"] == own["identity"]


def test_fine_tuning_drops_what_its_protocol_says_and_not_what_the_run_did(recipe: Path, transformer: Path) -> None:
    from barlowctl.measure.drop_path import with_drop_path
    from barlowctl.measure.subjects import open_subject

    def rates(network: torch.nn.Module) -> set[float]:
        return {round(float(part.drop_prob), 6) for part in network.modules() if hasattr(part, "drop_prob")}

    run = open_subject(str(transformer), overrides=["model.pooling=avg"])
    assert rates(run.backbone) == {0.2}  # of the second block, the first one has none
    assert rates(with_drop_path(run, 0.0)) == {0.0}
    retrained = with_drop_path(run, 0.4)
    assert rates(retrained) == {0.4}
    images = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(retrained(images), run.backbone(images))  # pooled alike


def test_images_of_another_size_resample_the_position_embeddings(
    recipe: Path, transformer: Path, capsys: Captured
) -> None:
    larger = measured([str(transformer), "--set", "eval.resize=20", "--set", "eval.crop=20"], capsys)
    assert (larger["crop"], larger["features"]) == (20, 16)
    assert barlowctl(["probe", str(transformer), "--set", "eval.resize=18", "--set", "eval.crop=18"]) == 2
    assert "divisible by patch size" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["timm", "hub"])
def test_an_export_keeps_sizes_and_pooling(
    recipe: Path, transformer: Path, tmp_path: Path, capsys: Captured, format: str
) -> None:
    from barlowctl.measure.subjects import open_subject

    target = tmp_path / ("out.safetensors" if format == "timm" else "out")
    assert barlowctl(["export", str(transformer), "--format", format, "--out", str(target), "--json"]) == 0
    loaded: dict[str, Any] = {}
    exec(json.loads(capsys.readouterr().out)["python"], loaded)
    run, exported = open_subject(str(transformer)), open_subject(str(target), overrides=["model.pooling=avg"])
    for side in (16, 20):
        images = torch.rand(3, 1, side, side)
        torch.testing.assert_close(loaded["model"](images), run.backbone(images))
        tokens = run.backbone.forward_features(images)
        torch.testing.assert_close(exported.backbone(images), tokens[:, 1:].mean(1))
    assert all(getattr(part, "drop_prob", 0.0) == 0.0 for part in loaded["model"].modules())


def test_a_transformers_class_token_is_refused_where_there_is_none(recipe: Path, capsys: Captured) -> None:
    arguments = [*flags(VIT), "--set", "model.pooling=catavgmax", "--dry-run"]
    assert barlowctl(["pretrain", "-r", str(recipe), *arguments]) == 2
    assert "Only avg, avgmax, max, token" in capsys.readouterr().err
    both = ["--set", "model.backbone_args={img_size = 16}", "--set", "model.image_size=16", "--dry-run"]
    assert barlowctl(["pretrain", "-r", str(recipe), *both]) == 2
    assert "backbone_args has img_size = 16, which image_size is for" in capsys.readouterr().err
    assert barlowctl(["pretrain", "-r", str(recipe), "--set", "model.drop_path=1.0", "--dry-run"]) == 2


@pytest.mark.parametrize("key", ["model.image_size", "model.backbone_args.img_size"])
def test_an_image_size_that_patches_do_not_divide_is_refused(key: str, recipe: Path, capsys: Captured) -> None:
    """timm makes position embeddings for 4 x 4 patches of 18 pixels, and says nothing."""
    sizes = [] if key == "model.image_size" else ["--set", "model.image_size=0"]
    arguments = ["pretrain", "-r", str(recipe), *flags(VIT), *sizes, "--set", f"{key}=18", "--dry-run"]
    assert barlowctl(arguments) == 2
    err = capsys.readouterr().err
    assert f"{key} is 18, and vit_tiny_patch16_224 cuts images into patches of 4: 2 pixels of each side" in err
    assert "multiples of 4; the nearest are 16 and 20" in err
    assert f"--set {key}=16" in err.partition("next: ")[2]
    padded = ["--set", "model.backbone_args.dynamic_img_pad=true"] if key == "model.image_size" else []
    if padded:
        assert barlowctl([*arguments, *padded, "--threads", "1"]) == 0


def test_the_first_lines_and_the_memory_of_a_transformer(recipe: Path, capsys: Captured) -> None:
    assert barlowctl(["pretrain", "-r", str(recipe), *flags(VIT), "--dry-run", "--json", "--threads", "1"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert "gradients of a norm above 5 scaled down to it" in plan["facts"]["optimizer"]
    assert plan["recipe"]["model"]["image_size"] == 16
    less = ["--set", "train.activation_checkpointing=false"]
    assert barlowctl(["pretrain", "-r", str(recipe), *flags(VIT), *less, "--dry-run", "--json", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["memory"]["activations"] > plan["memory"]["activations"]
