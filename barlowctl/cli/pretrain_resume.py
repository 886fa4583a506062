"""The option `--resume` of pretrain: the run that goes on, with the recipe and the images it was started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from barlowctl import shell
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.recipe.schema import Recipe


@dataclass(frozen=True)
class ResumedRun:
    """A run that is not finished, and the recipe it was started with."""

    directory: Path
    recipe: Recipe

    def dataset(self) -> str:
        """The images it was started with."""
        from barlowctl.assemble.run_images import require

        return require(self.directory, self.recipe)


def run_to_resume(name: str, recipe: str | None, overrides: list[str] | None, out: Path | None) -> ResumedRun:
    """The run of a name or directory. A recipe that is given again must be the same.

    Raises:
        UserError: not a run, finished already, a recipe that differs, or was edited since the run began.
    """
    from barlowctl.assemble.run_recipe import check_recipe, recipe_of
    from barlowctl.recipe import load
    from barlowctl.runs import rundir

    directory = rundir.find(name)
    saved = recipe_of(directory)
    if out is not None:
        raise UserError("--out and --resume exclude each other", next="without --out")
    if (directory / "result.json").exists():
        raise UserError(f"'{directory}' is finished", next=shell.line("barlowctl", "report", directory))
    if recipe is not None or overrides:
        named = load.load(recipe or str(directory / "recipe.toml"), overrides or ())
        named = load.as_begun(named, saved)
        changes = [change for change in load.diff(saved, named) if change[0] not in ("name", "description")]
        if changes:
            lines = "\n".join(f"  {key}: {old!r} in the run, {new!r} now" for key, old, new in changes)
            raise UserError(
                f"'{directory}' was started with another recipe:\n{lines}",
                next=shell.line("barlowctl", "pretrain", "--resume", directory),
            )
    check_recipe(directory)
    return ResumedRun(directory, saved)
