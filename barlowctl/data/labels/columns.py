"""Which columns of a table are paths of images, and which characters divide it."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from barlowctl.data.images.formats import IMAGE_ENDINGS

SEPARATORS = ",;|"

_ENDS_AS_IMAGE = re.compile(rf".*\.({'|'.join(IMAGE_ENDINGS)})[\"']?\s*", re.IGNORECASE | re.DOTALL)


def ends_as_image(path: str) -> bool:
    """Whether a path ends as a file of an image does."""
    return bool(_ENDS_AS_IMAGE.fullmatch(path))


def is_image(row: Sequence[str], at: int) -> bool:
    """Whether a cell ends as a file of an image does."""
    return bool(_ENDS_AS_IMAGE.fullmatch(row[at]))


def cells_of(texts: Sequence[str], separator: str) -> list[list[str]]:
    """Rows of cells; [] where it is no CSV."""
    quote = "'" if all(text.startswith("'") for text in texts) else '"'
    try:
        return list(csv.reader(texts, delimiter=separator, quotechar=quote))
    except csv.Error:
        return []


def labels_first(texts: Sequence[str]) -> list[list[str]] | None:
    """Rows of a label and a path where lines are so and labels come again; None: lines are paths, commas among them."""
    for separator in SEPARATORS:
        cells = cells_of(texts, separator) if all(separator in line for line in texts) else []
        labels = {row[0] for row in cells if len(row) == 2 and not is_image(row, 0)}
        if len(cells) > 1 and all(len(row) == 2 for row in cells) and 2 * len(labels) <= len(cells):
            return cells
    return None


def column_of_images(cells: Sequence[Sequence[str]]) -> int | None:
    """The one column that holds images below a name that we do not know (`fichier`); None: there is none."""
    rows = cells[1:]
    if not rows or any(len(row) != len(cells[0]) for row in cells) or any(map(ends_as_image, cells[0])):
        return None
    columns = [at for at in range(len(cells[0])) if all(is_image(row, at) for row in rows)]
    return columns[0] if len(columns) == 1 else None
