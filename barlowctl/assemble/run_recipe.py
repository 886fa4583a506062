"""The recipe of a run: kept with it, compared with what recipe.toml says now, restored. See also `run_images`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from barlowctl import files, shell
from barlowctl.assemble import own_parts, run_images
from barlowctl.errors import UserError
from barlowctl.output_paths import free, why_not_written
from barlowctl.recipe import load
from barlowctl.recipe.begun import begun
from barlowctl.recipe.optimizers import unregistered
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import rundir
from barlowctl.runs.states import STATE_FILE
from barlowctl.train import checkpoint

EDITED_FILE = "recipe-edited.toml"


def recipe_of(run: Path) -> Recipe:
    """The recipe in a run's recipe.toml.

    Raises:
        UserError: not a run, or the file is gone or no recipe any more; run.json may have it still; or its method is
            somebody's, and not registered (`own_parts.Unregistered`). An optimizer need not be: see `optimizer_of`.
    """
    file = run / "recipe.toml"
    try:
        if not file.is_file():
            raise UserError(
                f"'{run}' is not a run: it has no recipe.toml",
                allowed="a directory that `barlowctl pretrain` made",
                next="barlowctl runs list",
            )
        own_parts.check(run, ("method",))
        with unregistered(own_parts.unregistered_optimizer(run)):
            return load.load(str(file))
    except own_parts.Unregistered:
        raise
    except UserError as error:
        if (recipe := _unedited(run)) is not None:
            return recipe
        if (run / "run.json").is_file() and _recipe(run) is not None:
            if not file.is_file():
                error.message, error.allowed = f"'{file}' is gone", "the recipe that the run was begun with"
            error.next = shell.line("barlowctl", "runs", "restore", run)
        raise


def note_edited(run: Path, now: Recipe) -> tuple[str, ...]:
    """What to say where a run that is only read has another recipe than it was begun with."""
    before = _recipe(run) if (run / "run.json").is_file() else None
    changes = _changes(before, now) if before is not None else []
    changed = ", ".join(f"{key} {old!r}, now {new!r}" for key, old, new in changes)
    return (f"'{run / 'recipe.toml'}' was edited since the run began: {changed}",) if changes else ()


def _changes(before: Recipe, now: Recipe) -> list[tuple[str, Any, Any]]:
    return [change for change in load.diff(before, now) if change[0] not in ("name", "description")]


def another_run(run: Path, recipe: Recipe, *words: str | Path) -> str:
    """The command, with more words, of another run on the recipe that a run has now, and on its images."""
    images = run_images.dataset_of(run, recipe)
    of_images = () if images == recipe.data.dataset else ("--data", images)
    return shell.line("barlowctl", "pretrain", "--recipe", run / "recipe.toml", *of_images, *words)


def check_recipe(run: Path) -> None:
    """Refuse a run whose recipe.toml was edited: the rest would be trained as something else than its beginning.

    Its digest and the whole recipe are in run.json; older runs have the digest only, in their checkpoints too.
    A file whose text differs but whose values do not is taken.

    Raises:
        UserError: it was edited; with the difference, where the run knows it.
    """
    file = run / "recipe.toml"
    digest = _digest(run)
    if digest is None or digest == load.digest_of(file.read_text(encoding="utf-8")):
        return
    now, before = recipe_of(run), _recipe(run)
    another = another_run(run, now)
    if before is None:
        if load.digest(now) != digest:
            raise UserError(
                f"'{file}' is not the recipe that the run was begun with: its digest is {load.digest(now)}, and was "
                f"{digest} then (what it said is not known: the run is of an older version)",
                allowed="the file as it was, or a new run with what it says now",
                next=another,
            )
    elif changes := _changes(before, now):
        lines = "\n".join(f"  {key}: {old!r} when the run began, {new!r} now" for key, old, new in changes)
        raise UserError(
            f"'{file}' was edited since the run began:\n{lines}",
            allowed=f"the recipe of its beginning, or a new run with what it says now ({another})",
            next=shell.line("barlowctl", "runs", "restore", run),
        )


def restore_recipe(run: Path) -> tuple[str, Path | None]:
    """Write recipe.toml as it was when the run began; what stood there stays as `recipe-edited.toml`.

    Returns:
        What was done, in words, and where the edited one is now (None: there was none).

    Raises:
        UserError: the run does not know its recipe, or the file cannot be written.
    """
    file, before = run / "recipe.toml", _recipe(run)
    if before is None:
        raise UserError(f"'{run}' does not know the recipe it was begun with: it is of an older version",
                        next=shell.line("barlowctl", "pretrain", "--recipe", file))  # fmt: skip
    text = load.dump(before)
    try:
        edited = file.read_bytes() if file.is_file() else b""
        if edited == text.encode():
            return f"{file} was not edited", None
        aside = run / EDITED_FILE
        aside = free(aside) if aside.exists() and edited != aside.read_bytes() else aside
        if edited:
            files.write_bytes(aside, edited)
        files.write_text(file, text)
    except OSError as error:
        why = why_not_written(error, run)
        raise UserError(f"'{file}' cannot be written: {why}", next=f"ls -l {shell.line(run)}") from error
    return (f"{file} is as it was; what stood there is in {aside}", aside) if edited else (f"{file} is back", None)


def _digest(run: Path) -> str | None:
    about = rundir.read_json(run / "run.json")
    if isinstance(digest := about.get("recipe_digest"), str):
        return digest
    return digest_of_checkpoints(run)


def digest_of_checkpoints(run: Path) -> str | None:
    """The digest of the recipe that the newest readable checkpoint is of; None: there is none."""
    for path in reversed(checkpoint.list_checkpoints(run / "checkpoints")):
        try:
            return str(json.loads((path / STATE_FILE).read_bytes())["body"]["recipe_digest"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _recipe(run: Path) -> Recipe | None:
    """The recipe in run.json; None in runs of versions that did not keep it there."""
    values = rundir.read_json(run / "run.json").get("recipe")
    with unregistered(own_parts.unregistered_optimizer(run)):
        return begun(values, str(run / "run.json")) if isinstance(values, dict) else None


def _unedited(run: Path) -> Recipe | None:
    """The recipe in a file that is as it was when the run began, under the limits of then; None: it is not."""
    file = run / "recipe.toml"
    if not (file.is_file() and (run / "run.json").is_file()):
        return None
    text = file.read_text(encoding="utf-8", errors="replace")
    if (digest := load.digest_of(text)) is None:
        return None
    try:
        with unregistered(own_parts.unregistered_optimizer(run)):
            now, before = begun(tomllib.loads(text), str(file)), _recipe(run)
    except UserError:
        return None
    as_it_was = not _changes(before, now) if before is not None else _digest(run) in (digest, load.digest(now))
    return now if as_it_was else None
