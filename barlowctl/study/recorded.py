"""The studies whose tables are in a directory, and the cells of those, read without their recipes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.errors import UserError
from barlowctl.output_paths import free
from barlowctl.study import studies


@dataclass(frozen=True)
class RecordedStudies:
    """Studies that were made together.

    names: those that are in the directory. selection: what names them to `barlowctl ablate`. seeds: how many of them.
    """

    names: tuple[str, ...]
    selection: tuple[str, ...]
    seeds: int


def check_layout(out: Path) -> None:
    """Refuse a study that versions before November 25, 2026 wrote: its cells lie elsewhere, and are not found again.

    Nothing of it is lost: each of its cells is a run.

    Raises:
        UserError: it is one, with what shows its runs.
    """
    with suppress(OSError, ValueError):
        if "variants" not in json.loads((out / "study.json").read_text(encoding="utf-8")):
            return
        runs = sorted(file.parent for file in out.glob("cells/*/seed-*/result.json"))
        raise UserError(
            f"'{out}' holds a study of a version before November 25, 2026, which is neither shown nor gone on with",
            allowed=f"its numbers are in {out / 'table.json'}, and its cells are runs",
            next="\n".join((shell.line("barlowctl", "runs", "table", *runs), shell.line("--out", free(out)))),
        )


def recorded_studies(out: Path) -> list[RecordedStudies]:
    """The studies that have a table in a directory; none where nothing of a study was written there.

    Tables of before November 2026 do not say what named them: their own names do, and of a grid that of its file, FILE
    where that is not here.
    """
    of_selection: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for file in sorted(out.glob("*.json")) if (out / "study.json").is_file() else []:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            document = json.loads(file.read_text(encoding="utf-8"))
            _seeds(document)
            of_selection.setdefault(tuple(_selection(document, out)), []).append(document)
    return [
        RecordedStudies(tuple(document["study"] for document in documents), selection, max(map(_seeds, documents)))
        for selection, documents in of_selection.items()
    ]


def _selection(document: Mapping[str, Any], out: Path) -> Sequence[str]:
    if document.get("selection"):
        words = [str(word) for word in document["selection"]]
        return [_grid(Path(word), out) if flag == "--grid" else word for flag, word in pairwise(["", *words])]
    name, groups = str(document["study"]), [row["group"] for row in document["rows"] if row.get("group")]
    methods = ["--methods", ",".join(dict.fromkeys(groups))] if groups else []
    if name == "methods":
        return methods
    if name in studies.NAMES:
        return ["projector-width" if name == "depth" else name, *methods]
    return ["--grid", _grid(Path(document["source"]), out)]


def _grid(file: Path, out: Path) -> str:
    """A grid file where it was, or where it went together with the study."""
    near = [file, Path(file.name), out.parent / file.name, out / file.name]
    return next((str(place) for place in near if place.is_file()), "FILE")


def _seeds(document: Mapping[str, Any]) -> int:
    """How many seeds a table has: of every row those that are finished, failed or missing."""
    of_rows = (seed for row in document["rows"] for key in ("finished", "failed", "missing") for seed in row[key])
    return 1 + max(map(int, of_rows), default=0)


def recorded_cells(out: Path) -> dict[str, list[Path]]:
    """Name of the folder of a variant's cells -> the folder of each finished cell, of the variants that have a row.

    A directory may also hold cells that no row is of: a variant whose settings have changed since has a new folder.

    Args:
        out: where `barlowctl ablate` wrote the tables.

    Raises:
        UserError: a table was written before tables named their cells.
    """
    documents = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(out.glob("*.json"))]
    rows = [row for document in documents if "rows" in document for row in document["rows"]]
    if not all("cells" in row for row in rows):
        raise UserError(
            f"the tables in '{out}' do not name their cells",
            allowed="those that `barlowctl ablate` writes now; run again with the same options it trains nothing that "
            "is finished",
        )
    return {
        name: [file.parent for file in sorted((out / "cells" / name).glob("seed-*/cell.json"))]
        for name in dict.fromkeys(row["cells"] for row in rows)
    }
