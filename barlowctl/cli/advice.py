"""What to type after an error: the advice of whoever raised it, made a whole command with what was typed.

Below the command line nobody knows what was typed. So advice may be
- a command line, shown as it is;
- flags alone, `--set train.epochs=5`: the same command with them;
- `without --verify`: the same command without these flags (`without --set=lr=3`, of one that may be repeated: without
  that value), or without a word of it that is no flag (`--data photos without photos`);
- `--recipe r.toml without --set`: the same command with the former and without the latter;
- a line that ends in `barlowctl ...`: the same arguments again, started as it says;
- `--import my_networks barlowctl ...`: the same arguments, with something imported first;
- words, shown as they are.
Where torchrun or srun started several processes, the same command has the launcher in front.
Several lines are several things to choose from.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from barlowctl import launcher, program, shell
from barlowctl.errors import UserError

REPEATED = "barlowctl ..."
KEYED = ("--set", "--slurm-option")
"""Options that are repeated as KEY=VALUE: a later one of the same key counts."""
FLAGS = tuple(f"{words}{quotes}--" for words in ("", "without ") for quotes in ("", "'", "$'"))
"""How advice begins that is flags; one with more than letters in its value is in quotes."""


def completed(advice: str | None, arguments: Sequence[str], root: Any, *, alone: bool = False) -> str:
    """Advice as it is shown; without any, the help of the command.

    Args:
        arguments: what was typed after `barlowctl`. root: the click group of all commands. alone: without the launcher
            that started this process.
    """
    path, command = typed(arguments, root)
    if not advice:
        return shell.line("barlowctl", *path, "--help")
    started = [] if alone else launcher.of_the_same_command()
    before = f"{shell.line(*started)} " if started else ""
    lines = [_completed(line, arguments, path, command, before) for line in advice.splitlines()]
    return "\n".join(line for line in lines if line) or shell.line("barlowctl", *path, "--help")


def _completed(advice: str, arguments: Sequence[str], path: Sequence[str], command: Any, before: str) -> str:
    """One line of advice; empty where its flags are none of this command's. before: the launcher in front of it."""
    if advice.endswith(REPEATED):
        start = advice.removesuffix(REPEATED)
        if start.startswith(program.IMPORT):
            imports = shell.line(*program.import_words(*shell.split(start)[1:]))
            return f"{before}barlowctl {imports} {shell.line(*arguments)}"
        return f"{start}{'' if ' -m ' in start else before}barlowctl {shell.line(*arguments)}"
    if not advice.startswith(FLAGS) or (_started_by_another() and not before):
        return advice
    words, without = _with_and_without(shell.split(advice))
    if not _takes(path, command, [*words, *without]):
        return ""
    if list(path) == ["pretrain"] and "--set" in words:
        words, of_the_earlier = _for_a_new_run(arguments, command, words)
        without += of_the_earlier
    return before + repeated(arguments, command, flags=words, without=without)


def _with_and_without(words: list[str]) -> tuple[list[str], list[str]]:
    """The flags to add and the flags to leave out, of `--flag value without --other --another`."""
    if "without" not in words:
        return words, []
    index = words.index("without")
    return words[:index], words[index + 1 :]


def _for_a_new_run(arguments: Sequence[str], command: Any, flags: list[str]) -> tuple[list[str], list[str]]:
    """Flags with and without which a run with other values starts: one that is resumed keeps recipe and directory.

    What a resumed run has learned is where the new one starts, on the same images.
    """
    options = options_of(command)
    named_flags = {options[flag].opts[0]: value for flag, value in pairs(arguments, options) if flag in options}
    if resumed := named_flags.get("--resume"):
        run = _directory(resumed[0])
        images = [] if "--data" in named_flags else _images_of(run)
        return ["--recipe", f"{run}/recipe.toml", *images, *_learned(run), *flags], ["--resume"]
    out = named_flags.get("--out")
    return flags, ["--out"] if out and "--out" not in flags and os.path.exists(out[0]) else []


def _directory(run: str) -> str:
    """Where the run lies that was named."""
    from barlowctl.runs import rundir

    with contextlib.suppress(UserError):
        return str(rundir.find(run))
    return run.rstrip("/")


def _learned(run: str) -> list[str]:
    """What starts a run from the weights that another one has; nothing where that one has none."""
    from barlowctl.runs import rundir

    return ["--init", run] if rundir.checkpoints_of(Path(run)) else []


