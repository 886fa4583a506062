"""Weights that others can load; each export is loaded back by the library it is for before it gets its name.

report = export(model, Path("resnet50.safetensors"), "timm")  # model: an ExportedModel
"""

from barlowctl.export.exported import ExportedModel, ExportReport
from barlowctl.export.formats import FORMATS, TORCHVISION_NAMES
from barlowctl.export.official import read_official
from barlowctl.export.reader import read_export
from barlowctl.export.snippet import python_line
from barlowctl.export.writer import export

__all__ = [
    "FORMATS",
    "TORCHVISION_NAMES",
    "ExportReport",
    "ExportedModel",
    "export",
    "python_line",
    "read_export",
    "read_official",
]
