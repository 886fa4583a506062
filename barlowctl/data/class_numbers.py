"""Labels that are numbers, and the names of their classes."""

from __future__ import annotations

from barlowctl.errors import UserError

MAX_CLASSES = 1_000_000
"""Of labels that are numbers: every class from 0 to the largest gets a name in memory and in the packed file."""


def numbered_classes(largest: int, where: str) -> list[str]:
    """Names of the classes 0 to `largest`, which are their numbers.

    Raises:
        UserError: more than `MAX_CLASSES`; `where` says which label it was.
    """
    if largest >= MAX_CLASSES:
        raise UserError(
            f"{where} has the class number {largest}",
            allowed=f"0 to {MAX_CLASSES - 1:,}",
            next="number the classes 0, 1, 2, ...",
        )
    return [str(i) for i in range(largest + 1)]
