"""The formats: which models each can hold, the files it consists of, and the Python that loads them.

One module and one class each. A format imports torch and the libraries it writes for when it is used, not before:
the command line reads the names and summaries in `FORMATS` for its help.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Unpack

from barlowctl.errors import UserError, did_you_mean
from barlowctl.exports.formats.hub_folder import HubFolder
from barlowctl.exports.formats.onnx_file import OnnxFile
from barlowctl.exports.formats.options import OPTIONS, FormatOptions, chosen
from barlowctl.exports.formats.timm_file import TimmFile
from barlowctl.exports.formats.torchvision_file import TorchvisionFile
from barlowctl.exports.formats.transformers_folder import TransformersFolder

if TYPE_CHECKING:
    from torch import Tensor

    from barlowctl.exports.exported import ExportedModel


class Format(Protocol):
    """Files that one library loads, and how.

    A format with options (see `formats.options`) has them as the fields of a dataclass.

    Attributes:
        name: as in `--format`.
        summary: what is written, for people: a noun phrase.
        suffix: how the name of the file ends; empty where the format is a folder.
        tolerance: largest difference of features that is accepted, relative to the largest feature (at least 1).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    suffix: ClassVar[str]

    @property
    def tolerance(self) -> float: ...

    def check(self, model: ExportedModel) -> None:
        """Refuse a model that the format cannot express.

        Raises:
            Misfit: naming the reason, and a format that can.
        """

    def write(self, model: ExportedModel, path: Path) -> tuple[Path, ...]:
        """Write the backbone to `path`, a file or a folder that is not there yet; returns the files written."""

    def load_lines(self, model: ExportedModel, path: Path) -> str:
        """Python that loads the files at `path`: imports, and lines that leave the feature extractor in `model`.

        It is in evaluation mode. The lines are executed before they are shown.
        """

    def features(self, model: ExportedModel, loaded: Any, pixels: Tensor) -> Tensor:
        """What `loaded`, the `model` of `load_lines`, computes of uint8 pixels (N, crop, crop, channels).

        After `fine_tuning_line`: the scores of the classes.
        """

    def quietly(self) -> AbstractContextManager[None]:
        """While the lines are executed to check them: without what the library says on the way."""

    def fine_tuning_line(self, model: ExportedModel, classes: int) -> str:
        """What to type after `load_lines` for a new classifier in `model`; empty where the format has none."""

    def check_loaded(self, model: ExportedModel, loaded: Any) -> None:
        """Assert what `loaded`, made by `load_lines`, must keep beside the features, which are compared elsewhere."""

    def notes(self, model: ExportedModel) -> tuple[str, ...]:
        """What the user of these files should know, beside the images that the network expects."""


KINDS: tuple[type[Format], ...] = (TimmFile, TorchvisionFile, HubFolder, TransformersFolder, OnnxFile)
FORMATS: dict[str, type[Format]] = {kind.name: kind for kind in KINDS}
"""Every format by its name; the first is the default."""


def format_named(name: str, **options: Unpack[FormatOptions]) -> Format:
    """The format of that name, with its options.

    Raises:
        UserError: no format has this name, or it does not have the option.
    """
    if name not in FORMATS:
        raise UserError(f"unknown export format '{name}'{did_you_mean(name, FORMATS)}", allowed=", ".join(FORMATS))
    named = chosen(options)
    for key in named:
        if key not in _options_of(FORMATS[name]):
            option, having = OPTIONS[key], [other for other, kind in FORMATS.items() if key in _options_of(kind)]
            raise UserError(
                f"format '{name}' has {option.lacks}",
                allowed=f"{option.flag} with --format {', '.join(having)}",
                next=f"without {option.flag}",
            )
    return FORMATS[name](**named)


def every_format(**options: Unpack[FormatOptions]) -> tuple[Format, ...]:
    """All formats, each with those of the options that it has."""
    named = chosen(options)
    return tuple(kind(**{key: named[key] for key in named.keys() & _options_of(kind)}) for kind in KINDS)


def _options_of(kind: type[Format]) -> set[str]:
    return {field.name for field in fields(kind)} if is_dataclass(kind) else set()
