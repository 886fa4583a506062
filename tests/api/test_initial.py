"""A run that starts from the weights of a module: those of the module, and written where the run goes on from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

import barlowctl
from barlowctl.api.initial import weights_named
from barlowctl.assemble.weights import read_weights
from barlowctl.cli.app import run as command
from barlowctl.data import home
from tests.api.test_pretrain import SHORT, numbers, weights

NARROW: dict[str, Any] = {"channels": [8, 16, 16, 32], "stem_width": 8}
"""The backbone of the fixture `recipe`, of one channel."""


@pytest.fixture(autouse=True)
def own_weights(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data home with the digits of `recipe`, and weights of this test alone."""
    (tmp_path / "own-home").mkdir()
    (tmp_path / "own-home" / "digits").symlink_to(home.data_home() / "digits")
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "own-home"))
    assert recipe.is_file()


def name_of(init: Any) -> str:
    with weights_named(init, lambda: False) as name:
        return name


def narrow(**options: Any) -> nn.Module:
    torch.manual_seed(3)
    return timm.create_model("resnet10t", in_chans=1, **{"num_classes": 0, **NARROW, **options})


def test_a_run_from_a_module_is_the_run_from_its_file(recipe: Path, tmp_path: Path) -> None:
    module = narrow().train()
    safetensors.torch.save_file(module.state_dict(), tmp_path / "saved.safetensors")
    options: Any = {"overrides": {**SHORT, "views.mean": [0.485], "views.std": [0.229]}, "threads": 1}
    saved = barlowctl.pretrain(recipe, init=tmp_path / "saved.safetensors", out=tmp_path / "a", **options)
    given = barlowctl.pretrain(recipe, init=module, out=tmp_path / "b", **options)
    assert module.training
    assert numbers(given.path) == numbers(saved.path)
    assert weights(given) == weights(saved)
    assert given.recipe.init.sha256 == saved.recipe.init.sha256 == read_weights(given.recipe.init.weights).sha256
    assert Path(given.recipe.init.weights).parent == home.data_home() / "weights"


def test_it_goes_on_without_a_checkpoint(recipe: Path, tmp_path: Path) -> None:
    whole = barlowctl.pretrain(recipe, init=narrow(), overrides=SHORT, out=tmp_path / "whole", threads=1)
    begun = barlowctl.pretrain(
        recipe, init=narrow(), overrides=SHORT, out=tmp_path / "begun", threads=1, stop=lambda: True
    )
    for checkpoint in (begun.path / "checkpoints").glob("*"):
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    assert command(["pretrain", "--resume", str(begun.path), "--quiet"]) == 0
    assert weights(begun) == weights(whole)
    assert len(list((home.data_home() / "weights").iterdir())) == 1


def test_of_timms_networks_the_architecture_and_what_it_was_made_with_is_noted(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for options in ({}, {"num_classes": 5}):
        module = narrow(**options)
        read = read_weights(name_of(module))
        assert read.network is not None
        assert (read.network.architecture, dict(read.network.arguments)) == (
            "resnet10t",
            {**NARROW, "global_pool": "avg"},
        )
        assert read.preprocessing is not None
        assert read.preprocessing.std == (0.226,)
        for key, value in module.state_dict().items():
            assert torch.equal(read.backbone[key], value), key
    assert capfd.readouterr() == ("", "")
    changed: Any = narrow()
    changed.layer4 = nn.Identity()
    assert read_weights(name_of(changed)).network is None


def test_other_networks_are_a_file_of_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torchvision.models.resnet18()
    name = name_of(module.half())
    assert name.endswith(".safetensors")
    assert read_weights(name).backbone["fc.bias"].dtype == torch.float32
    assert name_of(module) == name
    assert name_of(tmp_path / "runs" / "x") == str(tmp_path / "runs" / "x")
    with pytest.raises(barlowctl.UserError, match="a ReLU has no weights"):
        name_of(nn.ReLU())


def test_a_module_of_another_network_is_refused_with_what_to_set(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(barlowctl.UserError, match="does not fit the recipe's network") as refused:
        barlowctl.pretrain(recipe, init=torchvision.models.resnet18(), out=tmp_path / "run")
    assert "'model.backbone': 'resnet18'" in refused.value.__notes__[1]
    assert not (tmp_path / "run").exists()


def test_what_was_written_for_a_run_that_is_refused_is_taken_away(recipe: Path, tmp_path: Path) -> None:
    network = torchvision.models.resnet18()
    with pytest.raises(barlowctl.UserError, match="the module, a ResNet, does not fit the recipe's network, resnet10t"):
        barlowctl.pretrain(recipe, init=network, out=tmp_path / "run")
    assert list((home.data_home() / "weights").iterdir()) == []
    run = barlowctl.pretrain(recipe, init=narrow(), overrides=SHORT, out=tmp_path / "run", threads=1)
    with pytest.raises(barlowctl.UserError, match="exists already"):
        barlowctl.pretrain(recipe, init=narrow(), overrides=SHORT, out=tmp_path / "run", threads=1)
    assert Path(run.recipe.init.weights).is_dir()  # which another run has


def test_what_the_run_keeps_says_where_its_weights_came_from(recipe: Path, tmp_path: Path) -> None:
    run = barlowctl.pretrain(recipe, init=narrow(), overrides=SHORT, out=tmp_path / "run", threads=1)
    files = [json.loads(file.read_text()) for file in run.path.glob("*.json")]
    noted = [about["start"] for about in files if isinstance(about, dict) and "start" in about]
    assert [start["source"]["path"] for start in noted if "source" in start] == [run.recipe.init.weights]


def test_a_module_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of timm's networks as they are; of others with the name of the architecture. Nothing stays in the data home."""
    monkeypatch.chdir(tmp_path)
    module = narrow().train()
    report = barlowctl.export(module, "hub", tmp_path / "hub")
    assert module.training
    loaded = timm.create_model(f"local-dir:{report.path}", pretrained=True).eval()
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), module.eval()(images))
    torch.manual_seed(0)
    other = torchvision.models.resnet18()
    report = barlowctl.export(other, "torchvision")
    assert report.path.name == "ResNet-torchvision.safetensors"
    exported = safetensors.torch.load_file(report.path)
    assert torch.equal(exported["layer4.1.conv2.weight"], other.state_dict()["layer4.1.conv2.weight"])
    unknown = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(barlowctl.UserError) as refused:
        barlowctl.export(unknown)
    assert "overrides={'model.backbone': 'resnet18'}" in "".join(refused.value.__notes__)
    assert refused.value.message.startswith("the module, a Sequential, does not say which network it holds")
    assert {report.format for report in barlowctl.export_all(module, "all").reports} >= {"hub", "onnx"}
    assert not (home.data_home() / "weights").exists()
