"""`barlowctl bench`: measurements against the alternatives, one module each."""

from __future__ import annotations

import typer

from barlowctl.cli.bench import loader, loss, profile, step
from barlowctl.cli.help import Command, Group, examples

app = typer.Typer(
    cls=Group,
    help="Measure speed against the alternatives, on this machine.",
    epilog=examples("barlowctl bench loader", "barlowctl bench loss"),
    no_args_is_help=True,
)
app.command("loader", cls=Command, epilog=loader.EPILOG)(loader.loader)
app.command("loss", cls=Command, epilog=loss.EPILOG)(loss.loss)
app.command("profile", cls=Command, epilog=profile.EPILOG)(profile.profile)
app.command("step", cls=Command, epilog=step.EPILOG)(step.step)
