"""`barlowctl data get`: a well-known data set into the data home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from barlowctl import launcher
from barlowctl.cli import completion, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cores import usable_cores
from barlowctl.datasets import DATASETS, DOWNLOADABLE
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.data.fetch import Fetched

EPILOG = examples(
    "barlowctl data get fashion-mnist",
    "barlowctl data get cifar10 --from ~/downloads",
)


def get(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help=f"{', '.join(DOWNLOADABLE)}.",
            autocompletion=completion.downloads,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A folder that has its files already. Default: Debian's package or a download."),
    ] = None,
    overwrite: Annotated[bool, options.overwrite("Pack again what is there.")] = False,
    workers: options.PackWorkers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring a well-known data set into the data home, packed. What is there already stays."""
    from barlowctl.data import fetch

    launcher.refuse_several("data get")
    console = Console(json=json, quiet=quiet)
    names = list(DOWNLOADABLE)
    missing = UserError("no data set was named", allowed=", ".join(names), next="barlowctl data get fashion-mnist")
    name = name or console.choose("Which data set?", names, default="fashion-mnist", missing=missing)
    total = sum(DATASETS[name].images.values()) if name in DOWNLOADABLE else None
    with console.progress(f"data set {name}", total) as bar:
        fetched = fetch.get(
            name,
            source=source,
            workers=workers or usable_cores(),
            overwrite=overwrite,
            say=console.say,
            progress=bar.advance,
        )
    rows = [(part.split, f"{part.samples:,}", str(part.path)) for part in fetched]
    console.table("", ("split", "images", "file"), rows)
    console.result({"name": name, "splits": {part.split: _as_dict(part) for part in fetched}})


def _as_dict(split: Fetched) -> dict[str, Any]:
    return {
        "path": str(split.path),
        "samples": split.samples,
        "content_hash": split.content_hash,
        "packed_now": split.report is not None,
    }
