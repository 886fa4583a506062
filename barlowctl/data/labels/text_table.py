"""Text files that list images: a path a line, tables with columns, JSON lines, a JSON object of labels."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barlowctl.amounts import counted
from barlowctl.data.images.formats import IMAGE_ENDINGS
from barlowctl.data.labels.columns import (
    SEPARATORS,
    cells_of,
    column_of_images,
    ends_as_image,
    is_image,
    labels_first,
)
from barlowctl.data.labels.numbering import LABEL_NAMES, label_name
from barlowctl.data.labels.text_lines import between_nuls, lines_of
from barlowctl.data.names import written
from barlowctl.data.tree.splits import split_in
from barlowctl.errors import UserError

MEND = "correct the table"
FILE_NAMES = (
    "file_name", "filename", "file", "filepath", "file_path", "filepaths", "path", "image_path", "imagepath", "image",
    "img_path", "img", "image_name", "image_file", "image_id", "imageid", "id", "name",
)  # fmt: skip
"""What a column of paths is called, best first, in small letters."""

SPLIT_NAMES = ("split", "set", "subset", "partition", "data set", "dataset", "phase", "fold")

_IMAGE = "|".join(IMAGE_ENDINGS)
_IMAGE_AND_LABEL = re.compile(rf"(.*\.(?:{_IMAGE})[\"']?)\s+(\S.*)", re.IGNORECASE | re.DOTALL)
_FRACTION = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MARKS = {"0": 0, "0.0": 0, "False": 0, "false": 0, "1": 1, "1.0": 1, "True": 1, "true": 1}
_NUMBER_LAST = re.compile(r"(.*\S)\s+(\d+)\s*")


@dataclass
class Table:
    """What a text file lists, a row an image.

    paths: as they are written.    lines: where each stands, from 1.    exact: paths are meant to the letter (NUL
    between them).    labels: one each, None where there are none, called `label`.    splits: what stands in its column
    of splits.    records: all columns of each row, where columns have names.    notes: choices that were made.
    """

    paths: list[str]
    lines: list[int]
    exact: bool = False
    labels: list[Any] | None = None
    label: str = ""
    splits: list[str | None] | None = None
    records: Sequence[dict[str, Any]] = ()
    notes: list[str] = field(default_factory=list)


def read_table(path: Path, data: bytes) -> Table:
    """Read a text file.

    Raises:
        UserError: no rows, a row with other columns than the others, or damaged; names the file and line.
    """
    if (exact := between_nuls(data)) is not None:
        return Table(exact, list(range(1, len(exact) + 1)), exact=True)
    rows = [(number, line) for number, line in enumerate(lines_of(path, data), start=1) if line.strip()]
    if not rows:
        raise UserError(f"{path} lists no images", next="write one path a line")
    if rows[0][1].lstrip()[:1] in ("{", "[") and not ends_as_image(rows[0][1]):
        return _json(path, rows)
    rows = [(number, line) for number, line in rows if not line.startswith("#") or _there(path, line)]
    if not rows:
        raise UserError(f"{path} lists no images, only comments", next="write one path a line")
    if len(rows) > 2 and re.fullmatch(r"\s*-+\s*", rows[1][1]):
        rows = rows[2:]  # PowerShell's name of a column and the line below it
    return _columns(path, rows)


def _there(path: Path, line: str) -> bool:
    return (path.parent / line.strip()).is_file()


# ---- columns ---------------------------------------------------------------------------------------------


def _columns(path: Path, rows: Sequence[tuple[int, str]]) -> Table:
    lines, texts = [number for number, _ in rows], [line for _, line in rows]
    if any("\t" in line.strip() for line in texts):
        return _table(path, lines, [[_unquoted(cell) for cell in line.split("\t")] for line in texts])
    if all(ends_as_image(line) for line in texts):
        return Table(texts, lines) if (cells := labels_first(texts)) is None else _table(path, lines, cells)
    if texts[0].strip().lower() in FILE_NAMES and all(ends_as_image(line) for line in texts[1:]):
        return Table(texts[1:], lines[1:])  # one column with a name
    for separator in SEPARATORS:
        if all(separator in line for line in texts) or _is_header(texts, separator):
            cells = cells_of(texts, separator)
            header = [cell.strip().lower() for cell in cells[0]] if cells else []
            if len(cells) == len(texts) and (
                any(name in header for name in FILE_NAMES)
                or all(any(ends_as_image(cell) for cell in row[:2]) for row in cells)
                or column_of_images(cells) is not None
            ):
                return _table(path, lines, cells)
    if all(_NUMBER_LAST.fullmatch(line) for line in texts):
        return _table(path, lines, [list(_NUMBER_LAST.fullmatch(line).groups()) for line in texts])  # type: ignore[union-attr]
    if all(matches := [_IMAGE_AND_LABEL.fullmatch(line) for line in texts]):
        return _table(path, lines, [list(match.groups()) for match in matches if match])
    return Table(texts, lines)


def _is_header(texts: Sequence[str], separator: str) -> bool:
    """Whether the first line names columns that a separator divides, as it divides most of the lines."""
    names = [name.strip().strip("\"'").lower() for name in texts[0].split(separator)]
    return (
        len(names) > 1
        and any(name in FILE_NAMES for name in names)
        and (2 * sum(separator in text for text in texts) > len(texts))
    )


def _table(path: Path, lines: list[int], cells: list[list[str]]) -> Table:
    """Rows of equal length, below a header or without one: then the path comes first and the label second."""
    wrong = next((at for at, row in enumerate(cells) if len(row) != len(cells[0])), None)
    if wrong is not None:
        raise UserError(
            f"{path}, line {lines[wrong]}: {counted(len(cells[wrong]), 'column')} where the first line has "
            f"{len(cells[0])}",
            allowed="a path, or a path and a label with a tab between, on every line alike",
            next=MEND,
        )
    header = [cell.strip().strip("\"'") for cell in cells[0]]
    lowered = [name.lower() for name in header]
    named = [name for name in lowered if name in (*FILE_NAMES, *LABEL_NAMES)]
    unnamed = not named or any(ends_as_image(cell) for cell in header)
    column = column_of_images(cells) if unnamed or not set(lowered) & set(FILE_NAMES) else None
    if column is not None:
        records = [dict(zip(header, row, strict=True)) for row in cells[1:]]
        table = table_of(path, lines[1:], records, header, file=header[column])
        table.notes.insert(0, f"{path.name}: column '{written(header[column])}' is taken for the paths")
        return table
    if unnamed:
        if len(header) > 2 and all(is_image(row, 0) for row in cells):
            return _nameless(path, lines, cells)
        if len(header) > 2:
            raise UserError(
                f"{path}, line {lines[0]}: {len(header)} columns and no names of columns",
                allowed="a path, or a path and a label with a tab between, on every line alike; or a first line that "
                "names the columns, such as file_name and label",
                next=MEND,
            )
        swapped = (
            len(header) == 2
            and not any(map(is_image, cells, [0] * len(cells)))
            and all(map(is_image, cells, [1] * len(cells)))
        )
        files, words = ([row[1 if swapped else 0] for row in cells], [row[0 if swapped else -1] for row in cells])
        return Table(files, lines, labels=words if len(header) == 2 else None, label="the label")
    records = [dict(zip(header, row, strict=True)) for row in cells[1:]]
    return table_of(path, lines[1:], records, header)


def _nameless(path: Path, lines: list[int], cells: Sequence[Sequence[str]]) -> Table:
    """Paths and several columns without names: labels are those of the one column of words (boxes are numbers)."""
    columns = [[row[at].strip() for row in cells] for at in range(1, len(cells[0]))]
    words = [at for at, column in enumerate(columns) if not any(_FRACTION.fullmatch(word) for word in column)]
    table = Table([row[0] for row in cells], lines)
    if len(words) == 1:
        table.labels, table.label = columns[words[0]], f"column {words[0] + 2}"
    used = f"; column {words[0] + 2} is taken for the labels" if len(words) == 1 else ""
    table.notes.append(f"{path.name}: {len(cells[0])} columns without names{used}, the others are not used")
    return table


def _json(path: Path, rows: Sequence[tuple[int, str]]) -> Table:
    """JSON lines; one array of paths, or of records with a path and perhaps a label; or one object {path: label}."""
    lines, entries = [number for number, _ in rows], []
    if (whole := _json_object(rows)) is not None:
        return _mapping(path, lines[0], whole)
    try:
        if rows[0][1].lstrip().startswith("["):
            entries = json.loads("\n".join(line for _, line in rows))
            lines = [lines[0]] * len(entries)
        else:
            entries = []
            for _, line in rows:
                entries.append(json.loads(line))
    except (ValueError, RecursionError) as error:
        number = lines[len(entries)]
        raise UserError(
            f"{path}, line {number}: no JSON ({error})", allowed="one JSON object a line", next=MEND
        ) from error
    if not entries:
        raise UserError(f"{path} lists no images", next="write one path a line")
    if all(isinstance(entry, str) for entry in entries):
        return Table(entries, lines)
    wrong = next((at for at, entry in enumerate(entries) if not isinstance(entry, dict)), None)
    if wrong is not None:
        raise UserError(f"{path}, line {lines[wrong]}: no JSON object", allowed="one JSON object a line", next=MEND)
    names = list(dict.fromkeys(str(key) for entry in entries for key in entry))
    return table_of(path, lines, entries, names)


def _json_object(rows: Sequence[tuple[int, str]]) -> dict[str, Any] | None:
    """The one object that all rows are; None where they are lines of JSON, or an array."""
    try:
        whole = json.loads("\n".join(line for _, line in rows))
    except (ValueError, RecursionError):
        return None
    single = isinstance(whole, dict) and len(rows) == 1 and any(name in FILE_NAMES for name in map(str.lower, whole))
    return whole if isinstance(whole, dict) and not single else None


def _mapping(path: Path, line: int, whole: dict[str, Any]) -> Table:
    """{path: label}, or {"labels": [[path, label], ...]} as StyleGAN's dataset.json has it."""
    pairs = list(whole.items())
    if isinstance(listed := whole.get("labels"), list) and all(
        isinstance(pair, list) and len(pair) == 2 for pair in listed
    ):
        pairs = [(str(name), label) for name, label in listed]
    if not pairs or not all(ends_as_image(name) for name, _ in pairs):
        raise UserError(
            f"{path}, line {line}: no paths of images in this JSON object",
            allowed='{"a.jpg": "cat"}, or one object a line with file_name and label',
            next=MEND,
        )
    return Table(
        [name for name, _ in pairs], [line] * len(pairs), labels=[label for _, label in pairs], label="the label"
    )


