"""The lines of Python that load an export. They are executed before they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from barlowctl.export.exported import ExportedModel
from barlowctl.export.timm_loader import LOADER_NAME
from barlowctl.model.backbone import STEMS, feature_width

CLASSES = 10  # of the example of fine-tuning


def python_line(model: ExportedModel, path: Path, format: str, *, zero_classifier: bool = False) -> str:
    """Imports and lines that leave the loaded feature extractor, in evaluation mode, in `model`."""
    match format:
        case "timm" if model.stem == "default":
            return _lines("import timm", f"model = timm.{_create_model(model, checkpoint_path=str(path))}.eval()")
        case "timm":
            return _timm_with_stem(model, path)
        case "hub":
            create = f"model = timm.create_model({f'local-dir:{path}'!r}, pretrained=True).eval()"
            if model.stem == "default":
                return _lines("import timm", create)
            return _lines("import runpy, timm", f"runpy.run_path({str(path / LOADER_NAME)!r})", create)
        case "torchvision":
            load = f"model.load_state_dict(load_file({str(path)!r}))"
            drop = f"model.{_torchvision_head(model.architecture)} = torch.nn.Identity()"
            return _lines(
                "import torch, torchvision",
                "from safetensors.torch import load_file",
                f"model = torchvision.models.{model.architecture}().eval()",
                *((load, drop) if zero_classifier else (drop, load)),
            )
    raise AssertionError(format)


def fine_tuning_line(model: ExportedModel, format: str) -> str:
    """What to type after `python_line` for a new classifier, of `CLASSES` classes, in `model`."""
    if format == "torchvision":
        head = _torchvision_head(model.architecture)
        return f"model.{head} = torch.nn.Linear({feature_width(model.backbone)}, {CLASSES})"
    return f"model.reset_classifier({CLASSES})"


def _timm_with_stem(model: ExportedModel, path: Path) -> str:
    """timm cannot express a ResNet without max-pool in its arguments, so its stem is replaced by hand."""
    shape = STEMS[model.stem]
    conv = model.backbone.get_submodule("conv1")
    assert shape is not None
    assert isinstance(conv, nn.Conv2d)
    return _lines(
        "import timm, torch",
        "from safetensors.torch import load_file",
        f"model = timm.{_create_model(model)}.eval()",
        f"model.conv1 = torch.nn.Conv2d({model.in_chans}, {conv.out_channels}, {shape.kernel}, "
        f"stride={shape.stride}, padding={shape.padding}, bias=False)",
        "model.maxpool = torch.nn.Identity()",
        f"model.load_state_dict(load_file({str(path)!r}))",
    )


def _create_model(model: ExportedModel, **more: Any) -> str:
    arguments: dict[str, Any] = {"num_classes": 0}
    if model.in_chans != 3:
        arguments["in_chans"] = model.in_chans
    arguments |= {**model.timm_args, **more}
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"create_model({model.architecture!r}, {given})"


def _torchvision_head(architecture: str) -> str:
    return "classifier" if architecture.startswith("densenet") else "fc"


def _lines(*lines: str) -> str:
    return "\n".join(lines)
