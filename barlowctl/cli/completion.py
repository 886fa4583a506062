"""What a shell lists after Tab where the values are known only at run time: recipes, data sets, runs, devices.

Each function takes what was typed so far and returns the names that begin with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import typer


@cache  # once: it changes a class of typer's
def keep_apostrophes_in_zsh() -> None:
    """Write the apostrophe of a help text as zsh reads one within quotes: typer's doubled one is none there."""
    from typer._completion_classes import ZshComplete

    doubled = ZshComplete.format_completion

    def format_completion(self: Any, item: Any) -> str:
        return doubled(self, item).replace("''", r"'\''")

    ZshComplete.format_completion = format_completion  # type: ignore[method-assign]


def modules(incomplete: str) -> list[str]:
    """Python's modules and files of this folder, for `--import`."""
    from pathlib import Path

    names = [name for path in sorted(Path().glob("*.py")) for name in (path.stem, path.name)]
    return _beginning(incomplete, [*names, *(path.parent.name for path in sorted(Path().glob("*/__init__.py")))])


def recipes(incomplete: str) -> list[str]:
    """Shipped recipes."""
    from barlowctl.recipe import catalog

    return _beginning(incomplete, catalog.shipped())


def keys(incomplete: str, ctx: typer.Context | None = None) -> list[str]:
    """Keys of a recipe for `--set`, each with its `=`; with those of methods that `--import` in front would register.

    Args:
        ctx: of the command that is typed; None: nothing is imported.
    """
    from barlowctl.cli.own_keys import own_keys
    from barlowctl.recipe.objectives import METHODS
    from barlowctl.recipe.schema import Recipe

    def below(section: Any, prefix: str) -> Iterator[str]:
        for name, field in section.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                yield from below(field.annotation, f"{prefix}{name}.")
            elif (prefix, name) != ("", "objective"):
                yield f"{prefix}{name}="

    of_methods = {key for method in METHODS.values() for key in below(method, "objective.")}
    own = own_keys(ctx.find_root().params.get("imports") or ()) if ctx is not None else ()
    return _beginning(incomplete, sorted({*below(Recipe, ""), *of_methods, *own}))


def datasets(incomplete: str) -> list[str]:
    """Data sets of the data home."""
    from barlowctl.data import home

    return _beginning(incomplete, home.available())


def downloads(incomplete: str) -> list[str]:
    """Data sets that `data get` brings."""
    from barlowctl.datasets import DOWNLOADABLE

    return _beginning(incomplete, DOWNLOADABLE)


def licenses(incomplete: str) -> list[str]:
    """Licenses as the Hugging Face Hub calls them."""
    from barlowctl.exports.licenses import LICENSES

    return _beginning(incomplete, LICENSES)


def runs(incomplete: str) -> list[str]:
    """Runs of the runs home, newest first."""
    from barlowctl.runs import history, rundir

    return _beginning(incomplete, [run.name for run in history.find_all(rundir.runs_home())])


def studies(incomplete: str) -> list[str]:
    """Studies of `ablate`."""
    from barlowctl.study.studies import NAMES

    return _beginning(
        incomplete, [*(name for name in NAMES if name != "depth"), "methods"]
    )  # depth comes with projector-width


def methods(incomplete: str) -> list[str]:
    """Names of methods, the last one of a list."""
    from barlowctl.study.family import NAMES

    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in _beginning(last, ["all", *NAMES])]


def compared(incomplete: str) -> list[str]:
    """Methods whose losses and steps `bench` compares."""
    from barlowctl.bench.compared import COMPARED

    return _beginning(incomplete, COMPARED)


def families(incomplete: str) -> list[str]:
    """Shipped families of recipes, one a method."""
    from barlowctl.study import family

    return _beginning(incomplete, family.shipped())


def devices(incomplete: str) -> list[str]:
    """Where one can compute."""
    return _beginning(incomplete, ["auto", "cpu", "cuda"])


def percentages(incomplete: str) -> list[str]:
    """The shares of labels that `probe --semi` knows."""
    return _beginning(incomplete, ["1", "10"])


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