def table_of(
    path: Path, lines: list[int], records: Sequence[dict[str, Any]], names: Sequence[str], *, file: str | None = None
) -> Table:
    """Rows below names of columns. `file`: the column of paths, where its name is none that we know."""
    lowered = {name.lower(): name for name in reversed(names)}
    file = file or next((lowered[name] for name in FILE_NAMES if name in lowered), None)
    if file is None:
        raise UserError(
            f"{path} has no column of paths",
            allowed=f"one called {', '.join(FILE_NAMES[:8])}; it has {', '.join(names)}",
            next=MEND,
        )
    if not records:
        raise UserError(f"{path} lists no images below its column names", next="write one image a line")
    wrong = next((at for at, record in enumerate(records) if not isinstance(record.get(file), str | int)), None)
    if wrong is not None:
        raise UserError(f"{path}, line {lines[wrong]}: no path in '{file}'", next=MEND)
    table = Table([str(record[file]) for record in records], lines, records=records)
    label = label_name([name for name in names if name != file])
    split = next(
        (lowered[name] for name in SPLIT_NAMES if name in lowered and lowered[name] not in (file, label)), None
    )
    if split is not None:
        row_splits = [split_in(str(record.get(split) or "")) for record in records]
        table.splits = row_splits if any(row_splits) else None
    others = [name for name in names if name not in (file, split if table.splits else None)]
    if label is None and len(others) == 1:
        label = others[0]
        table.notes.append(f"{path.name}: column '{written(label)}' is taken for the labels")
    unused = [name for name in others if name != label]
    if label is not None:
        table.labels, table.label = [record.get(label) for record in records], f"column '{written(label)}'"
    elif classes := _one_of(records, unused):
        table.labels, table.label = classes, f"columns {unused[0]} to {unused[-1]}"
        table.notes.append(f"{path.name}: each of the columns '{unused[0]}' to '{unused[-1]}' is a class")
        unused = []
    if unused:
        listed = ", ".join(f"'{written(name)}'" for name in unused[:8]) + (", ..." if len(unused) > 8 else "")
        what = "not used" if label is not None else "not used, none of them is called label or class"
        table.notes.append(f"{path.name}: columns {listed} are {what}")
    return table


def _one_of(records: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """The column of each row that is 1 where all others are 0; [] where they are not so, or there is but one."""
    columns: list[str] = []
    for record in records if len(names) > 1 else ():
        marks = [str(record.get(name)).strip() for name in names]
        if not all(mark in _MARKS for mark in marks) or sum(_MARKS[mark] for mark in marks) != 1:
            return []
        columns.append(next(name for name, mark in zip(names, marks, strict=True) if _MARKS[mark]))
    return columns


def _unquoted(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "\"'" else cell
