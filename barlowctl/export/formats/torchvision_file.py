"""Format "torchvision": one .safetensors with the keys of torchvision's model of the same name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from barlowctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from barlowctl.export.exported import ExportedModel

# Models that timm and torchvision build alike, under one name and with the same keys.
TORCHVISION_NAMES = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
    "densenet121", "densenet161", "densenet169", "densenet201",
)  # fmt: skip
_INSTEAD = "--format timm"


@dataclass(frozen=True)
class TorchvisionFile:
    """A file for `load_state_dict` of torchvision's model.

    zero_classifier: with a classifier of zeros for 1,000 classes, for tools that want every key; else without one.
    """

    name: ClassVar[str] = "torchvision"
    summary: ClassVar[str] = "a file with torchvision's keys"
    suffix: ClassVar[str] = ".safetensors"

    zero_classifier: bool = False

    def check(self, model: ExportedModel) -> None:
        if model.architecture not in TORCHVISION_NAMES:
            raise UserError(
                f"torchvision has no model with the keys of {model.architecture!r}",
                allowed=", ".join(TORCHVISION_NAMES),
                next=_INSTEAD,
            )
        if model.stem != "default":
            raise UserError(
                f"the stem {model.stem!r} is not torchvision's: its models begin with a 7x7 convolution and a max-pool",
                next=_INSTEAD,
            )
        if (channels := model.preprocessing.channels) != 3:
            raise UserError(f"torchvision's models take 3 channels and this one takes {channels}", next=_INSTEAD)
        target = _torchvision_state(model.architecture)
        for key, value in model.backbone.state_dict().items():
            if key not in target or target[key].shape != value.shape:
                raise UserError(
                    f"{key} of shape {tuple(value.shape)} does not fit torchvision's {model.architecture}: the "
                    f"backbone was built with {dict(model.timm_args)}",
                    next=_INSTEAD,
                )

    def write(self, model: ExportedModel, path: Path) -> tuple[Path, ...]:
        import torch
        from safetensors.torch import save_file

        from barlowctl.export.weights import state_dict

        weights = state_dict(model.backbone)
        if self.zero_classifier:
            target = _torchvision_state(model.architecture)
            weights |= {key: torch.zeros(target[key].shape) for key in target if key not in weights}
        save_file(weights, path, metadata=model.metadata())
        return (path,)

    def load_lines(self, model: ExportedModel, path: Path) -> str:
        load = f"model.load_state_dict(load_file({str(path)!r}))"
        drop = f"model.{_classifier(model.architecture)} = torch.nn.Identity()"
        lines = [
            "import torch, torchvision",
            "from safetensors.torch import load_file",
            f"model = torchvision.models.{model.architecture}().eval()",
            *((load, drop) if self.zero_classifier else (drop, load)),
        ]
        return "\n".join(lines)

    def fine_tuning_line(self, model: ExportedModel, classes: int) -> str:
        from barlowctl.model import feature_width

        width = feature_width(model.backbone)
        return f"model.{_classifier(model.architecture)} = torch.nn.Linear({width}, {classes})"

    def check_loaded(self, model: ExportedModel, loaded: nn.Module) -> None:
        """The file says nothing beside the weights."""

    def notes(self, model: ExportedModel) -> tuple[str, ...]:
        zeros = "the classifier's weight and bias are zeros: barlowctl trains none"
        return (zeros,) if self.zero_classifier else ()


def _classifier(architecture: str) -> str:
    """What torchvision calls the classifier of a model."""
    return "classifier" if architecture.startswith("densenet") else "fc"


def _torchvision_state(architecture: str) -> dict[str, Tensor]:
    """Keys and shapes of torchvision's model, on the meta device."""
    import torch
    import torchvision

    with torch.device("meta"):
        return dict(torchvision.models.get_model(architecture, weights=None).state_dict())
