"""A value that an option takes, for the next command after one that lacked it: it can be typed on this machine."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from barlowctl.cli.advice import options_of, pairs
from barlowctl.cli.help import choices, examples_of, kind
from barlowctl.output_paths import NEXT


def example_value(option: Any, command: Any, root: Any) -> str | None:
    """Of the command's examples, of choices, of what a shell completes, a number, the default, of other examples.

    Args:
        root: the click group of all commands.

    Returns:
        None: only a user has one, such as the path of an image.
    """
    candidates = (
        *_of_examples(option, command),
        *choices(option),
        *_of_help(option),
        *_completed(option, command),
        *_numbers(option),
        *([option.default] if isinstance(option.default, str) and option.default else []),
        *(value for other in _commands(root) for value in _of_examples(option, other)),
    )
    return next((value for value in candidates if _is_here(option, value)), None)


def number_kind(option: Any) -> str | None:
    """The kind of number that an option takes, in words; None: it takes none."""
    text = kind(option)
    return "a whole number" if "int" in text else "a number" if "float" in text else None


def _of_examples(option: Any, command: Any) -> Iterator[str]:
    """Where the command has the same option, with the same meaning."""
    same = [one for one in command.params if one.opts == option.opts and one.help == option.help]
    for line in examples_of(command) if same else ():
        for flag, values in pairs(shlex.split(line), options_of(command)):
            if flag in option.opts and values:
                yield values[0].removeprefix("~/")  # quoted, a shell would take it for a folder's name


def _of_help(option: Any) -> list[str]:
    """`train.epochs=5` of `Override a recipe value, e.g. train.epochs=5.`, and of quotes what they enclose."""
    examples = re.findall(r"e\.g\. (?:'([^']*)'|(\S+))", option.help or "")
    return [quoted or word.rstrip(".,;)") for quoted, word in examples]


def _completed(option: Any, command: Any) -> list[str]:
    """What a shell would list; that of a device is its default, for a GPU may be missing."""
    if isinstance(option.default, str) and option.default:
        return []
    return [item.value for item in option.shell_complete(command and typer.Context(command), "")]


def _numbers(option: Any) -> Iterator[str]:
    if number_kind(option) is not None:
        usual = option.min if isinstance(option.min, int) and option.min >= 0 else 1
        yield f"{usual if option.default is None else option.default:g}"


def _commands(group: Any) -> Iterator[Any]:
    for command in getattr(group, "commands", {}).values():
        yield from _commands(command) if hasattr(command, "commands") else [command]


def _is_here(option: Any, value: str) -> bool:
    """Whether a value can be meant on this machine: no file that is to be read and is not there, no GPU."""
    if "--device" in option.opts:
        return not value.startswith("cuda")
    if "--data" in option.opts:
        return value in _completed(option, None) or os.path.exists(value)
    named = "=" not in value and (os.sep in value or Path(value).suffix != "")
    return not named or bool({*NEXT, "--wandb", "--settings"} & set(option.opts)) or os.path.lexists(value)
