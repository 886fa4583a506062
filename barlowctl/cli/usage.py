"""Words that the command line cannot take, said as every other error: what is wrong, what is allowed, what to run.

Where a name is near, the next command is the one that was typed with that name in its place.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from barlowctl import memory, program, shell
from barlowctl.cli.advice import options_of, pairs, repeated, typed
from barlowctl.cli.example_values import example_value, number_kind
from barlowctl.cli.foreign_options import instead
from barlowctl.cli.help import choices, kind
from barlowctl.cli.other_words import meant
from barlowctl.cli.surplus import surplus_words
from barlowctl.errors import UserError, did_you_mean, nearest
from barlowctl.output_paths import NEXT, is_full, why_not_written

NEAR = 0.7
"""Of difflib's ratio, from which on an option is taken for another: below it lie words that share a few letters."""

REFUSALS = {
    errno.ENAMETOOLONG: "names of at most 255 bytes",
    errno.EACCES: "a path that you may read or write",
    errno.EPERM: "a path that you may read or write",
    errno.EROFS: "a folder on a disk that can be written to",
}
"""Errors of the system that a path brings about, and not a fault of ours: what it takes instead."""
FAILING_DISK = {
    errno.ENOSPC: "cannot be written",
    getattr(errno, "EDQUOT", errno.ENOSPC): "cannot be written",
    errno.EIO: "cannot be read or written",
    getattr(errno, "ESTALE", errno.EIO): "cannot be read or written",
}
"""Errors of a disk, also of a file server that has lost what was open, and what they keep from being done."""
HELP = ("-h", "--help")
LONGEST = 60
"""Characters of a path in such an error."""


def refuse_missing_values(arguments: Sequence[str], root: Any) -> None:
    """Refuse an option whose value would be the next option, and an option or an argument that is empty or blank.

    `--patches --layer 2` is the first (`--patches=--layer` is a value), `--out=$DIR` with an unset variable the second.

    Args:
        arguments: what was typed after `barlowctl`. root: the click group of all commands.

    Raises:
        UserError: there is one; next is the same command with a value, or its help.
    """
    path, command = typed(arguments, root)
    options = options_of(command)
    cut = list(arguments).index("--") if "--" in arguments else len(arguments)
    place = len(path)
    while place < len(arguments):
        name, equals, value = arguments[place].partition("=")
        takes_one, words = place < cut and name in options and not options[name].is_flag, 1
        if takes_one and not equals and place < cut - 1:
            value, words = arguments[place + 1], 2
            flag = value.partition("=")[0]
            if flag in options or flag in HELP or (name == program.IMPORT and flag.startswith("-")):
                why = f"is without a value: {value} is an option itself"
                raise _without_value(arguments, place, path, root, why)
        if takes_one and (equals or words == 2) and not value.strip():
            corrected = [*arguments[:place], name, *arguments[place + words :]]
            raise _without_value(corrected, place, path, root, "is empty")
        if not arguments[place].strip():
            help_page = shell.line("barlowctl", *path, "--help")
            raise UserError(f"an argument is empty, {arguments[place]!r}", next=help_page)
        place += words


def usage_error(error: typer.TyperException, arguments: Sequence[str], root: Any) -> UserError:
    """The error of a wrong command, option, value or argument.

    Args:
        arguments: what was typed after `barlowctl`. root: the click group of all commands.
    """
    path, command = typed(arguments, root)
    help_page = shell.line("barlowctl", *path, "--help")
    parameter = getattr(error, "param", None)
    option = getattr(error, "option_name", None)
    if hasattr(command, "commands") and len(arguments) > len(path) and not arguments[len(path)].startswith("-"):
        return _no_command(arguments, path, command, help_page)
    if option is not None and option not in options_of(command):
        return _no_option(option, arguments, command, help_page, root)
    if option is not None and options_of(command)[option].is_flag:
        return UserError(f"{option} takes no value", next=help_page)
    if option is not None:
        return _without_value(arguments, len(arguments) - 1, path, root)
    if parameter is not None and parameter.param_type_name == "option":
        return _bad_value(parameter, error, arguments, command, root)
    if parameter is not None:
        return UserError(f"{parameter.metavar or parameter.name.upper()} is missing", next=help_page)
    return surplus_words(arguments, root) or UserError(error.format_message(), next=help_page)


