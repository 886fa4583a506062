"""One row of a study: what it changes of the base recipe, and what the paper prints of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from barlowctl import shell
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

Override = str  # key=value, as for --set
LONG_NUMBER = re.compile(r"\d+\.\d{5,}")
OTHER_IMAGES = "name a folder with more images, or a data set of the data home, with --data"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


EDIT_GRID = "correct the grid file"


@dataclass(frozen=True)
class Settings:
    """What makes the base recipe one of a method. `recipe`: the name or file of the one that the values are from."""

    recipe: str
    overrides: tuple[Override, ...]


@dataclass(frozen=True)
class Variant:
    """One row of a study.

    Attributes:
        overrides: all that it changes, those of `settings` first.
        published: top-1 and top-5. x: its place on the axis of a curve.
        group: the method, where a study has several: each has a line of its own in a figure.
        baseline: the variant that this one is compared with; None: the study's.
        settings: where a method's own settings are from; None: of the base recipe's own method.
    """

    name: str
    overrides: tuple[Override, ...] = ()
    published: tuple[float | None, float | None] = (None, None)
    x: float | None = None
    group: str | None = None
    baseline: str | None = None
    settings: Settings | None = None

    @property
    def label(self) -> str:
        """What it is within its group: on an axis that all groups share."""
        return self.name.removeprefix(f"{self.group}.")

    @property
    def changes(self) -> str:
        """What it changes, for people: of a method's settings only where they are from. Empty for the recipe itself."""
        own = self.overrides[len(self.settings.overrides) :] if self.settings else self.overrides
        changes = [LONG_NUMBER.sub(lambda number: f"{float(number[0]):.4g}", change) for change in own]
        return " ".join([f"settings of {self.settings.recipe}", *changes] if self.settings else changes)

    @property
    def title(self) -> str:
        """`variant 'swav' (settings of fashion-mnist-swav)`, for errors."""
        return f"variant '{self.name}'" + (f" (settings of {self.settings.recipe})" if self.settings else "")

    def recipe(self, base: Recipe, source: str | None = None) -> Recipe:
        """The base recipe with what the variant changes.

        Args:
            source: the table or figure, for the error.

        Raises:
            UserError: they do not go together; names the variant and the recipe of its settings.
        """
        return overridden(base, self.overrides, f"{source}, {self.title}" if source else self.title)


def overridden(base: Recipe, overrides: Sequence[Override], where: str) -> Recipe:
    """The base recipe with changes; an error says `where` they are from.

    Raises:
        UserError: they do not go together.
    """
    try:
        return load.override(base, overrides)
    except UserError as error:
        lists = [key for key, _, value in (text.partition("=") for text in overrides) if value.startswith("[")]
        if several := next((key for key in lists if f"{key} is [" in error.message), None):
            raise UserError(
                f"{where}: {error.message}",
                allowed=f"one value of {several} in each table of a grid: a table for each value of the list",
                next=EDIT_GRID,
            ) from error
        raise UserError(f"{where}: {error.message}", allowed=error.allowed, next=error.next) from error


def refused(reasons: Mapping[str, str], without: Sequence[str], variants: Collection[str] = ()) -> UserError:
    """Variants that cannot be trained, by name, with what leaves all of them out.

    Args:
        without: those that are left out already. variants: all that were to be trained, of which some have to be left;
            empty: there are more.
    """
    left = not variants or set(variants) - reasons.keys()
    next = shell.line("--without", ",".join([*without, *reasons])) if left else OTHER_IMAGES
    return UserError("; ".join(reasons.values()), next=next)
