"""A run read back: its recipe and its trained networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from barlowctl import shell
from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import build_method
from barlowctl.assemble.run_recipe import note_edited, recipe_of
from barlowctl.errors import UserError
from barlowctl.export.keys import describe_difference
from barlowctl.methods import Method
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import rundir
from barlowctl.train import checkpoint


@dataclass(frozen=True)
class FinishedRun:
    """A run's newest sound checkpoint, on the CPU, in evaluation mode.

    `finished` is False for a run that is still going or was stopped; `notes` say what was skipped.
    """

    path: Path
    recipe: Recipe
    method: Method
    step: int
    finished: bool
    notes: tuple[str, ...]


def open_run(path: Path) -> FinishedRun:
    """Read a run directory.

    Raises:
        UserError: not a run, no usable checkpoint, or weights that do not fit the recipe.
    """
    recipe = recipe_of(path)
    method = build_method(recipe, Context.noted(_noted(path)))
    loaded = checkpoint.load_latest(path / "checkpoints", model_only=True)
    if difference := describe_difference(method.state_dict(), loaded.state.model):
        raise UserError(
            f"the weights in '{loaded.path}' do not fit the run's recipe: the file {difference}",
            next=shell.line("barlowctl", "runs", "restore", path),
        )
    method.load_state_dict(dict(loaded.state.model))
    method.eval().to(torch.float32)
    finished = (path / "result.json").is_file()
    notes = loaded.notes + (() if finished else (f"the run is not finished: this is step {loaded.state.step}",))
    notes += note_edited(path, recipe)
    return FinishedRun(path, recipe, method, loaded.state.step, finished, notes)


def _noted(path: Path) -> object:
    """What the run's method had from outside of its recipe; None where nothing is noted."""
    return rundir.read_json(path / "run.json").get("context") if (path / "run.json").is_file() else None
