"""Format "hub": a folder as on the Hugging Face Hub, with config.json, model.safetensors and a model card.

With a stem that timm has no argument for, also a file that teaches it to timm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from barlowctl.exports.formats.folder_lines import timm_lines
from barlowctl.exports.formats.torch_module import TorchModule

if TYPE_CHECKING:
    from barlowctl.exports.exported import ExportedModel


@dataclass(frozen=True)
class HubFolder(TorchModule):
    """A folder that timm loads by its name, with the preprocessing of evaluation images."""

    name: ClassVar[str] = "hub"
    summary: ClassVar[str] = "a folder as on the Hugging Face Hub"
    suffix: ClassVar[str] = ""

    def check(self, model: ExportedModel) -> None:
        """Every model fits: what timm has no argument for is taught to it by a file of the folder."""

    def write(self, model: ExportedModel, path: Path) -> tuple[Path, ...]:
        from barlowctl.exports.formats.folder_config import timm_config, write_weights
        from barlowctl.exports.formats.model_card import write_card
        from barlowctl.exports.formats.timm_loader import LOADER_NAME, loader_source

        files = (*write_weights(model, timm_config(model), path), write_card(model, "timm", path))
        if model.stem == "default":
            return files
        (path / LOADER_NAME).write_text(loader_source(model), encoding="utf-8")
        return (*files, path / LOADER_NAME)

    def load_lines(self, model: ExportedModel, path: Path) -> str:
        return timm_lines(model, path)

    def fine_tuning_line(self, model: ExportedModel, classes: int) -> str:
        return f"model.reset_classifier({classes})"

    def check_loaded(self, model: ExportedModel, loaded: Any) -> None:
        from timm.data.config import resolve_model_data_config

        from barlowctl.exports.formats.folder_config import check_data_config

        check_data_config(resolve_model_data_config(loaded), model.preprocessing, "timm")

    def notes(self, model: ExportedModel) -> tuple[str, ...]:
        from barlowctl.exports.formats.timm_loader import LOADER_NAME

        taught = (
            f"timm has no argument for the stem {model.stem!r}: {LOADER_NAME} in the folder teaches it to timm, and "
            "must be run before the folder is loaded"
        )
        return () if model.stem == "default" else (taught,)
