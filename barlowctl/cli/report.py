"""`barlowctl report`: one or more runs as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from barlowctl import launcher
from barlowctl.cli import options
from barlowctl.cli.console import Console
from barlowctl.errors import UserError

EPILOG = "Examples: barlowctl report | barlowctl report runs/NAME --out report.html | barlowctl report runs/A runs/B"


def report(
    runs: Annotated[list[Path] | None, typer.Argument(help="Run directories. Default: the newest finished.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page. Default: report.html in the run, or here for several.")
    ] = None,
    data: options.Data = None,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Draw previews of views and nearest neighbours.")
    ] = True,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Put runs on one HTML page that needs no network.

    Curves of both loss terms and the diagnostics, spectra, results of `probe` and `transfer` beside the paper's
    tables, views, neighbours, the matrix C, recipes and what differs between them.
    """
    from barlowctl.assemble.machine import Runtime, set_threads
    from barlowctl.assemble.reporting import report as write
    from barlowctl.train import rundir

    launcher.refuse_several("report")
    console = Console(json=json, quiet=quiet)
    if not runs:
        runs = [rundir.newest_finished()]
        console.say(f"no run was named: taking the newest finished one, {runs[0]}")
    out = out or (runs[0] / "report.html" if len(runs) == 1 else _unused(Path("report.html")))
    if out.suffix != ".html":
        raise UserError(f"--out is '{out}'", allowed="a name that ends in .html")
    runtime = Runtime(device, threads, None, "auto")
    set_threads(runtime)
    file = write(runs, out, runtime, data=data, images=images, notify=lambda text: console.say(f"note: {text}"))
    size = file.stat().st_size
    console.say(f"written to {file} ({size / 1e6:.1f} MB); open it in a browser")
    console.result({"file": str(file), "bytes": size, "runs": [str(run) for run in runs]})


def _unused(page: Path) -> Path:
    """The page's name, or the next one where a page of other runs may have it."""
    from barlowctl import places

    return places.free(page) if page.exists() else page
