"""Flags that several commands share, spelled once."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show the result only.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe value, e.g. train.epochs=5. Repeatable."),
]
Data = Annotated[
    str | None,
    typer.Option("--data", help="Images instead of the recipe's dataset: .beton, image folder, or dataset folder."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="Threads for the mathematics on a CPU. Default: the recipe's, else the cores."
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Threads of the loader. Default: 1 on a CPU, else the cores.")
]
