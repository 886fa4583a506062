"""Cells of a study that another version of somebody's method or network trained than is registered now."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from barlowctl.assemble import own_parts
from barlowctl.study.directory import Cell, StudyDirectory


def cells_of_other_code(directory: StudyDirectory) -> list[Cell]:
    """The finished cells that another version trained than is registered now."""
    return [cell for cell in _finished(directory) if own_parts.changed(cell.path)]


def notes(directory: StudyDirectory, cells: Iterable[Cell]) -> list[str]:
    """What a row of the table says of its cells, a line for each version of somebody's file that is not today's.

    Where nobody has registered the network in this process, the versions of all cells are compared.
    """
    seeds: dict[str, list[int]] = {}
    for cell in cells:
        for about in _noted(cell):
            part, name, before = about["part"], about["name"], about["sha256"]
            now = own_parts.registered_now(part, name).get("sha256")
            if before and before != now and (now or len(_versions(directory, part, name)) > 1):
                today = f", and is of {now[:8]} now" if now else ""
                text = f"the {part} {name!r} was of {Path(about['file']).name} with sha256 {before[:8]}{today}"
                seeds.setdefault(text, []).append(cell.seed)
    return [f"seed{'s' * (len(of) > 1)} {', '.join(map(str, of))}: {text}" for text, of in seeds.items()]


def _versions(directory: StudyDirectory, part: str, name: str) -> set[str]:
    """The sha256 of the files that made a part of that name in the finished cells."""
    noted = (about for cell in _finished(directory) for about in _noted(cell))
    return {about["sha256"] for about in noted if (about["part"], about["name"]) == (part, name)}


def _noted(cell: Cell) -> list[dict[str, str]]:
    return own_parts.noted(cell.path) if cell.record is not None else []


def _finished(directory: StudyDirectory) -> list[Cell]:
    return [cell for cell in directory.cells if cell.record is not None]
