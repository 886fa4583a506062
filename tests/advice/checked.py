"""What is wrong with one piece of advice, read against the real command line."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer

from barlowctl import compilers, program
from barlowctl.cli import app
from barlowctl.recipe import catalog, detection, protocol
from barlowctl.recipe.objectives import METHODS
from barlowctl.recipe.schema import Recipe
from tests.advice.collected import VALUE

CHECKOUT = Path(__file__).resolve().parents[2]
ROOT: Any = app.commands()
PROGRAMS = {
    "barlowctl",
    "gunzip",
    "pip",
    "python",
    "torchrun",
    "srun",
    "ls",
    "mv",
    "rm",
    "mkdir",
    "squeue",
    "tail",
    "tar",
    "unzip",
    *compilers.INSTALLATIONS,
    "hf",
    "wandb",
    "env",
}
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*(\.[a-z]+)?")
"""A word in capitals stands for what only the person knows, FOLDER or OUT.beton: in words alone, never in a command."""
ASSIGNMENT = re.compile(r"[A-Z_]+=.*")
"""An environment variable, of the command that follows."""
WITHOUT = ("without --", f"without {VALUE}")


def is_words(line: str) -> bool:
    """Whether a line of advice is for a person, and no command."""
    first = line.split()[0] if line.split() else ""
    known = first in PROGRAMS or ASSIGNMENT.fullmatch(first)
    return not (known or line.startswith(("--", *WITHOUT)) or line.endswith("barlowctl ..."))


def faults(line: str) -> Iterator[str]:
    """What would go wrong when this line of advice is followed."""
    if is_words(line):
        yield from _faults_of_words(line)
        return
    if line == f"{program.IMPORT} {VALUE} barlowctl ...":
        return
    for word in line.split():
        if PLACEHOLDER.fullmatch(word.rpartition("=")[2]):
            yield f"only a person knows {word}: say it in words"
    if line.startswith(WITHOUT):
        yield from (f"no command has {flag}" for flag in line.split()[1:] if not _known(flag.partition("=")[0]))
    elif line.startswith("--") and not line.startswith(f"--{VALUE}"):  # whose name is not known here
        flags, _, without = line.replace(VALUE, "VALUE").partition(" without ")
        left_out = [flag.partition("=")[0] for flag in without.split() if flag != "VALUE"]  # which may be any word
        yield from (f"no command has {flag}" for flag in left_out if not _known(flag))
        words = shlex.split(flags)
        if not any(_takes_all(command, words) for command in _commands(ROOT)):
            yield f"no command takes {line}"
        yield from _faults_of_settings(words)
    elif not line.startswith("--"):
        for command in line.split(" && "):
            yield from _faults_of_command(command)


def _faults_of_words(line: str) -> Iterator[str]:
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.sub(r"`[^`]*`", "", line)):
        if not _known(flag):
            yield f"no command has {flag}"
    for command in re.findall(r"`([^`]+)`", line):
        if command.split()[0] in PROGRAMS:
            yield from _faults_of_command(command)
        elif command.split()[0] == "make" and f"\n{command.split()[1]}:" not in (CHECKOUT / "Makefile").read_text():
            yield f"no target of the Makefile: {command}"


def _faults_of_command(line: str) -> Iterator[str]:
    lexer = shlex.shlex(line.replace(VALUE, "VALUE"), posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    words = list(lexer)
    if any(set(word) <= set("();<>|&") for word in words):
        yield f"a shell reads {line!r} in another way"
        return
    while words and ASSIGNMENT.fullmatch(words[0]):  # an environment variable
        words.pop(0)
    if words[-2:] == ["barlowctl", "..."]:  # the same arguments again
        return
    if words[:2] == ["pip", "install"]:
        yield from (f"cannot be installed: {word}" for word in words[2:] if not _installable(word))
    elif words[0] == "barlowctl":
        yield from faults_of_arguments(words[1:])
    if "..." in words:
        yield "dots that nobody fills in"


def faults_of_arguments(words: Sequence[str]) -> Iterator[str]:
    """What the command line says to the words after `barlowctl`; placeholders and values pass."""
    command, rest = ROOT, list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name == "VALUE":
            return
        if name not in command.commands:
            yield f"there is no command {name}"
            return
        command = command.commands[name]
    try:
        given, over = _parsed(command, rest)
    except Exception as error:
        yield f"{command.name}: {error}"
        return
    if over:
        yield f"{command.name}: too many words, {over}"
    missing = [p.name for p in command.params if p.required and given.get(p.name) in (None, [], ())]
    if missing and "--help" not in rest:
        yield f"{command.name}: {missing} missing"
    yield from _faults_of_settings(rest)
    for flag, value in pairwise(rest):
        known = PLACEHOLDER.fullmatch(value) or value.endswith(".toml") or value in catalog.shipped()
        if flag in ("--recipe", "-r") and not known:
            yield f"no recipe {value}"


def _faults_of_settings(words: Sequence[str]) -> Iterator[str]:
    """Keys of --set that neither a recipe nor a protocol has; those of somebody's own method pass."""
    for flag, value in pairwise(words):
        key = value.partition("=")[0]
        if key.startswith("objective.args."):
            continue
        if flag == "--set" and not {VALUE, "VALUE"} & set(re.split(r"[.]", key)) and key not in _settings():
            yield f"nothing has the key {key}"


@cache
def _settings() -> set[str]:
    def below(model: Any, prefix: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            yield prefix + name
            if hasattr(field.annotation, "model_fields"):
                yield from below(field.annotation, f"{prefix}{name}.")

    of_methods = {f"objective.{key}" for keys in METHODS.values() for key in keys.model_fields}
    of_protocols = {*protocol.Protocol.model_fields, *detection.DetectionProtocol.model_fields}
    return {*below(Recipe, ""), *of_methods, *of_protocols}


def _commands(group: Any) -> Iterator[Any]:
    for command in getattr(group, "commands", {}).values():
        yield from _commands(command) if hasattr(command, "commands") else [command]


def _parsed(command: Any, words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Values by parameter, and the words that no parameter takes.

    Raises:
        TyperException: a flag that the command does not have, or one without its value.
    """
    parent = typer.Context(ROOT, **ROOT.context_settings)  # or `-h` would be forgotten, for good
    context = command.make_context("barlowctl", [], resilient_parsing=True, parent=parent)
    context.resilient_parsing = False
    given, over, _ = command.make_parser(context).parse_args(list(words))
    return given, over


def _takes_all(command: Any, words: Sequence[str]) -> bool:
    """Whether a command takes these flags, and nothing else stands among them."""
    try:
        given, _ = _parsed(command, words)
    except Exception:
        return False
    return all(given.get(p.name) in (None, (), []) for p in command.params if p.param_type_name == "argument")


@cache
def _known(flag: str) -> bool:
    """Whether any command has a flag."""
    names = {name for command in _commands(ROOT) for p in command.params for name in (*p.opts, *p.secondary_opts)}
    return flag in names or VALUE in flag or flag == "--help"


@cache
def _installable_names() -> set[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(package for packages in extras.values() for package in packages)]
    return {re.split(r"[\[<>=!~; ]", package)[0].lower() for package in needed} | {
        f"barlowctl[{extra}]" for extra in extras
    }


def _installable(word: str) -> bool:
    """Whether pip is asked for an extra of ours, or for a package that we name in pyproject.toml."""
    name = word if word.startswith("barlowctl") else re.split(r"[<>=!~]", word)[0]
    return word.startswith("--") or name in _installable_names() | {"barlowctl", "barlowctl[VALUE]", "VALUE"}
