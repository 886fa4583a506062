"""Weights for others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.advice.scenario import Scenario

Patch = pytest.MonkeyPatch
EXPORT = ["export", "runs/done"]


def of(in_chans: int = 3, stem: str = "default", **timm_args: Any) -> Callable[[Patch], None]:
    """A run's network as a ResNet-18 with another stem, of other channels or widths."""

    def prepare(patch: Patch) -> None:
        from barlowctl.cli import export
        from barlowctl.model.backbone import build_backbone

        real = export._model_of
        backbone = build_backbone("resnet18", stem=stem, in_chans=in_chans, **timm_args)
        colours = {"mean": (0.5,) * in_chans, "std": (0.5,) * in_chans}

        def changed(*run: Any) -> Any:
            model = real(*run)
            preprocessing = replace(model.preprocessing, **colours)
            return replace(model, backbone=backbone, architecture="resnet18", stem=stem, timm_args=timm_args,
                           preprocessing=preprocessing)  # fmt: skip

        patch.setattr(export, "_model_of", changed)

    return prepare


def not_the_same(format: str) -> Callable[[Patch], None]:
    """A format whose files are loaded as another network."""

    def prepare(patch: Patch) -> None:
        from barlowctl.exports import writer

        real, verified = writer._verify, list[str]()

        def wrong(model: Any, path: Path, of: Any, *rest: Any) -> Any:
            with patch.context() as inner:
                if not verified:
                    verified.append(str(of))
                    inner.setattr(writer, "_max_abs_diff", lambda *both: 1.0)
                return real(model, path, of, *rest)

        patch.setattr(writer, "_verify", wrong)

    return prepare


def official(patch: Patch) -> None:
    """The authors' file of a backbone alone."""
    from barlowctl.cli import export
    from barlowctl.cli.console import Console

    model = replace(export._model_of(Path("runs/done"), Console(quiet=True)), projector=None)
    patch.setattr("barlowctl.exports.read_official", lambda path: model)


def offline(patch: Patch) -> None:
    """A push would end where huggingface_hub is offline, whatever token there is."""
    from huggingface_hub import constants

    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    patch.setenv("HF_TOKEN", "of_nobody")


def best_state_gone(patch: Patch) -> None:
    """The run keeps its best state, and somebody deleted it."""
    recipe = Path("runs/done/recipe.toml")
    text = recipe.read_text()
    assert 'keep_best = "off"' in text
    recipe.write_text(text.replace('keep_best = "off"', 'keep_best = "knn"'))
    shutil.rmtree("runs/done/checkpoints")


def weights(name: str = "resnet18", stem: str = "default", **timm_args: Any) -> Callable[[Patch], None]:
    """A checkpoint of another tool's, which does not say which network it holds."""

    def prepare(patch: Patch) -> None:
        import torch

        from barlowctl.model.backbone import build_backbone

        state = build_backbone(name, in_chans=3, stem=stem, **timm_args).state_dict()
        torch.save({"state_dict": {f"backbone.{key}": value for key, value in state.items()}}, "theirs.ckpt")

    return prepare


def exported(patch: Patch) -> None:
    from barlowctl.cli.app import run

    assert run([*EXPORT, "--out", "ours.safetensors", "--quiet"]) == 0


SCENARIOS = {
    "best of a file of weights": Scenario(["export", "theirs.ckpt", "--best"], weights()),
    "push of a file of weights": Scenario(["export", "theirs.ckpt", "--push", "me/x", "--license", "mit"], weights()),
    "backbone of a run": Scenario([*EXPORT, "--backbone", "resnet18"]),
    "stem of a run": Scenario([*EXPORT, "--set", "model.stem=cifar"]),
    "backbone and stem of a run": Scenario([*EXPORT, "--backbone", "resnet18", "--set", "model.stem=cifar"]),
    "backbone and stem of an export": Scenario(
        [
            *("export", "ours.safetensors", "--backbone", "resnet18", "--set", "model.stem=cifar"),
            *("--out", "again.safetensors"),
        ],
        exported,
    ),
    "backbone of an export": Scenario(
        ["export", "ours.safetensors", "--backbone", "resnet18", "--out", "again.safetensors"], exported
    ),
    "stem of an export": Scenario(
        ["export", "ours.safetensors", "--set", "model.stem=cifar", "--out", "again.safetensors"], exported
    ),
    "another backbone than the file's": Scenario(["export", "theirs.ckpt", "--backbone", "resnet34"], weights()),
    "another image size than the file's": Scenario(
        ["export", "theirs.ckpt"], weights("vit_tiny_patch16_224", img_size=32)
    ),
    "small images of a file": Scenario(["export", "theirs.ckpt"], weights(stem="cifar")),
    "best of a run that keeps none": Scenario([*EXPORT, "--best"]),
    "best of a state": Scenario(["export", "runs/done/checkpoints/step-00000020", "--best"]),
    "best of a file": Scenario(["export", "--from-official", "none.pth", "--best"], then="none.pth"),
    "best state gone": Scenario([*EXPORT, "--best"], best_state_gone),
    "one format of all": Scenario([*EXPORT, "--all", "--format", "timm"], slow=True),
    "push of a file": Scenario(["export", "--from-official", "none.pth", "--push", "me/x"], then="none.pth"),
    "push of another format": Scenario(
        [*EXPORT, "--push", "me/x", "--license", "mit", "--dry-run", "--format", "onnx"]
    ),
    "push with nobody to ask": Scenario(
        [*EXPORT, "--push", "me/x", "--license", "mit"], offline, then="HF_HUB_OFFLINE is set"
    ),
    "license without a push": Scenario([*EXPORT, "--license", "mit"]),
    "two sources": Scenario([*EXPORT, "--from-official", "x.pth"]),
    "no torchvision model": Scenario([*EXPORT, "--format", "torchvision"]),
    "no torchvision stem": Scenario([*EXPORT, "--format", "torchvision"], of(stem="cifar"), slow=True),
    "no transformers stem": Scenario([*EXPORT, "--format", "transformers"], of(stem="cifar")),
    "no torchvision channels": Scenario([*EXPORT, "--format", "torchvision"], of(in_chans=1), slow=True),
    "no torchvision widths": Scenario([*EXPORT, "--format", "torchvision"], of(channels=[8, 16, 16, 32])),
    "export there": Scenario(
        [*EXPORT, "--out", "runs/done/recipe.safetensors"], lambda patch: Path("runs/done/recipe.safetensors").touch()
    ),
    "no classifier": Scenario([*EXPORT, "--zero-classifier"]),
    "no projector": Scenario(
        ["export", "--from-official", "x.pth", "--with-projector", "--out", "x.safetensors"], official
    ),
    "a folder for one file": Scenario(
        [*EXPORT, "--out", "my images.safetensors"], lambda patch: Path("my images.safetensors").mkdir()
    ),
    "a file for a folder": Scenario([*EXPORT, "--out", "there.beton", "--format", "hub"]),
    "hub not the same": Scenario([*EXPORT, "--format", "hub"], not_the_same("hub")),
    "timm not the same": Scenario([*EXPORT, "--format", "timm"], not_the_same("timm")),
}
