"""Format "torchvision": one .safetensors with the keys of torchvision's model of the same name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from barlowctl.exports.formats.misfit import Misfit
from barlowctl.exports.formats.torch_module import TorchModule

if TYPE_CHECKING:
    from torch import nn

    from barlowctl.exports.exported import ExportedModel

_INSTEAD = "--format timm"


@dataclass(frozen=True)
class TorchvisionFile(TorchModule):
    """A file for `load_state_dict` of torchvision's model.

    zero_classifier: with a classifier of zeros for 1,000 classes, for tools that want every key; else without one.
    """

    name: ClassVar[str] = "torchvision"
    summary: ClassVar[str] = "a file with torchvision's keys"
    suffix: ClassVar[str] = ".safetensors"

    zero_classifier: bool = False

    def check(self, model: ExportedModel) -> None:
        from barlowctl.exports.formats.torchvision_network import network_of
        from barlowctl.exports.keys import describe_difference

        if model.stem != "default":
            raise Misfit(
                f"the stem {model.stem!r} is not torchvision's: its models begin with a 7x7 convolution and a max-pool",
                next=_INSTEAD,
            )
        network = network_of(model)
        if (channels := model.preprocessing.channels) != 3:
            raise Misfit(f"torchvision's models take 3 channels and this one takes {channels}", next=_INSTEAD)
        if difference := describe_difference(network.backbone_state(), network.weights(model)):
            raise Misfit(
                f"the backbone, built with {dict(model.timm_args)}, does not fit torchvision's {model.architecture}: "
                f"it {difference}",
                next=_INSTEAD,
            )

    def write(self, model: ExportedModel, path: Path) -> tuple[Path, ...]:
        import torch

        from barlowctl.exports.formats.torchvision_network import described, network_of
        from barlowctl.exports.weights import save

        network = network_of(model)
        weights = network.weights(model)
        if self.zero_classifier:
            target = network.state()
            weights |= {key: torch.zeros(target[key].shape) for key in target if key not in weights}
        save(weights, path, described(model).metadata())
        return (path,)

    def load_lines(self, model: ExportedModel, path: Path) -> str:
        from barlowctl.exports.formats.torchvision_network import network_of

        network = network_of(model)
        load = f"model.load_state_dict(load_file({str(path)!r}))"
        drop = f"model.{network.classifier} = torch.nn.Identity()"
        lines = [
            "import torch, torchvision",
            "from safetensors.torch import load_file",
            f"model = {network.construct}.eval()",
            *((load, drop) if self.zero_classifier else (drop, load)),
        ]
        return "\n".join(lines)

    def fine_tuning_line(self, model: ExportedModel, classes: int) -> str:
        from barlowctl.exports.formats.torchvision_network import network_of
        from barlowctl.model import feature_width

        width = feature_width(model.backbone)
        return f"model.{network_of(model).classifier} = torch.nn.Linear({width}, {classes})"

    def check_loaded(self, model: ExportedModel, loaded: nn.Module) -> None:
        """The file says nothing beside the weights."""

    def notes(self, model: ExportedModel) -> tuple[str, ...]:
        zeros = "the classifier's weight and bias are zeros: barlowctl trains none"
        return (zeros,) if self.zero_classifier else ()
