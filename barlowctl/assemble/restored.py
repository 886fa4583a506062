"""A run's run.json made anew from what else there is of the run, where it is gone or damaged."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.assemble.run_recipe import digest_of_checkpoints
from barlowctl.errors import UserError
from barlowctl.output_paths import free
from barlowctl.recipe import load
from barlowctl.runs import rundir

RESTORED = "restored"
"""In run.json: that it was made anew, and lacks what only the run's beginning knew, until the run goes on."""
NOTE = (
    "run.json was made anew: nobody knows what the images were when the run began, so they could not be compared with "
    "these, nor which precision a CPU was given then"
)


def restore_about(run: Path) -> str | None:
    """Write a run's run.json from its recipe.toml and checkpoints; a damaged one stays as `run-damaged.json`.

    Returns:
        What was done, in words; None: run.json is whole.

    Raises:
        UserError: recipe.toml is gone too, or is not the recipe that the checkpoints were trained with.
    """
    file = run / rundir.ABOUT
    if file.is_file():
        with suppress(ValueError):
            if isinstance(json.loads(file.read_bytes()), dict):
                return None
    if not (run / "recipe.toml").is_file():
        raise UserError(
            f"'{run}' has neither a whole run.json nor a recipe.toml, so nobody knows what it trained",
            allowed="a recipe.toml as the run began with it, in its folder",
            next="restore one of the two from a copy, or start a new run",
        )
    recipe = load.load(str(run / "recipe.toml"))
    digest = load.digest(recipe)
    trained = digest_of_checkpoints(run)
    if trained not in (None, digest):
        raise UserError(
            f"'{run / 'recipe.toml'}' is not the recipe that the checkpoints of '{run}' were trained with: its digest "
            f"is {digest}, theirs {trained}",
            allowed="recipe.toml as it was when the run began",
            next=shell.line("barlowctl", "pretrain", "--recipe", run / "recipe.toml"),
        )
    damaged = free(run / "run-damaged.json") if (run / "run-damaged.json").exists() else run / "run-damaged.json"
    began = datetime.fromtimestamp((run / "recipe.toml").stat().st_mtime).astimezone()
    about = {
        "started": began.isoformat(timespec="seconds"),
        "recipe_digest": digest,
        "recipe": recipe.model_dump(mode="json"),
        RESTORED: True,
    }
    was_damaged = file.is_file()
    if was_damaged:
        rundir.write_bytes(damaged, file.read_bytes())
    rundir.write_json(file, about)
    return f"{file} was made anew from recipe.toml" + (f"; the damaged one is {damaged.name}" if was_damaged else "")


def complete(run: Path, made_now: dict[str, Any]) -> str | None:
    """Put what a run knows as it goes on into a run.json that was made anew; what to say of it, in words."""
    about = rundir.read_json(run / rundir.ABOUT)
    if not about.pop(RESTORED, False):
        return None
    rundir.write_json(run / rundir.ABOUT, {**made_now, **about})
    return NOTE
