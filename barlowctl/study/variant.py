"""One row of a study: what it changes of the base recipe, and what the paper prints of it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from barlowctl import shell
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.refused import value_of
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
        grid: the file that it is from; None: the paper's study.
    """

    name: str
    overrides: tuple[Override, ...] = ()
    published: tuple[float | None, float | None] = (None, None)
    x: float | None = None
    group: str | None = None
    baseline: str | None = None
    settings: Settings | None = None
    grid: str | None = None

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
            UserError: they do not go together; names the variant, and the recipe of its settings or its grid file.
        """
        where = f"{source}, {self.title}" if source else self.title
        if self.grid is not None:
            return _of_grid(base, self.overrides, where, f"[{self.name}] of {self.grid}")
        from_recipe = shell.line("barlowctl", "recipes", "show", self.settings.recipe) if self.settings else None
        return overridden(base, self.overrides, where, from_recipe or shell.line("--without", self.name))


def overridden(base: Recipe, overrides: Sequence[Override], where: str, next: str) -> Recipe:
    """The base recipe with changes that nobody typed; an error says `where` they are from.

    Args:
        next: what is advised where the base recipe with other values would not help.

    Raises:
        UserError: they do not go together.
    """
    try:
        return load.override(base, overrides)
    except UserError as error:
        changes = _changes(error.next)
        of_base = changes and not changes.keys() & {text.partition("=")[0] for text in overrides}
        message = f"{where}: {_without_flags(error.message, overrides)}"
        raise UserError(message, allowed=error.allowed, next=error.next if of_base else next) from error


def _of_grid(base: Recipe, overrides: Sequence[Override], where: str, table: str) -> Recipe:
    """The base recipe with changes of a grid file.

    Args:
        table: of the file, which is what there is to mend.

    Raises:
        UserError: they do not go together.
    """
    try:
        return load.override(base, overrides, typed=True)
    except UserError as error:
        message = f"{where}: {_without_flags(error.message, overrides)}"
        lists = [key for key, _, value in (text.partition("=") for text in overrides) if value.startswith("[")]
        if several := next((key for key in lists if f"{key} is [" in error.message), None):
            raise UserError(
                message,
                allowed=f"one value of {several} in each table of a grid: a table for each value of the list",
                next=f"correct {table}",
            ) from error
        better = ", ".join(f"{key} = {value}" for key, value in _changes(error.next).items())
        next_step = f"correct {table}: {better}" if better else f"correct {table}"
        raise UserError(message, allowed=error.allowed, next=next_step) from error


def _changes(advice: str | None) -> dict[str, str]:
    """What flags of an error's advice set: key -> value as TOML."""
    words = shell.split(advice or "") if (advice or "").startswith("--set") else []
    changes = (word.partition("=") for flag, word in pairwise(words) if flag == "--set")
    return {key: json.dumps(value_of(text)) for key, _, text in changes}


def _without_flags(message: str, overrides: Sequence[Override]) -> str:
    """An error about overrides that were not typed as `--set`: without these words."""
    for override in overrides:
        message = re.sub(rf"^--set {re.escape(override)}(: |, )", "", message, flags=re.MULTILINE)
    return message


def refused(reasons: Mapping[str, str], without: Sequence[str], variants: Collection[str] = ()) -> UserError:
    """Variants that cannot be trained, by name, with what leaves all of them out.

    Args:
        without: those that are left out already. variants: all that were to be trained, of which some have to be left;
            empty: there are more.
    """
    left = not variants or set(variants) - reasons.keys()
    next = shell.line("--without", ",".join([*without, *reasons])) if left else OTHER_IMAGES
    return UserError("; ".join(reasons.values()), next=next)
