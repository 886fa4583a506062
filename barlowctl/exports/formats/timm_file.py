"""Format "timm": one .safetensors with timm's keys and no classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from barlowctl.exports.formats.torch_module import TorchModule

if TYPE_CHECKING:
    from torch import nn

    from barlowctl.exports.exported import ExportedModel


@dataclass(frozen=True)
class TimmFile(TorchModule):
    """A file that `timm.create_model` takes as `checkpoint_path`; holds every model there is."""

    name: ClassVar[str] = "timm"
    summary: ClassVar[str] = "a file with timm's keys"
    suffix: ClassVar[str] = ".safetensors"

    def check(self, model: ExportedModel) -> None:
        """Every model is one of timm's."""

    def write(self, model: ExportedModel, path: Path) -> tuple[Path, ...]:
        from barlowctl.exports.weights import save, state_dict

        save(state_dict(model.backbone), path, model.metadata())
        return (path,)

    def load_lines(self, model: ExportedModel, path: Path) -> str:
        from barlowctl.model import registered

        if model.stem == "default":
            lines = ["import timm", f"model = timm.{_create_model(model, checkpoint_path=str(path))}.eval()"]
        else:
            lines = _lines_with_stem(model, path)
        return "\n".join([*registered.registering_lines(model.architecture), *lines])

    def fine_tuning_line(self, model: ExportedModel, classes: int) -> str:
        return f"model.reset_classifier({classes})"

    def check_loaded(self, model: ExportedModel, loaded: nn.Module) -> None:
        """The file says nothing beside the weights."""

    def notes(self, model: ExportedModel) -> tuple[str, ...]:
        return ()


def _lines_with_stem(model: ExportedModel, path: Path) -> list[str]:
    """timm cannot express a ResNet without max-pool in its arguments, so its stem is replaced by hand."""
    from torch import nn

    from barlowctl.model.backbone import STEMS

    shape = STEMS[model.stem]
    conv = model.backbone.get_submodule("conv1")
    assert shape is not None
    assert isinstance(conv, nn.Conv2d)
    return [
        "import timm, torch",
        "from safetensors.torch import load_file",
        f"model = timm.{_create_model(model)}.eval()",
        f"model.conv1 = torch.nn.Conv2d({model.preprocessing.channels}, {conv.out_channels}, {shape.kernel}, "
        f"stride={shape.stride}, padding={shape.padding}, bias=False)",
        "model.maxpool = torch.nn.Identity()",
        f"model.load_state_dict(load_file({str(path)!r}))",
    ]


def _create_model(model: ExportedModel, **more: Any) -> str:
    arguments: dict[str, Any] = {"num_classes": 0}
    if (channels := model.preprocessing.channels) != 3:
        arguments["in_chans"] = channels
    arguments |= {**model.timm_args, **more}
    argument_text = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"create_model({model.architecture!r}, {argument_text})"
