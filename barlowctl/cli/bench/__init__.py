"""`barlowctl bench`: measurements against the alternatives, one module each."""

from __future__ import annotations

import typer

from barlowctl.cli.bench import loader, loss, step

app = typer.Typer(help="Measure speed against the alternatives, on this machine.", no_args_is_help=True)
app.command("loader", epilog=loader.EPILOG)(loader.loader)
app.command("loss", epilog=loss.EPILOG)(loss.loss)
app.command("step", epilog=step.EPILOG)(step.step)
