"""What to do next with a run that is finished: commands that work for its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barlowctl import shell
from barlowctl.assemble import run_images
from barlowctl.assemble.data import ImageSet, open_recipe_images
from barlowctl.assemble.labelled import check_comparable, check_labelled
from barlowctl.criteria import CRITERIA
from barlowctl.errors import UserError, one_line
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import history
from barlowctl.runs.best import choose


@dataclass(frozen=True)
class NextCommands:
    """commands: to be typed as they are. no_probe: why measuring is not among them; None: it is."""

    commands: tuple[str, ...]
    no_probe: str | None


def next_commands(run: Path, recipe: Recipe, source: ImageSet) -> NextCommands:
    """What to do with a run that was trained on `source`: probe it where its images can be measured on."""
    best = ("--best",) if recipe.train.keep_best != "off" else ()
    export = shell.line("barlowctl", "export", run, *best, "--format", "timm")
    why_not = _no_probe(run, recipe, source)
    if why_not is None:
        return NextCommands((shell.line("barlowctl", "probe", _state(run, recipe)), export), None)
    images = run_images.dataset_of(run, recipe)
    embed = shell.line("barlowctl", "embed", _state(run, recipe), "--data", images, "--out", run / "features.npz")
    return NextCommands((shell.line("barlowctl", "report", run), embed, export), why_not)


def _state(run: Path, recipe: Recipe) -> Path:
    """The state that is exported: the best one where the run keeps it, else the run's newest."""
    if recipe.train.keep_best == "off":
        return run
    choice = choose(history.read(run), CRITERIA[recipe.train.keep_best])
    return (choice and choice.subject) or run


def _no_probe(run: Path, recipe: Recipe, source: ImageSet) -> str | None:
    """Why `probe` would refuse the run's own images; None: it would not."""
    try:
        check_comparable(source, source)  # without labels there is no need to look for another split
        check_labelled(source, open_recipe_images(recipe, "test", run_images.dataset_to_measure(run, recipe)))
    except UserError as error:
        return error.message
    except Exception as error:  # the run is finished, whatever became of its images
        return one_line(error)
    return None
