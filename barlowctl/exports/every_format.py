"""Every format that holds a model, in one folder that appears whole; what does not hold it is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from barlowctl import files
from barlowctl.exports.exported import ExportedModel, ExportReport
from barlowctl.exports.formats import FORMATS, Format, every_format
from barlowctl.exports.formats.misfit import Misfit
from barlowctl.exports.formats.options import FormatOptions
from barlowctl.exports.writer import (
    check_projector,
    projector_of,
    taken,
    write_compared,
    write_projector,
    written_whole,
)
from barlowctl.output_paths import check_folder


@dataclass(frozen=True)
class ExportedFolder:
    """Exports of one model that were loaded back and compared.

    Attributes:
        path: the folder.
        reports: of the formats that were written, in the order of `FORMATS`.
        left_out: of the others: format -> why it is not there.
    """

    path: Path
    reports: tuple[ExportReport, ...]
    left_out: Mapping[str, str]


def export_all(
    model: ExportedModel,
    folder: Path,
    name: str,
    *,
    with_projector: bool = False,
    **options: Unpack[FormatOptions],
) -> ExportedFolder:
    """Write every format that holds the model, each loaded back and compared as by `export`.

    Args:
        model: the trained model and its preprocessing; left as it is.
        folder: new. name: what is in it is called NAME-FORMAT, with the format's suffix.
        with_projector: write the projector too, once: beside the first format's file.
        options: of the formats that have them, see `FormatOptions`.

    Raises:
        UserError: the folder is taken or not writable, no format holds the model, or its features are not finite;
            nothing is left behind.
    """
    if folder.exists():
        raise taken(folder)
    check_folder(folder.parent, named=folder)
    if with_projector:
        check_projector(model)
    with written_whole(folder) as temporary:
        temporary.mkdir()
        named = {f"{name}-{format.name}{format.suffix}": format for format in every_format(**options)}
        reports, misfits = write_those_that_fit(model, named, temporary, folder)
        if not reports:
            raise next(iter(misfits.values()))
        if with_projector:
            projector = projector_of(reports[0].path, FORMATS[reports[0].format].suffix)
            write_projector(model, temporary / projector.relative_to(folder))
            reports[0] = replace(reports[0], files=(*reports[0].files, projector))
    return ExportedFolder(folder, tuple(reports), {name: misfit.message for name, misfit in misfits.items()})


def write_those_that_fit(
    model: ExportedModel, named: Mapping[str, Format], temporary: Path, folder: Path
) -> tuple[list[ExportReport], dict[str, Misfit]]:
    """Write formats under these names into a folder; also returns why others of them do not hold the model.

    Args:
        temporary: where the folder is until it is whole; the reports say `folder`.

    Raises:
        UserError, OSError, SafetensorError: as `write_compared`, except of misfits.
    """
    reports: list[ExportReport] = []
    misfits: dict[str, Misfit] = {}
    for name, format in named.items():
        try:
            format.check(model)
            reports.append(write_compared(model, format, temporary / name, folder / name))
        except Misfit as misfit:
            files.remove(temporary / name)
            misfits[format.name] = misfit
    return reports, misfits
