"""Several runs beside one another: what their recipes differ in, and curves of what means the same in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from barlowctl import own_code
from barlowctl.errors import UserError
from barlowctl.output_paths import why_not_written
from barlowctl.quantities import LOSS, QUANTITIES, loss_meaning, meanings_of

if TYPE_CHECKING:
    from barlowctl.runs.history import History

Points = list[tuple[int, float]]

VECTORS = (".pdf", ".svg")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", *VECTORS)
"""Endings of pictures of curves: a paper takes those that are drawn in lines, not pixels."""


class Compared(NamedTuple):
    """One quantity of the runs that have it: its name, what it says there, and title -> (step, value)."""

    key: str
    meaning: str
    series: Mapping[str, Points]


def by_title(runs: Sequence[History]) -> dict[str, History]:
    """Runs by name; by path where names repeat."""
    names = [run.name for run in runs]
    return {run.name if names.count(run.name) == 1 else str(run.path): run for run in runs}


def panels_of(runs: Mapping[str, History]) -> list[Compared]:
    """Loss, its terms and kNN; of terms that have one name and several meanings, one for each meaning."""
    terms = [run.terms for run in runs.values()]
    shown_terms = [
        (name, words, {title: run for title, run in runs.items() if run.terms.get(name) == words})
        for name, words in meanings_of(terms)
    ]
    every = [(LOSS, loss_meaning(terms), runs), *shown_terms, ("knn", QUANTITIES["knn"].meaning, runs)]
    panels = [
        Compared(key, meaning, {title: points for title, run in having.items() if (points := run.curve(key))})
        for key, meaning, having in every
    ]
    return [panel for panel in panels if panel.series]


def curves_by_key(panels: Sequence[Compared]) -> dict[str, dict[str, Points]]:
    """Key -> title -> (step, value)."""
    curves: dict[str, dict[str, Points]] = {}
    for panel in panels:
        curves.setdefault(panel.key, {}).update(panel.series)
    return curves


def changes_of(runs: Mapping[str, History]) -> dict[str, dict[str, Any]]:
    """What each run's recipe, images and own code have that the first one's have not: key -> value.

    None: the key is not its.
    """
    from barlowctl.recipe.settings import differences, settings_of

    settings = [settings_of(run.path) for run in runs.values()]
    changes = {title: differences(settings[0], own) for title, own in zip(runs, settings, strict=True)}
    first = next(iter(runs.values()))
    for title, run in runs.items():
        own = run.images
        if first.images and own and own["digest"] != first.images["digest"]:
            changes[title]["images"] = f"{own['images']:,} others ({own['digest'][:8]})"
        for part in own_code.PARTS:
            before, now = own_code.note_of(first.about, part), own_code.note_of(run.about, part)
            if before and now and before["name"] == now["name"] and before["sha256"] != now["sha256"]:
                changes[title][f"{part}'s file"] = f"another version ({now['sha256'][:8]})"
    return changes


def in_words(changes: Mapping[str, Any]) -> str:
    """The changes as a sentence. Keys that the recipe's method has not are left out: its name says so."""
    return ", ".join(f"{key} = {value}" for key, value in changes.items() if value is not None) or "the same recipe"


def write_picture(out: Path, panels: Sequence[Compared]) -> None:
    """The curves as a picture.

    Raises:
        UserError: there are none, or the file cannot be written, or (of .pdf and .svg) matplotlib is not installed.
    """
    from barlowctl.files import folder_made
    from barlowctl.plots.images import save_image
    from barlowctl.plots.panels import Panel, panels_image
    from barlowctl.plots.vector import save_panels

    if not panels:
        raise UserError("there is nothing to draw yet", next="barlowctl runs watch")
    titled = [
        Panel(QUANTITIES[key].title if key in QUANTITIES else key.capitalize(), series, meaning=meaning)
        for key, meaning, series in panels
    ]
    try:
        with folder_made(out.parent):
            if out.suffix.lower() in VECTORS:
                save_panels(titled, out)
            else:
                save_image(panels_image(titled), out)
    except OSError as error:
        why = why_not_written(error, out.parent)
        raise UserError(f"'{out}' cannot be written: {why}", next="name another place with --out") from error
