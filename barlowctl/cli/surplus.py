"""Words that a command has no place for: with the option in front that takes them, or without them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.cli.advice import options_of, pairs, typed
from barlowctl.errors import UserError, nearest

NEAR = 0.8
"""Of difflib's ratio, from which on a word is taken for the name of a recipe, mistyped."""


def surplus_words(arguments: Sequence[str], root: Any) -> UserError | None:
    """The error of words beyond the arguments that a command takes; None: there are none.

    Args:
        arguments: what was typed after `barlowctl`. root: the click group of all commands.
    """
    path, command = typed(arguments, root)
    places = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    positions = _positions(arguments, command)[len(path) :]
    if any(place.nargs < 0 for place in places) or len(positions) <= len(places):
        return None
    positions = positions[len(places) :]
    words = [arguments[position] for position in positions]
    what = _listed(words) + (" is a word too many" if len(words) == 1 else " are words too many")
    flags = _flags(words, arguments, command)
    rest = [word for position, word in enumerate(arguments) if position not in positions]
    rest = rest[:-1] if rest[-1:] == ["--"] else rest
    if flags:
        given = " ".join(shell.line(flag, word) for flag, word in flags.items())
        cut = rest.index("--") if "--" in rest else len(rest)
        rest[cut:cut] = [part for pair in flags.items() for part in pair]
        return UserError(what, allowed=given, next=shell.line("barlowctl", *rest))
    if path[:1] == ["runs"] and (instead := _runs_in(words[0], rest)):
        return UserError(what, allowed=f"{_taken(places)}; runs are looked for in BARLOWCTL_RUNS", next=instead)
    options = options_of(command)
    if "--resume" in options and not {"--recipe", "-r", "--resume"} & {flag for flag, _ in pairs(rest, options)}:
        return UserError(what, allowed=_taken(places), next="barlowctl recipes list")  # it takes one of the two
    return UserError(what, allowed=_taken(places), next=shell.line("barlowctl", *rest))


def _positions(arguments: Sequence[str], command: Any) -> list[int]:
    """Where words stand that are no option and no option's value."""
    cut = list(arguments).index("--") if "--" in arguments else len(arguments)
    positions, position = [], 0
    for flag, value in pairs(arguments[:cut], options_of(command)):
        joined = bool(value) and arguments[position] != flag
        if not value and (not flag.startswith("-") or flag == "-"):
            positions.append(position)
        position += 1 if joined else 1 + len(value)
    return [*positions, *range(cut + 1, len(arguments))]


def _flags(words: Sequence[str], arguments: Sequence[str], command: Any) -> dict[str, str]:
    """The options, not given yet, whose values the words are: a recipe, images; {} where one of them is no value."""
    options = options_of(command)
    given = {max(options[flag].opts, key=len) for flag, _ in pairs(arguments, options) if flag in options}
    flags = dict[str, str]()
    for word in words:
        flag, value = _flag_of(word)
        if flag not in options or flag in given or flag in flags:
            return {}
        flags[flag] = value
    return flags


def _flag_of(word: str) -> tuple[str, str]:
    """The option whose value a word is, and the value; "" where it is none's."""
    from barlowctl.data import home
    from barlowctl.recipe import catalog

    shipped = catalog.shipped()
    if word in shipped or word.endswith(".toml"):
        return "--recipe", word
    if os.path.exists(os.path.expanduser(word)) or word in home.available():
        return "--data", word
    near = nearest(word, shipped, cutoff=NEAR)
    return ("--recipe", near) if near else ("", word)


def _runs_in(word: str, rest: Sequence[str]) -> str | None:
    """The command of a run, or of a folder of runs, that is named by its place; None: it is neither."""
    from barlowctl.runs import rundir

    folder = Path(word).expanduser()
    if rundir.is_run(folder):
        return shell.line("barlowctl", "runs", "show", word)
    if folder.is_dir() and any(rundir.is_run(child) for child in folder.iterdir()):
        return f"{shell.line(f'BARLOWCTL_RUNS={word}')} {shell.line('barlowctl', *rest)}"
    return None


def _taken(places: Sequence[Any]) -> str:
    """Which arguments a command takes, in words."""
    if not places:
        return "no argument, options alone"
    names = [place.metavar or place.name.upper() for place in places if not place.hidden]
    return f"{len(names)} argument{'s' if len(names) > 1 else ''} ({', '.join(names)}), and options"


def _listed(words: Sequence[str]) -> str:
    quoted = [f"'{word}'" for word in words]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]
