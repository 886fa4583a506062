"""The Python of docs/guide.md, block by block, on small exports under the names that it uses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from barlowctl.exports import ExportedModel, export
from barlowctl.model import Preprocessing, build_backbone

NEEDS = {"transformers"}  # libraries that only some machines have


def blocks(checkout: Path) -> list[str]:
    """The Python blocks of the guide's section on fine-tuning."""
    text = (checkout / "docs" / "guide.md").read_text(encoding="utf-8")
    section = text.partition("### Fine-tuning an export")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)


def exported(architecture: str, stem: str = "default") -> ExportedModel:
    torch.manual_seed(1)
    return ExportedModel(
        backbone=build_backbone(architecture, in_chans=3, stem=stem),
        architecture=architecture,
        timm_args={},
        stem=stem,
        preprocessing=Preprocessing(
            resize=72, crop=64, interpolation="bicubic", mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2)
        ),
    )


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, ExportedModel]]:
    folder = tmp_path_factory.mktemp("exports")
    models = {
        "my-model": exported("resnet18"),
        "my-small-model": exported("resnet18", "cifar"),
        "my-timm.safetensors": exported("resnet50"),
        "my-torchvision.safetensors": exported("resnet50"),
    }
    for name, model in models.items():
        export(model, folder / name, "hub" if "." not in name else name[3:].partition(".")[0])
    return folder, models


@pytest.mark.parametrize("number", range(5))
def test_the_lines_for_fine_tuning(
    checkout: Path,
    exports: tuple[Path, dict[str, ExportedModel]],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    lines, (folder, models) = blocks(checkout)[number], exports
    assert len(blocks(checkout)) == 5
    for library in NEEDS:
        if library in lines:
            pytest.importorskip(library, reason=f"{library} is not installed; timm loads the same folder")
    monkeypatch.chdir(folder)
    namespace: dict[str, Any] = {}
    exec(lines, namespace)
    model: nn.Module = namespace["model"].eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        scores = model(images)
    assert getattr(scores, "logits", scores).shape == (2, 10)
    name = next(name for name in sorted(models, key=len, reverse=True) if f"{name}" in lines)
    source = models[name].backbone.state_dict()
    weights = {key.removeprefix("timm_model."): value for key, value in model.state_dict().items()}
    assert all(torch.equal(weights[key], value) for key, value in source.items())
    assert weights.keys() - source.keys() == {"fc.weight", "fc.bias"}
    if "transform" in namespace:
        steps = namespace["transform"].transforms
        assert isinstance(steps[0], torchvision.transforms.Resize)
        assert (steps[0].size, steps[1].size) == (72, (64, 64))
