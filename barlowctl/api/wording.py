"""Errors as Python reads them: a flag of the command line is an argument, and what helps is in the traceback."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from barlowctl import compilers, launcher, program, shell
from barlowctl.api.options import Training
from barlowctl.errors import UserError

_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])(?![\w-])")
_SET = re.compile(r"(?<![\w-])--set (?:'([\w.]+)=([^']*)'|([\w.]+)=(\S+?)(?=[:;,.]?(?:\s|$)))")
_BACKBONE = re.compile(r"(?<![\w-])--backbone(?: (?=\w*\d)([\w.]+)| (?=\w*[_.])([\w.]+\w))?(?![\w-])")
"""A flag for a key of recipes: alone, or with a name of timm's, which has a digit, an underscore or a dot."""
_OF_A_COMMAND = re.compile(r"(--[a-z-]+(?: (?!of )[^\s;()]+)? of data \w+|\bdata \w+(?: --[a-z-]+)+|`[^`]*`)")
"""A flag and the command that has it, which is no call: `--range of data pack`, `data pack --hold-out`."""
_MEASURES = ("knn", "linear", "lidar", "layers")
"""Flags that are names in the argument `measures` (`barlowctl.measure.tasks.MEASURES`)."""
_NAMES = {"set": "overrides", "all": "all_formats"}
"""Flags whose argument in Python has another name."""


@contextmanager
def reworded(network: str | None = None) -> Iterator[None]:
    """A `UserError` of the block speaks of arguments; what is allowed and what to do next are notes of it.

    Args:
        network: what is asked, as Python writes it, where how images are shown to it was set when it was opened, and
            not in the call.
    """
    try:
        yield
    except UserError as error:
        if not error.in_python:
            error.in_python = True
            error.message = in_python(error.message)
            error.args = (error.message,)
            error.explain(in_python, partial(advice, network=network))
        raise


def in_python(text: str) -> str:
    """A sentence with arguments in the place of flags: `--device is 'tpu'` is `device is 'tpu'`."""
    parts = _OF_A_COMMAND.split(_BACKBONE.sub(_key, text))  # every other one is of a command, and stays as it is
    parts[::2] = [_FLAG.sub(lambda match: _in_words(match[1]), _SET.sub(_override, part)) for part in parts[::2]]
    return "".join(parts)


def advice(line: str, network: str | None = None) -> str:
    """What to do next: arguments where it is flags, a call where there is one, else the command line that it is.

    Args:
        network: see `reworded`.
    """
    try:
        words = shell.split(line)
    except ValueError:  # words, with an apostrophe
        return in_python(line)
    if words[:1] == [program.IMPORT]:  # barlowctl ...
        return f"run {words[1]} first" if program.is_file(words[1]) else f"import {words[1]} first"
    if call := _resumption(words):
        return call
    programs = ("barlowctl", "pip", "torchrun", "srun", "hf", "ls", "xcode-select", *compilers.INSTALLATIONS)
    if words and words[0] in programs:
        return f"on the command line: {line}"
    at = words.index("without") if "without" in words else len(words)
    if all(part[0].startswith("--") for part in (words[:at], words[at + 1 :]) if part) and words:
        if network is not None and all(flag == "--set" for flag in words[::2]) and all("." in w for w in words[1::2]):
            return f"barlowctl.open_network({network}, {_arguments(words)[0]})"
        left_out = [_left_out(word) for word in words[at + 1 :]]
        return ", ".join([*_arguments(words[:at]), *(["without " + " and ".join(left_out)] if left_out else [])])
    return in_python(line)


def _resumption(words: list[str]) -> str | None:
    """The call that continues a run, in a program that its launcher starts again; None for what no call can say."""
    at = words.index("barlowctl") if "barlowctl" in words else 0
    if words[at : at + 3] != ["barlowctl", "pretrain", "--resume"] or len(words) == at + 3:
        return None
    if at and not launcher.started():
        return None
    run, flags = words[at + 3], words[at + 4 :]
    if not {_argument(flag.lstrip("-")) for flag in flags if flag.startswith("--")} <= set(Training.__annotations__):
        return None
    return f"barlowctl.pretrain({', '.join([f'resume={run!r}', *_arguments(flags)])})"


def _key(backbone: re.Match[str]) -> str:
    name = backbone[1] or backbone[2]
    return f"--set model.backbone={name}" if name else "--set model.backbone"


def _left_out(flag: str) -> str:
    """`verify` of `--verify`; of `--set=train.epoch=20` the key of the overrides."""
    name, _, value = flag.lstrip("-").partition("=")
    if name in _MEASURES:
        return f"{name!r} in measures"
    if name == "backbone":
        return "'model.backbone' in overrides"
    return f"{value.partition('=')[0]!r} in overrides" if name == "set" and value else in_python(flag)


def _arguments(words: list[str]) -> list[str]:
    """Flags and their values as arguments of a call; overrides in one dictionary."""
    arguments: dict[str, str] = {}
    overrides: list[str] = []
    if words == ["--linear", "--protocol", "paper"]:  # trained on the engine, not fitted to features
        return ["trained=['linear']"]
    if measures := [word.lstrip("-") for word in words if word.lstrip("-") in _MEASURES]:
        arguments["measures"] = repr(measures)
        words = [word for word in words if word.lstrip("-") not in _MEASURES]
    while words:
        flag = words.pop(0)
        value = words.pop(0) if words and not words[0].startswith("--") else None
        if flag == "--set" and value is not None:
            key, _, new = value.partition("=")
            overrides.append(f"{key!r}: {_literal(new)}")
        else:
            arguments[_argument(flag.lstrip("-"))] = "True" if value is None else _literal(value)
    if overrides:
        arguments["overrides"] = "{" + ", ".join(overrides) + "}"
    return [f"{name}={value}" for name, value in arguments.items()]


def _override(match: re.Match[str]) -> str:
    key, value = (match[1], match[2]) if match[1] else (match[3], match[4])
    return f"overrides={{{key!r}: {_literal(value)}}}"


def _in_words(flag: str) -> str:
    return repr(flag) if flag in _MEASURES else _argument(flag)


def _argument(flag: str) -> str:
    return _NAMES.get(flag, flag.replace("-", "_"))


def _literal(text: str) -> str:
    """A value of a command line, which TOML writes or which is a word, as Python writes it."""
    if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", text):
        return text
    try:
        return repr(tomllib.loads(f"value = {text}")["value"])
    except tomllib.TOMLDecodeError:
        return repr(text)
