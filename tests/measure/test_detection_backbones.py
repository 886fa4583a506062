"""Detectors start from whatever can be measured: a run, an export, the authors' files, a timm model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from barlowctl.cli.app import run as barlowctl
from barlowctl.detect.build import build
from barlowctl.detect.method import Detection
from barlowctl.errors import UserError
from barlowctl.measure.subjects import Subject, open_subject
from barlowctl.model import build_backbone
from tests.detect.detectors import SMALL, batch, with_statistics


def c4(subject: Subject) -> Detection:
    own = subject.preprocessing
    return build(subject.backbone, num_classes=3, settings=SMALL, mean=own.mean, std=own.std)


def assert_holds(model: Detection, backbone: nn.Module) -> None:
    """Every tensor of the backbone, statistics among them, and nothing of it twice."""
    state, count = model.state_dict(), 0
    for key, value in backbone.state_dict().items():
        place = "heads.box_head.res5." + key.removeprefix("layer4.") if key.startswith("layer4") else f"features.{key}"
        assert torch.equal(state[place], value), key
        count += 1
    assert count == sum(key.startswith(("features.", "heads.box_head.res5.")) for key in state)


def test_a_run_and_its_export(recipe: Path, trained: Path, tmp_path: Path) -> None:
    """Of grey images, with the run's mean and deviation."""
    file = tmp_path / "backbone.safetensors"
    assert barlowctl(["export", str(trained), "--format", "timm", "--out", str(file), "--quiet"]) == 0
    run = open_subject(str(trained))
    assert run.run is not None
    for subject in (run, open_subject(str(file))):
        model = c4(subject)
        assert_holds(model, run.run.method.backbone)
        assert (model.mean, model.std) == ((0.3,), (0.38,))
        assert torch.isfinite(model.train()(batch(outlines=False)).loss)
        assert not any("projector" in key for key in model.state_dict())


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A file as the authors' main.py writes it, of a ResNet-18."""
    torch.manual_seed(0)
    backbone = with_statistics(build_backbone("resnet18", in_chans=3)).state_dict()
    projector = nn.Sequential(nn.Linear(512, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8, bias=False))
    state = {f"module.backbone.{key}": value for key, value in backbone.items()}
    state |= {f"module.projector.{key}": value for key, value in projector.state_dict().items()}
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 1000, "model": state, "optimizer": {}}, path)
    return path, state


def test_the_authors_checkpoint_without_its_projector(published: tuple[Path, dict[str, Any]]) -> None:
    path, _ = published
    subject = open_subject(str(path))
    assert subject.kind == "official"
    model = c4(subject)
    assert_holds(model, subject.backbone)
    expected = published[1]["module.backbone.layer4.1.bn2.running_var"]
    assert torch.equal(model.heads.box_head.res5[1].bn2.running_var, expected)


def test_a_classifier_is_left_behind(published: tuple[Path, dict[str, Any]]) -> None:
    path, state = published
    plain = {key.removeprefix("module.backbone."): value for key, value in state.items() if "backbone" in key}
    torch.save({**plain, "fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}, path.with_name("resnet18.pth"))
    model = c4(open_subject(str(path.with_name("resnet18.pth"))))
    assert torch.equal(model.features.conv1.weight, plain["conv1.weight"])
    assert not any(".fc" in key for key in model.state_dict())


def test_a_missing_tensor_is_refused_by_name(published: tuple[Path, dict[str, Any]]) -> None:
    path, state = published
    del state["module.backbone.layer4.1.bn2.running_var"]
    torch.save({"epoch": 1000, "model": state, "optimizer": {}}, path)
    with pytest.raises(UserError, match=r"layer4\.1\.bn2\.running_var"):
        open_subject(str(path))


def test_a_timm_model_from_random_weights() -> None:
    subject = open_subject("resnet18")
    assert_holds(c4(subject), subject.backbone)
