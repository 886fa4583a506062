"""The cells that a study's tables are of, read from its directory without its recipes."""

from __future__ import annotations

import json
from pathlib import Path

from barlowctl.errors import UserError


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
