"""`barlowctl runs remove`: runs that are not needed any more, with what they hold said before they are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from barlowctl.amounts import counted, megabytes
from barlowctl.cli import options
from barlowctl.cli.console import Console
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.runs.removal import Contents


def remove(
    names: Annotated[list[str], options.run("Names or directories of runs.")],
    yes: Annotated[bool, options.yes("Remove without asking.")] = False,
    dry_run: Annotated[bool, options.dry_run("Say what would be removed; remove nothing.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also a run that others started from, and a study's cell."),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove runs with all that is in their folders, and say what that frees. It asks first.

    A run that is being trained is never removed; one that another run started from, or a cell of a study, with --force
    only. Each run is whole or gone: if one cannot be removed, all of them stay.
    """
    from barlowctl.runs import history, removal

    console = Console(json=json, quiet=quiet)
    listed = removal.contents(list({path.absolute(): path for path in map(history.find, names)}.values()))
    objections = [sentence for run in listed for sentence in run.objections]
    if objections and not force:
        raise UserError("; ".join(objections), allowed="other runs, or these with --force", next="--force")
    if not (dry_run or yes or console.can_ask):
        raise UserError("runs are removed when somebody says yes, and here is nobody to ask", next="--dry-run\n--yes")
    total = sum(run.bytes for run in listed)
    _show(console, listed, objections)
    amount = f"{counted(len(listed), 'run')}, {megabytes(total)}"
    left: list[str] = []
    removed = not dry_run and (yes or console.confirm(f"remove {amount}?"))
    if removed:
        left = [str(path) for path in removal.remove([run.run for run in listed])]
        console.say(f"removed {amount}", result=True)
        for path in left:
            console.say(f"note: not all of it could be removed; the rest is in {path}")
    else:
        console.say("nothing was removed" + (": without --dry-run it is, once confirmed" if dry_run else ""))
    console.result({"removed": removed, "bytes": total, "runs": [run.as_dict() for run in listed], "not_removed": left})


def _show(console: Console, listed: list[Contents], objections: list[str]) -> None:
    rows = [
        (str(run.run), run.state, run.checkpoints, megabytes(run.bytes), ", ".join(run.others) or "-") for run in listed
    ]
    console.table("", ("run", "state", "checkpoints", "size", "also holds"), rows)
    for sentence in objections:
        console.say(f"note: {sentence}")