def _images_of(run: str) -> list[str]:
    """What names the images of a run that was given others than its recipe's."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # who asks has an error to report already
        about = json.loads((Path(run) / "run.json").read_text(encoding="utf-8"))
        if (images := about["data"]["dataset"]) and images != about["recipe"]["data"]["dataset"]:
            return ["--data", str(images)]
    return []


def repeated(
    arguments: Sequence[str],
    command: Any,
    *,
    flags: Sequence[str] = (),
    without: Sequence[str] = (),
    last: tuple[str, str] | None = None,
) -> str:
    """The command `barlowctl ARGUMENTS` once more, with or without some flags.

    Args:
        last: a name among the words that are no flags, and the one in the place of its last occurrence.
        command: the click command, which knows what takes a value and what is another name of it.
        flags: as they would be typed; of `--set KEY=VALUE` the same key is replaced, of others the same flag, or those
            of its values that `without` names.
    """
    options = options_of(command)
    changed = _last_of_each(pairs(flags, options), options)
    flags_left_out = [word for word in without if word.startswith("-")]
    words_left_out = [word for word in without if not word.startswith("-")]
    left_out = pairs([word for word in flags_left_out if "=" in word], options)
    replaced = {_identity(*pair, options) for pair in [*changed, *left_out]}
    names_left_out = {options[word].opts[0] for word in flags_left_out if "=" not in word}
    one_by_one = {_identity(*pair, options)[0] for pair in left_out} | set(KEYED)
    names_left_out |= {_identity(*pair, options)[0] for pair in changed} - one_by_one
    cut = list(arguments).index("--") if "--" in arguments else len(arguments)
    words, names = arguments[:cut], arguments[cut:]  # what follows `--` is no flag
    given = [pair for pair in pairs(words, options) if pair[1] or pair[0] not in words_left_out]
    given = _last_of_each(given, options)
    names = [name for name in names if name not in words_left_out]
    named = [(pair, _identity(*pair, options)) for pair in given]
    remaining = [pair for pair, of in named if of not in replaced and of[0] not in names_left_out]
    if last is not None:
        remaining, names = _renamed(remaining, list(names), *last)
    return shell.line("barlowctl", *(word for flag, value in [*remaining, *changed] for word in (flag, *value)), *names)


def _renamed(pairs: list[tuple[str, tuple[str, ...]]], names: list[str], old: str, new: str) -> tuple[Any, list[str]]:
    """Words of a command with another name in the place of the last one that is no flag's value."""
    if old in names:
        at = len(names) - 1 - names[::-1].index(old)
        return pairs, [*names[:at], new, *names[at + 1 :]]
    words = [word for word, _ in pairs]
    at = len(words) - 1 - words[::-1].index(old)
    return [*pairs[:at], (new, ()), *pairs[at + 1 :]], names


def typed(arguments: Sequence[str], root: Any) -> tuple[list[str], Any]:
    """The names of the command and subcommand that were typed, and the click command."""
    path: list[str] = []
    for word in arguments:
        if (child := getattr(root, "commands", {}).get(word)) is None:
            break
        path.append(word)
        root = child
    return path, root


def options_of(command: Any) -> dict[str, Any]:
    """The options of a click command under each of their names."""
    return {name: option for option in command.params for name in option.opts if name.startswith("-")}


def pairs(words: Sequence[str], options: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    """Each flag with the value that follows it or is joined to it; other words alone."""
    pairs: list[tuple[str, tuple[str, ...]]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if word.startswith("--") and equals:
            pairs.append((flag, (value,)))
        elif word in options and not options[word].is_flag and rest:
            pairs.append((word, (rest.pop(0),)))
        else:
            pairs.append((word, ()))
    return pairs


def _identity(flag: str, value: tuple[str, ...], options: Mapping[str, Any]) -> tuple[str, str]:
    """What a later flag replaces: the same under any of its names; of one that is repeated the same key or value."""
    option = options.get(flag)
    name = option.opts[0] if option else flag
    if not (value and option and getattr(option, "multiple", False)):
        return name, ""
    return name, value[0].partition("=")[0] if name in KEYED else value[0]


def _last_of_each(
    given: Sequence[tuple[str, tuple[str, ...]]], options: Mapping[str, Any]
) -> list[tuple[str, tuple[str, ...]]]:
    """Flags and words without those that a later one replaces: a key has its last value, once."""
    last = {_identity(*pair, options): index for index, pair in enumerate(given) if pair[0] in options}
    return [pair for index, pair in enumerate(given) if last.get(_identity(*pair, options), index) == index]


def _started_by_another() -> bool:
    """Whether a launcher started this process: what to type again is the launcher's command."""
    return "BARLOWCTL_EXIT_CODES" not in os.environ and launcher.started()


def _takes(path: Sequence[str], command: Any, words: Sequence[str]) -> bool:
    """Whether a command has these flags, and its `--set` these keys (of a recipe, or of how images are prepared)."""
    from barlowctl.recipe.overrides import PREPARING

    options = {option for parameter in command.params for option in parameter.opts}
    keys = [value.partition("=")[0] for flag, value in pairwise(words) if flag == "--set"]
    of_a_recipe = any("." in key and not f"{key}=".startswith(PREPARING) for key in keys)
    measures = path[:1] in (["probe"], ["transfer"], ["embed"])
    return {flag.partition("=")[0] for flag in words if flag.startswith("--")} <= options and not (
        of_a_recipe and measures
    )
