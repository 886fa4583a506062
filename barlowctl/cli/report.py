"""`barlowctl report`: one or more runs as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from barlowctl import launcher, shell
from barlowctl.cli import options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cli.subject import newest_finished
from barlowctl.errors import UserError
from barlowctl.output_paths import check_new

EPILOG = examples(
    "barlowctl report",
    "barlowctl report runs/NAME --out report.html",
    "barlowctl report runs/A runs/B",
)


def report(
    runs: Annotated[
        list[str] | None,
        options.run("Names or directories of runs. Default: the newest finished one."),
    ] = None,
    data: options.Data = None,
    previews: Annotated[
        bool,
        typer.Option(
            "--previews/--no-previews",
            help="Draw views and nearest neighbours. Default: drawn.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = True,
    out: Annotated[Path | None, options.out("The page. Default: report.html in the run, or here for several.")] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Put runs on one HTML page that needs no network.

    Curves of the loss, its terms and the diagnostics, spectra, results of `probe` and `transfer` beside the paper's
    tables, views, neighbours, the matrix C, recipes and what differs between them.
    """
    from barlowctl.runs import history

    launcher.refuse_several("report")
    console = Console(json=json, quiet=quiet)
    directories, left_out = history.named(runs) if runs else ([newest_finished(console)], [])
    named, out = out, out or (directories[0] / "report.html" if len(directories) == 1 else _unused(Path("report.html")))
    if out.suffix != ".html":
        raise UserError(
            f"--out is '{out}'", allowed="a name that ends in .html", next=shell.line("--out", f"{out}.html")
        )
    if named is not None:  # the run's own report is written anew, and nothing else
        check_new(out)
    from barlowctl.assemble.machine import Runtime, set_threads
    from barlowctl.measure.reporting import report as write

    runtime = Runtime(device, threads, None, "auto")
    set_threads(runtime)
    file = write(
        directories, out, runtime, data=data, images=previews, notify=lambda text: console.say(f"note: {text}")
    )
    for text in left_out:
        console.say(f"note: {text}")
    size = file.stat().st_size
    console.say(f"written to {file} ({size / 1e6:.1f} MB); open it in a browser")
    console.result({"file": str(file), "bytes": size, "runs": [str(run) for run in directories]})


def _unused(page: Path) -> Path:
    """The page's name, or the next one where a page of other runs may have it."""
    from barlowctl import output_paths

    return output_paths.free(page) if page.exists() else page
