"""Names of class folders: compared as they read, and refused where two read alike or training lacks one."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from barlowctl.data.names import written
from barlowctl.errors import UserError


def lacking(where: str, name: str, classes: int) -> UserError:
    """What to say of a class folder that the training split has not. classes: how many it has."""
    return UserError(
        f"{where} has the class folder '{written(name)}', which the training set lacks",
        allowed=f"the {classes:,} class folders of the training set",
        next="put images of this class into the training set too, or remove its folder",
    )


def refuse_look_alikes(where: str, names: Sequence[str]) -> None:
    """Refuse two class folders with one name in other forms of Unicode.

    Raises:
        UserError: names both.
    """
    seen: dict[str, str] = {}
    for name in names:
        reads = normalized(name)
        if reads in seen:
            raise UserError(
                f"{where} has two class folders that both read '{written(reads)}': {seen[reads]!a} and {name!a}",
                next="merge or rename one of them",
            )
        seen[reads] = name


def normalized(name: str) -> str:
    """A name as it reads, whichever of Unicode's forms it is written in."""
    return unicodedata.normalize("NFC", name)