def refused_path(error: OSError, arguments: Sequence[str], root: Any) -> UserError | None:
    """The error of a path that the system does not take, where nobody said so nearer to it; None: it is another one."""
    if error.errno not in REFUSALS or error.filename is None:
        return None
    name = os.fsdecode(error.filename)
    name = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    path, _ = typed(arguments, root)
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    return UserError(
        f"the system does not take '{name}': {os.strerror(error.errno).lower()}{notes}",
        allowed=REFUSALS[error.errno],
        next=shell.line("barlowctl", *path, "--help"),
    )


def refused_disk(error: OSError, arguments: Sequence[str], root: Any) -> UserError | None:
    """The error of a disk that is full or fails, where nobody said so nearer to it; None: it is another one.

    On a full disk another place is advised, where an option named that of the file.
    """
    number = error.errno
    if number is None or number not in FAILING_DISK:
        return None
    path = None if error.filename is None else os.fsdecode(error.filename)
    why = os.strerror(number) if path is None else why_not_written(error, Path(path).parent)
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    return UserError(
        f"{'a file' if path is None else repr(path)} {FAILING_DISK[number]}: {why}{notes}",
        allowed="a disk that works, with room on it",
        next=_other_place(path, arguments, root) if path is not None and is_full(error) else "barlowctl ...",
    )


def _other_place(file: str, arguments: Sequence[str], root: Any) -> str:
    """To name another place than that of a file, with the option that named it; else to type the same again."""
    _, command = typed(arguments, root)
    options, place = options_of(command), Path(file).absolute()
    for flag, values in pairs(arguments, options):
        name = max(options[flag].opts, key=len) if flag in options else ""
        if name in NEXT and any(place.is_relative_to(Path(value).absolute()) for value in values):
            return NEXT[name]
    return "barlowctl ..."


def refused_memory(error: Exception) -> UserError | None:
    """The error of memory that ran out, where nobody said so nearer to it; None: it is another error."""
    what = memory.ran_out(error)
    if what is None:
        return None
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    return UserError(
        f"{what}{notes}",
        allowed="smaller sizes, or a machine with more memory, which `barlowctl doctor` shows",
        next="barlowctl doctor",
    )


def _without_value(
    arguments: Sequence[str], place: int, path: Sequence[str], root: Any, why: str = "is without a value"
) -> UserError:
    """The error of an option that no value follows, at a place of what was typed: next is the command with one."""
    name, rest = arguments[place], list(arguments[place + 1 :])
    _, command = typed(arguments, root)
    option = options_of(command)[name]
    value = None if name == program.IMPORT else example_value(option, command, root)  # what is here may be anything
    if value is None or (rest and rest[0] in HELP):
        corrected = shell.line("barlowctl", *path, "--help")
    else:
        corrected = shell.line("barlowctl", *arguments[: place + 1], value, *rest)
    return UserError(f"{name} {why}", allowed=_allowed(option), next=corrected)


def _no_command(arguments: Sequence[str], path: Sequence[str], command: Any, help_page: str) -> UserError:
    name, rest = arguments[len(path)], arguments[len(path) + 1 :]
    words = meant(path, name, command)
    hint = f", did you mean '{' '.join(words[len(path) :])}'?" if words else ""
    return UserError(
        f"there is no command '{' '.join([*path, name])}'{hint}",
        allowed=", ".join(known for known, child in command.commands.items() if not child.hidden),
        next=shell.line("barlowctl", words[0], *words[1:], *rest) if words else help_page,
    )


def _no_option(option: str, arguments: Sequence[str], command: Any, help_page: str, root: Any) -> UserError:
    candidates = [
        name for name, parameter in options_of(command).items() if name.startswith("--") and not parameter.hidden
    ]
    if option == program.IMPORT:
        return _import_behind_the_command(arguments, help_page)
    near = _nearest_option(option, candidates) if option.startswith("--") else None
    if near is not None and not _takes(options_of(command)[near], _value(option, arguments)):
        near = None
    words = [_renamed(word, option, near) for word in arguments] if near else []
    if near is None and (same := instead(option, _value(option, arguments), typed(arguments, root)[0], candidates)):
        near, words = " ".join(same), _replaced(option, arguments, same)
    hint = f", did you mean '{near}'?" if near else ""
    return UserError(f"there is no option {option}{hint}", next=shell.line("barlowctl", *words) if words else help_page)


