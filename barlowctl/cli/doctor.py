"""`barlowctl doctor`: is this machine ready?"""

from __future__ import annotations

import typer

from barlowctl.cli.help import examples
from barlowctl.cli.options import Json, Quiet

EPILOG = examples("barlowctl doctor", "barlowctl doctor --json")


def doctor(json: Json = False, quiet: Quiet = False) -> None:
    """Check Python, torch, CUDA, the loader, codecs, disk, memory and cores, and say what to do.

    Exit code 0 when everything barlowctl needs is there, 2 otherwise.
    """
    from dataclasses import asdict

    from barlowctl.cli.console import Console
    from barlowctl.data.home import data_home
    from barlowctl.doctor import checks
    from barlowctl.errors import EXIT_BAD_INPUT
    from barlowctl.runs.rundir import runs_home

    console = Console(json=json, quiet=quiet)
    checks_made = checks(data_home=data_home(), runs=runs_home())
    failed = [check.name for check in checks_made if check.status == "fail"]
    warned = [check.name for check in checks_made if check.status == "warn"]
    if not json:
        listed = [check for check in checks_made if check.status != "ok" or not quiet]
        rows = [(check.name, check.status, check.value) for check in listed]
        if rows:
            console.table("This machine", ("check", "status", "found"), rows)
            for check in listed:
                if check.advice:
                    console.say(f"{check.name}: {check.advice}", result=True)
        console.say(_summary(failed, warned))
    console.result({"ready": not failed, "checks": [asdict(check) for check in checks_made]})
    if failed:
        raise typer.Exit(EXIT_BAD_INPUT)


def _summary(failed: list[str], warned: list[str]) -> str:
    """One line: ready or not, and which checks ask for something."""
    if failed:
        return f"not ready: {', '.join(failed)}"
    return "ready" + (f"; works with less: {', '.join(warned)}" if warned else "")
