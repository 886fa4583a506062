"""A network in a file that does not say which it is: named or recognised, with how images are shown to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import barlowctl
from barlowctl.assemble.model_files import open_model_file, open_to_export
from barlowctl.cli.app import run as command
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.measure.subjects import open_subject


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARLOWCTL_RUNS", str(tmp_path / "runs"))


def saved(network: nn.Module, file: str, within: Callable[[dict[str, Tensor]], Any] | None = None) -> Path:
    """A checkpoint as solo-learn writes it, unless `within` says otherwise."""
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 1} if within is None else within(state), file)
    return Path(file)


def of_timm(name: str, **arguments: Any) -> nn.Module:
    with own_generator(0):
        return timm.create_model(name, num_classes=0, **arguments).eval()


def of_solo_learn() -> nn.Module:
    """torchvision's ResNet-18 as solo-learn builds it for CIFAR: 3 x 3 filters first, and no pooling behind them."""
    with own_generator(0):
        network = torchvision.models.resnet18()
        network.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    network.maxpool, network.fc = nn.Identity(), nn.Identity()
    return network.eval()


def images(channels: int = 3, side: int = 32) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0))


def test_a_network_that_is_named_has_the_weights(tmp_path: Path) -> None:
    theirs = of_timm("test_resnet")
    file = saved(theirs, "theirs.ckpt", lambda state: {"state_dict": {**state, "projector.0.weight": torch.ones(2, 2)}})
    opened, remaining = open_model_file(file, ["model.backbone=test_resnet", "eval.crop=32", "eval.resize=40"])
    assert (opened.kind, opened.model.architecture, remaining) == ("state dict", "test_resnet", ())
    assert (opened.model.preprocessing.crop, opened.model.preprocessing.resize) == (32, 40)
    assert opened.model.preprocessing.mean == (0.5, 0.5, 0.5)
    assert "taken as test_resnet" in opened.notes[0]
    assert opened.notes[-1] == "left, beside the network: 1 tensor, projector.0.weight"
    with torch.no_grad():
        assert torch.equal(opened.model.backbone(images()), theirs(images()))


def test_a_stem_for_small_images_is_recognised_and_asks_for_their_size(tmp_path: Path) -> None:
    theirs = of_solo_learn()
    file = saved(theirs, "theirs.ckpt")
    with pytest.raises(UserError, match="stem 'cifar' is for small ones") as refused:
        open_model_file(file)
    assert refused.value.next == "--set eval.resize=32 --set eval.crop=32"
    statistics = ["views.mean=[0.4914, 0.4822, 0.4465]", "views.std=[0.247, 0.2435, 0.2616]"]
    opened, _ = open_model_file(file, ["eval.resize=32", "eval.crop=32", *statistics])
    assert (opened.model.architecture, opened.model.stem) == ("resnet18", "cifar")
    assert opened.model.preprocessing.mean == (0.4914, 0.4822, 0.4465)
    assert opened.model.preprocessing.std == (0.247, 0.2435, 0.2616)
    with torch.no_grad():
        torch.testing.assert_close(opened.model.backbone(images()), theirs(images()), rtol=1e-5, atol=1e-5)


def test_grey_weights_are_of_grey_images(tmp_path: Path) -> None:
    theirs = of_timm("resnet18", in_chans=1)
    opened, _ = open_model_file(saved(theirs, "theirs.ckpt"))
    assert opened.model.preprocessing.channels == 1
    assert opened.model.preprocessing.mean == (0.449,)  # of ImageNet's three
    with torch.no_grad():
        assert torch.equal(opened.model.backbone(images(1)), theirs(images(1)))


def test_position_embeddings_ask_for_their_image_size(tmp_path: Path) -> None:
    theirs = of_timm("vit_tiny_patch16_224", img_size=96)
    file = saved(theirs, "theirs.ckpt")
    for overrides in ([], ["model.backbone=vit_tiny_patch16_224"]):
        with pytest.raises(UserError, match="its position embeddings are for images of 96 pixels a side") as refused:
            open_model_file(file, overrides)
        assert refused.value.next == "--set model.image_size=96"
        opened, _ = open_model_file(file, [*overrides, "model.image_size=96"])
        assert (opened.model.preprocessing.crop, opened.model.preprocessing.resize) == (96, 106)
    with torch.no_grad():
        assert torch.equal(opened.model.backbone(images(side=96)), theirs(images(side=96)))


def test_pooling_is_part_of_the_network(tmp_path: Path) -> None:
    theirs = of_timm("vit_tiny_patch16_224", global_pool="avg", img_size=64)
    file = saved(theirs, "theirs.ckpt")
    stated = ["model.backbone=vit_tiny_patch16_224", "model.image_size=64", "model.pooling=avg"]
    opened, _ = open_model_file(file, stated)
    assert opened.model.preprocessing.pooling == "avg"
    with torch.no_grad():
        assert torch.equal(opened.model.backbone(images(side=64)), theirs(images(side=64)))