def _import_behind_the_command(arguments: Sequence[str], help_page: str) -> UserError:
    """What is imported stands in front of the command: next is the command with it there."""
    at = next(number for number, word in enumerate(arguments) if word.partition("=")[0] == program.IMPORT)
    names, rest = program.split(arguments[at:])
    corrected = shell.line(
        "barlowctl", *(word for name in names for word in (program.IMPORT, name)), *arguments[:at], *rest
    )
    return UserError(
        f"{program.IMPORT} stands in front of the command",
        allowed=f"barlowctl {program.IMPORT} my_networks {arguments[0]} ...",
        next=corrected if names else help_page,
    )


def _bad_value(
    option: Any, error: typer.TyperException, arguments: Sequence[str], command: Any, root: Any
) -> UserError:
    """A value that an option does not take: of a choice with the nearest one."""
    name = max(option.opts, key=len)
    values = [words[0] for flag, words in pairs(arguments, options_of(command)) if flag in option.opts and words]
    candidates = choices(option)
    if not candidates:
        refused = [value for value in values if not _takes(option, value)] or values
        message = f"{name} is '{refused[0]}'" if refused else error.format_message()
        value = example_value(option, command, root) if number_kind(option) else None
        help_page = shell.line("barlowctl", *typed(arguments, root)[0], "--help")
        corrected = repeated(arguments, command, flags=[name, value]) if value else help_page
        return UserError(message, allowed=_allowed(option), next=corrected)
    value = next((value for value in values if value not in candidates), "")
    near = nearest(value, candidates)
    return UserError(
        f"{name} is '{value}'{did_you_mean(value, candidates)}",
        allowed=", ".join(candidates),
        next=repeated(arguments, command, flags=[name, near or str(example_value(option, command, root))]),
    )


def _allowed(option: Any) -> str | None:
    """What an option takes, in words."""
    if candidates := choices(option):
        return ", ".join(candidates)
    if (number := number_kind(option)) is None:
        return None
    if "|" in str(option.metavar):  # a few numbers, and no others
        return str(option.metavar).replace("|", ", ")
    low, high = option.min, option.max
    if option.metavar == "PERCENT":
        number += " of percent"
    if high is not None:
        return f"{number}, {_plain(low)} to {_plain(high)}"
    return number if low is None else f"{number}, at least {_plain(low)}"


def _plain(end: float) -> str:
    """The end of a range."""
    return f"{end:,}" if isinstance(end, int) else f"{end:,.12g}"


def _renamed(word: str, option: str, near: str) -> str:
    flag, equals, value = word.partition("=")
    return f"{near}{equals}{value}" if flag == option else word


def _replaced(option: str, arguments: Sequence[str], words: Sequence[str]) -> list[str]:
    """What was typed with other words for an option and its value."""
    at = next(number for number, word in enumerate(arguments) if word.partition("=")[0] == option)
    return [*arguments[:at], *words, *arguments[at + (1 if "=" in arguments[at] else 2) :]]


def _nearest_option(option: str, candidates: Sequence[str]) -> str | None:
    """The option that is as good as the same: one or two letters, or the words' order. The dashes say nothing."""
    near = nearest(option.removeprefix("--"), [name.removeprefix("--") for name in candidates], cutoff=NEAR)
    return f"--{near}" if near else None


def _value(option: str, arguments: Sequence[str]) -> str | None:
    """What follows an option that is not known, or is joined to it; None: nothing that could be its value."""
    for word, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        flag, equals, value = word.partition("=")
        if flag == option:
            return value if equals else None if following.startswith("-") else following
    return None


def _takes(option: Any, value: str | None) -> bool:
    """Whether an option could be meant by what stands behind another name; behind a flag an argument may stand."""
    if value is None or option.is_flag:
        return bool(option.is_flag)
    if candidates := choices(option):
        return value in candidates
    number = int if "int" in kind(option) else float if "float" in kind(option) else str
    try:
        number(value)
    except ValueError:
        return False
    return True
