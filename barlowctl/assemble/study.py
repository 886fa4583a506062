"""One cell of a study: a recipe with a variant's overrides and a seed, trained and measured."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from barlowctl.ablate.runner import Measures, RunCell
from barlowctl.ablate.studies import Variant
from barlowctl.assemble.finished import open_run
from barlowctl.assemble.job import prepare
from barlowctl.assemble.launch import launch
from barlowctl.assemble.machine import Runtime, refuse_several_devices
from barlowctl.assemble.probing import open_labelled, probe
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.train.events import Sink


def cell_runner(
    base: Recipe, runtime: Runtime, data: str | None, show: Callable[[], AbstractContextManager[Sink]]
) -> RunCell:
    """A function that trains a cell in its directory (resuming what is there) and measures it.

    Raises:
        UserError: the data has no labelled splits to measure on.
    """
    refuse_several_devices("ablate")
    labelled = open_labelled(base, data)

    def run_cell(variant: Variant, seed: int, path: Path) -> Measures:
        recipe = load.override(base, (*variant.overrides, f"seed={seed}"))
        if not (path / "result.json").is_file():
            job = prepare(recipe, runtime, data)
            with show() as sink:
                launch(job, path, sink, resume=(path / "recipe.toml").is_file())
        run = open_run(path)
        _, values = next(probe(run, labelled, runtime))
        return {
            "knn": values["knn"]["top1"],
            "linear_top1": values["linear"]["top1"],
            "linear_top5": values["linear"]["top5"],
            "effective_rank": values["effective_rank"],
            "feature_spread": values["feature_spread"],
        }

    return run_cell
