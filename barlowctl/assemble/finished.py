"""A run read back: its recipe and its trained networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from barlowctl import shell
from barlowctl.assemble import own_parts
from barlowctl.assemble.changed_since import decoded_otherwise
from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import build_method
from barlowctl.assemble.run_recipe import note_edited, recipe_of
from barlowctl.errors import UserError
from barlowctl.exports.keys import describe_difference
from barlowctl.methods import Method
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import rundir
from barlowctl.train import checkpoint


@dataclass(frozen=True)
class FinishedRun:
    """A run's newest sound checkpoint, or one that was named, on the CPU, in evaluation mode.

    Attributes:
        path: of the run. step: of the checkpoint. newest: whether no other one was named.
        finished: False for a run that is still going or was stopped. notes: what was skipped.
    """

    path: Path
    recipe: Recipe
    method: Method
    step: int
    finished: bool
    notes: tuple[str, ...]
    newest: bool = True


def open_run(path: Path) -> FinishedRun:
    """Read a run directory, or one of its checkpoints (`RUN/checkpoints/step-00000123`).

    Raises:
        UserError: not a run, no usable checkpoint, or weights that do not fit the recipe.
    """
    state = path if (of_run := rundir.run_of_checkpoint(path)) else None
    path = of_run or path
    recipe = recipe_of(path)
    own_parts.check(path, ("network", "method"))
    method = build_method(recipe, Context.noted(_about(path).get("context")))
    if state is None:
        loaded = checkpoint.load_latest(path / "checkpoints", model_only=True)
    else:
        loaded = checkpoint.load(state, model_only=True)
    if difference := describe_difference(method.state_dict(), loaded.state.model):
        raise UserError(
            f"the weights in '{loaded.path}' do not fit the run's recipe: the file {difference}",
            next=shell.line("barlowctl", "runs", "restore", path),
        )
    method.load_state_dict(dict(loaded.state.model))
    method.eval().to(torch.float32)
    finished, step = rundir.is_finished(path), loaded.state.step
    notes = loaded.notes
    if state is not None:
        notes += (f"this is step {step} of the run, the checkpoint that was named",)
    elif not finished:
        why = "whether the run is finished is not known, its result.json is damaged"
        is_damaged = (path / rundir.RESULT).is_file()
        notes += (f"{why if is_damaged else 'the run is not finished'}: this is step {step}",)
    decoded = decoded_otherwise(_about(path))
    notes += (*note_edited(path, recipe), *own_parts.note_changed(path), *([decoded] if decoded else []))
    return FinishedRun(path, recipe, method, step, finished, notes, newest=state is None)


def _about(path: Path) -> dict[str, Any]:
    """What run.json holds; nothing where it is gone."""
    return rundir.read_json(path / "run.json") if (path / "run.json").is_file() else {}
