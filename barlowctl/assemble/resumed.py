"""A run that goes on, with the recipe and the images it was started with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from barlowctl import shell
from barlowctl.assemble.run_images import require
from barlowctl.assemble.run_recipe import another_run, check_recipe, recipe_of
from barlowctl.errors import UserError
from barlowctl.recipe import catalog, load, saving
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import rundir
from barlowctl.runs.resumption import resume_line


@dataclass(frozen=True)
class ResumedRun:
    """A run that is not finished, and the recipe it was started with; its checkpoints may be written otherwise now."""

    directory: Path
    recipe: Recipe

    def dataset(self) -> str:
        """The images it was started with."""
        return require(self.directory, self.recipe)


def run_to_resume(
    name: str | Path, recipe: str | None = None, overrides: Sequence[str] = (), out: Path | None = None
) -> ResumedRun:
    """The run of a name or directory. A recipe that is given again must be the same, but its checkpoints (`saving`).

    Raises:
        UserError: not a run, finished already, a recipe that differs, or was edited since the run began.
    """
    if run := rundir.run_of_checkpoint(Path(name)):
        commands = (resume_line(run), another_run(run, recipe_of(run), "--init", Path(name)))
        raise UserError(
            f"'{name}' is a checkpoint of the run '{run}', which goes on from its newest one",
            allowed="the run's directory, or a new run that starts from the checkpoint's weights",
            next="\n".join(commands),
        )
    directory = _directory(name)
    saved = recipe_of(directory)
    if out is not None:
        raise UserError("--out and --resume exclude each other", next="without --out")
    if rundir.result_of(directory):
        longer = another_run(directory, saved, "--init", directory)
        raise UserError(
            f"'{directory}' is finished",
            allowed="a run that was stopped; more epochs are a new run, which may start from this one's weights",
            next="\n".join((shell.line("barlowctl", "report", directory), longer)),
        )
    if recipe is not None or overrides:
        named = load.load(recipe or str(directory / "recipe.toml"), overrides)
        named = load.as_begun(named, saved)
        if changes := saving.of_result(load.diff(saved, named)):
            lines = "\n".join(f"  {key}: {old!r} in the run, {new!r} now" for key, old, new in changes)
            raise UserError(
                f"'{directory}' was started with another recipe:\n{lines}",
                allowed="the recipe of its beginning, or a new run with other values that starts from its weights",
                next="\n".join([resume_line(directory), *_with_other_values(directory, saved, recipe, overrides)]),
            )
        saved = saving.saving_as(saved, named)
    check_recipe(directory)
    return ResumedRun(directory, saved)


def _directory(name: str | Path) -> Path:
    """See `rundir.find`; what is none, and leads to a run or to a new one, is answered with that."""
    try:
        return rundir.find(name)
    except UserError as error:
        if run := rundir.run_around(Path(name)):
            error.next = resume_line(run)
        elif str(name) in catalog.shipped() or (Path(name).suffix == ".toml" and Path(name).is_file()):
            error.message = f"'{name}' is a recipe, and --resume takes a run that began"
            error.next = shell.line("barlowctl", "pretrain", "--recipe", name)
        raise


def _with_other_values(run: Path, saved: Recipe, recipe: str | None, overrides: Sequence[str]) -> list[str]:
    """The command of a new run with what was typed, from the weights that the run has; none where it has none."""
    if not rundir.checkpoints_of(run):
        return []
    words = [word for override in overrides for word in ("--set", override)]
    if recipe is None:
        return [another_run(run, saved, "--init", run, *words)]
    return [shell.line("barlowctl", "pretrain", "--recipe", recipe, "--init", run, *words)]