def test_another_network_than_the_named_one_is_refused() -> None:
    file = saved(of_timm("resnet18"), "theirs.ckpt")
    with pytest.raises(UserError, match=r"'theirs\.ckpt' does not fit resnet34: it is resnet18") as refused:
        open_model_file(file, ["model.backbone=resnet34"])
    assert refused.value.next == "--set model.backbone=resnet18 --set model.stem=default without --backbone"
    unknown = saved(of_timm("test_resnet"), "unknown.ckpt")
    with pytest.raises(UserError, match=r"does not fit convnext_atto\. It has none of its keys, but backbone\.conv1"):
        open_model_file(unknown, ["model.backbone=convnext_atto"])
    with pytest.raises(UserError, match=r"'unknown\.ckpt' does not say which network it holds") as refused:
        open_model_file(unknown)
    assert refused.value.next == "say which it is, e.g. --backbone resnet18"


@pytest.mark.parametrize("format", ["timm", "hub"])
def test_a_checkpoint_is_exported_and_the_export_again(format: str) -> None:
    theirs = of_timm("test_resnet")
    saved(theirs, "theirs.ckpt")
    sizes = ["--set", "eval.resize=40", "--set", "eval.crop=32"]
    stated = ["--backbone", "test_resnet", *sizes, "--set", "views.mean=[0.5,0.4,0.3]"]
    out = "ours" if format == "hub" else "ours.safetensors"
    assert command(["export", "theirs.ckpt", *stated, "--format", format, "--out", out, "--quiet"]) == 0
    subject = open_subject(out)
    assert (subject.kind, subject.preprocessing.mean) == ("export", (0.5, 0.4, 0.3))
    assert (subject.preprocessing.resize, subject.preprocessing.crop) == (40, 32)
    assert command(["export", out, "--out", "again.safetensors", "--quiet"]) == 0
    with torch.no_grad():
        assert torch.equal(open_subject("again.safetensors").backbone(images()), theirs(images()))


def test_python_exports_and_opens_the_same(tmp_path: Path) -> None:
    theirs = of_timm("test_resnet")
    saved(theirs, "theirs.ckpt")
    stated = {"model.backbone": "test_resnet", "eval.resize": 32, "eval.crop": 32}
    report = barlowctl.export("theirs.ckpt", overrides=stated)
    assert report.path == Path("theirs-timm.safetensors")
    network = barlowctl.open_network("theirs.ckpt", mean=[0.5] * 3, std=[0.5] * 3, size=32, overrides=stated)
    assert network.preprocessing.mean == (0.5, 0.5, 0.5)
    with torch.no_grad():
        assert torch.equal(network.backbone()(images()), theirs(images()))
    with pytest.raises(UserError, match=r"overrides are of a file of weights"):
        barlowctl.export("a-run", overrides=stated)
    with pytest.raises(UserError, match=r"'none\.ckpt' does not exist"):
        barlowctl.export("none.ckpt")


@pytest.mark.slow
def test_every_format_of_a_checkpoint() -> None:
    saved(of_timm("test_resnet"), "theirs.ckpt")
    stated = {"model.backbone": "test_resnet", "eval.resize": 32, "eval.crop": 32}
    folder = barlowctl.export_all("theirs.ckpt", overrides=stated)
    assert {report.format for report in folder.reports} == {"timm", "hub", "onnx", "transformers"}


def test_a_name_of_timm_says_its_network_itself() -> None:
    with pytest.raises(UserError, match=r"'model\.backbone' is what the network says itself") as refused:
        open_subject("test_resnet", overrides=["model.backbone=resnet18"])
    assert refused.value.next == "without --backbone --set=model.backbone=resnet18"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "ours.safetensors", "--backbone", "test_resnet"], "'ours.safetensors' says itself which network"),
        (
            ["export", "theirs.ckpt", "--backbone", "test_resnet", "--best"],
            "--best is of a run, and 'theirs.ckpt' is a",
        ),
        (["export", "theirs.ckpt", "--push", "me/x", "--license", "mit"], "--push writes a card of a run"),
        (["export", "--backbone", "test_resnet"], "is of a file of weights that does not say it, and none is named"),
        (["export", "none.ckpt"], "'none.ckpt' does not exist"),
        (["export", "--from-official", "theirs.ckpt", "--set", "views.std=[1.0]"], "is of a file of weights that does"),
    ],
)
def test_what_contradicts_a_file_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(of_timm("test_resnet"), "theirs.ckpt")
    sizes = ["eval.resize=32", "eval.crop=32"]
    model = open_to_export(file, ["model.backbone=test_resnet", *sizes]).model
    barlowctl.exports.export(model, Path("ours"), "timm")
    assert command(arguments) == 2
    assert message in capsys.readouterr().err
