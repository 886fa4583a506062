"""The tree of commands, for tests that hold for every one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import typer

from barlowctl.cli.app import commands

ROOT: Any = commands()


def contexts(command: Any = ROOT, name: str = "barlowctl", parent: Any = None) -> Iterator[Any]:
    """The context of every command and group that the help shows."""
    context = typer.Context(command, info_name=name, parent=parent, **command.context_settings)
    yield context
    for child, one in getattr(command, "commands", {}).items():
        if not one.hidden:
            yield from contexts(one, child, context)


def parse(words: Sequence[str]) -> None:
    """Read the words after `barlowctl` as the command line does, values too, and run nothing.

    Raises:
        Exception: what typer says of them.
    """
    command, rest, path = ROOT, list(words), ["barlowctl"]
    while hasattr(command, "commands"):
        path.append(rest.pop(0))
        command = command.commands[path[-1]]
    parent = typer.Context(ROOT, info_name=path[0], **ROOT.context_settings)  # or `-h` would be forgotten, for good
    command.make_context(" ".join(path[1:]), rest, parent=parent)


def options() -> Iterator[tuple[str, Any]]:
    """Every command's path and each of its visible options."""
    for context in contexts():
        for parameter in context.command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                yield context.command_path, parameter
