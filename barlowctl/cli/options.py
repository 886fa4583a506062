"""Flags that several commands share, spelled once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.data.unreadable import OnMeasuring

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
PREPARING = ("eval.", "data.range=", "data.background=", "data.bands=")
"""What `--set` may change of how images are prepared, in the commands that measure."""

OnUnreadable = Annotated[
    str | None,
    typer.Option(
        "--on-unreadable",
        help="stop at an image that cannot be read, or skip: it is left out, named and counted. Default: stop; skip "
        "for a run that went on past such images (data.on_unreadable).",
    ),
]


def measuring(
    overrides: list[str] | None, on_unreadable: str | None
) -> tuple[list[str], list[str], OnMeasuring | None]:
    """What a measuring command was told by `--set` and `--on-unreadable`.

    Returns:
        How images are prepared (`eval.resize`, ...), the other overrides, and what is done about unreadable images: a
        recipe's words for that mean the same here, but another image never stands in for one that is measured. None:
        nothing was said, and the recipe of what is measured decides.
    """
    if on_unreadable not in (None, "stop", "fail", "skip"):  # `fail` is the word of `data pack`
        raise UserError(f"--on-unreadable is '{on_unreadable}'", allowed="stop, skip")
    geometry, others = list[str](), list[str]()
    policy: OnMeasuring | None = None if on_unreadable is None else "skip" if on_unreadable == "skip" else "raise"
    for override in overrides or []:
        if override in ("data.on_unreadable=replace", "data.on_unreadable=raise"):
            policy = "skip" if override.endswith("replace") else "raise"
        else:
            (geometry if override.startswith(PREPARING) else others).append(override)
    return geometry, others, policy


@contextlib.contextmanager
def advise_skipping(chosen: OnMeasuring) -> Iterator[None]:
    """At an image that cannot be read, the next command is this one again with what it lacks, or with
    `--on-unreadable skip`.
    """
    from barlowctl.data.unreadable import UnreadableImage

    try:
        yield
    except UnreadableImage as error:
        if chosen == "raise":
            error.next = "\n".join(filter(None, [error.setting, "--on-unreadable skip"]))
        raise
