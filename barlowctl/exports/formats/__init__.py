"""The formats: which models each can hold, the files it consists of, and the Python that loads them.

One module and one class each. A format imports torch and the libraries it writes for when it is used, not before:
the command line reads the names and summaries in `FORMATS` for its help.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from barlowctl.errors import UserError, did_you_mean
from barlowctl.exports.formats.hub_folder import HubFolder
from barlowctl.exports.formats.timm_file import TimmFile
from barlowctl.exports.formats.torchvision_file import TorchvisionFile

if TYPE_CHECKING:
    from torch import nn

    from barlowctl.exports.exported import ExportedModel


class Format(Protocol):
    """Files that one library loads, and how.

    Attributes:
        name: as in `--format`.
        summary: what is written, for people: a noun phrase.
        suffix: how the name of the file ends; empty where the format is a folder.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    suffix: ClassVar[str]

    def check(self, model: ExportedModel) -> None:
        """Refuse a model that the format cannot express.

        Raises:
            UserError: naming the reason, and a format that can.
        """

    def write(self, model: ExportedModel, path: Path) -> tuple[Path, ...]:
        """Write the backbone to `path`, a file or a folder that is not there yet; returns the files written."""

    def load_lines(self, model: ExportedModel, path: Path) -> str:
        """Python that loads the files at `path`: imports, and lines that leave the feature extractor in `model`.

        `model(images)` gives features in evaluation mode. The lines are executed before they are shown.
        """

    def fine_tuning_line(self, model: ExportedModel, classes: int) -> str:
        """What to type after `load_lines` for a new classifier in `model`."""

    def check_loaded(self, model: ExportedModel, loaded: nn.Module) -> None:
        """Assert what `loaded`, made by `load_lines`, must keep beside the features, which are compared elsewhere."""

    def notes(self, model: ExportedModel) -> tuple[str, ...]:
        """What the user of these files should know, beside the images that the network expects."""


FORMATS: dict[str, type[Format]] = {kind.name: kind for kind in (TimmFile, TorchvisionFile, HubFolder)}
"""Every format by its name; the first is the default."""


def format_named(name: str, *, zero_classifier: bool = False) -> Format:
    """The format of that name, with its options.

    Raises:
        UserError: no format has this name, or it does not have the option.
    """
    if name not in FORMATS:
        raise UserError(f"unknown export format '{name}'{did_you_mean(name, FORMATS)}", allowed=", ".join(FORMATS))
    if not zero_classifier:
        return FORMATS[name]()
    if name != TorchvisionFile.name:
        raise UserError(
            f"format '{name}' has no classifier to fill with zeros",
            allowed=f"--zero-classifier with --format {TorchvisionFile.name}",
            next="without --zero-classifier",
        )
    return TorchvisionFile(zero_classifier=True)
