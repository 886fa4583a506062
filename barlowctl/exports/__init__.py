"""Weights that others can load; each export is loaded back by the library it is for before it gets its name.

report = export(model, Path("resnet50.safetensors"), "timm")  # model: an ExportedModel
folder = export_all(model, Path("resnet50"), "resnet50")  # every format that holds it

A new format is one module in `formats/` and one line in the table there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from barlowctl.exports.every_format import ExportedFolder, export_all
    from barlowctl.exports.exported import ExportedModel, ExportReport
    from barlowctl.exports.formats import FORMATS
    from barlowctl.exports.official import read_official
    from barlowctl.exports.reader import read_export
    from barlowctl.exports.writer import export

__all__ = [
    "FORMATS", "ExportReport", "ExportedFolder", "ExportedModel", "export", "export_all", "read_export",
    "read_official",
]  # fmt: skip

_MODULES = {
    "FORMATS": "formats",
    "ExportReport": "exported",
    "ExportedFolder": "every_format",
    "ExportedModel": "exported",
    "export": "writer",
    "export_all": "every_format",
    "read_export": "reader",
    "read_official": "official",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: `barlowctl export --help` reads the formats without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
