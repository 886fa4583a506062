"""A run as what is exported: its newest state, the one it keeps as its best, or a checkpoint that is named."""

from __future__ import annotations

from pathlib import Path

from barlowctl import shell
from barlowctl.assemble.finished import FinishedRun
from barlowctl.assemble.model import arguments_of
from barlowctl.assemble.run_images import preprocessing_of_run
from barlowctl.assemble.run_recipe import recipe_of
from barlowctl.criteria import CRITERIA
from barlowctl.errors import UserError
from barlowctl.exports import ExportedModel
from barlowctl.exports.formats import format_named
from barlowctl.recipe import load
from barlowctl.runs import rundir
from barlowctl.runs.best import Choice, choose
from barlowctl.runs.history import read


def model_of(run: FinishedRun) -> ExportedModel:
    """The run's backbone, and what one must know to use it."""
    recipe = run.recipe
    return ExportedModel(
        backbone=run.method.backbone,
        architecture=recipe.model.backbone,
        timm_args=arguments_of(recipe, run.method.backbone),
        stem=recipe.model.stem,
        preprocessing=preprocessing_of_run(run.path, recipe),
        projector=run.method.heads().get("projector"),
        provenance={
            "recipe": recipe.name,
            "recipe_digest": load.digest(recipe),
            "method": recipe.objective.name,
            "run": run.path.resolve().name,
            "step": str(run.step),
            **({"init": recipe.init.weights, "init_sha256": recipe.init.sha256} if recipe.init.weights else {}),
        },
    )


def name_of(state: Path) -> str:
    """What the exports of a run, or of one of its checkpoints, are called after: RUN, or RUN-step-00000123."""
    run = rundir.run_of_checkpoint(state)
    return state.resolve().name if run is None else f"{run.resolve().name}-{state.name}"


def default_target(state: Path, format: str) -> Path:
    """Where the export of a run, or of one of its checkpoints, goes: into the run, under a name of its own.

    Raises:
        UserError: no format has this name.
    """
    return _run_of(state) / f"{name_of(state)}-{format}{format_named(format).suffix}"


def default_folder(state: Path) -> Path:
    """Where all formats go together: into the run too."""
    return _run_of(state) / f"{name_of(state)}-all"


def _run_of(state: Path) -> Path:
    return rundir.run_of_checkpoint(state) or state


def best_state(run: Path) -> tuple[Choice, Path]:
    """The evaluation that a run chose as its best, and the checkpoint that it keeps of it.

    Raises:
        UserError: it keeps none, or has not evaluated yet; a checkpoint was named.
    """
    if rundir.run_of_checkpoint(run) is not None:
        raise UserError(f"'{run}' is one state of a run, and --best is another", next="without --best")
    measure = recipe_of(run).train.keep_best
    if measure == "off":
        raise UserError(
            f"'{run}' keeps no best state: its train.keep_best is off",
            allowed="a checkpoint that is there; `runs best` names the best of them",
            next=shell.line("barlowctl", "runs", "best", run),
        )
    choice = choose(read(run), CRITERIA[measure])
    if choice is None or choice.weights is None:
        why = "no evaluation has measured it" if choice is None else f"the checkpoint of step {choice.step} is gone"
        raise UserError(
            f"the best state of '{run}' by {measure} is not there: {why}",
            next=shell.line("barlowctl", "runs", "show", run),
        )
    return choice, choice.weights
