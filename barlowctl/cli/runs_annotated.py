"""`barlowctl runs note`, `rename` and `restore`: what is written on a run after it was made."""

from __future__ import annotations

from typing import Annotated

import typer

from barlowctl import shell
from barlowctl.cli import options
from barlowctl.cli.console import Console


def note(
    run: Annotated[str, options.run("A run's name or directory.")],
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="The note, in place of the one that is there."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take the note away.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a note on a run, which `runs list` and `runs show` repeat; without TEXT, show it."""
    from barlowctl.runs import annotation, history

    console = Console(json=json, quiet=quiet)
    path = history.find(run)
    if text is not None or clear:
        annotation.write_note(path, "" if clear else text or "")
    now = history.note_of(path)
    console.say(f"{path.name}: {now}" if now else f"{path.name}: no note", result=True)
    console.result({"run": str(path), "note": now})


def rename(
    run: Annotated[str, options.run("A run's name or directory.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name, without a folder.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Give a run another name beside the others. What was trained stays as it is; its recipe keeps its own name."""
    from barlowctl.runs import annotation, history, removal

    console = Console(json=json, quiet=quiet)
    path = history.find(run)
    dependents = removal.started_from(path)
    target = annotation.rename(path, name)
    console.say(f"{path} is {target} now")
    if dependents:
        names = ", ".join(f"'{dependent}'" for dependent in dependents)
        console.say(f"note: {names} started from its weights, and names them by the old path")
    if path.with_name(f"{path.name}.sbatch").is_file():
        console.say(f"note: the batch script '{path.name}.sbatch' goes on with the old name")
    console.next(shell.line("barlowctl", "runs", "show", target))
    console.result({"run": str(target), "before": str(path), "started_from_it": [str(path) for path in dependents]})


def restore(
    run: Annotated[str | None, options.run("A run's name or directory. Default: the newest run.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a run's recipe.toml as it was when the run began; an edited one stays as recipe-edited.toml.

    Where run.json is gone or damaged, it is made anew from recipe.toml and the checkpoints, and the run can go on.
    """
    from barlowctl.assemble.restored import restore_about
    from barlowctl.assemble.run_recipe import restore_recipe
    from barlowctl.runs import history
    from barlowctl.runs.resumption import resume_line

    console = Console(json=json, quiet=quiet)
    path = history.find(run)
    made_anew = restore_about(path)
    done, edited = (made_anew, None) if made_anew else restore_recipe(path)
    console.say(done)
    console.next(resume_line(path))
    file = path / ("run.json" if made_anew else "recipe.toml")
    console.result({"file": str(file), "edited": str(edited) if edited else None})
