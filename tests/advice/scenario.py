"""An error that is provoked, and its printed `next:` typed as a person would: what is recorded of it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from barlowctl import errors
from barlowctl.cli import advice, app, console
from tests.advice.checked import PLACEHOLDER, ROOT, is_words
from tests.advice.followed import not_to_be_typed
from tests.advice.sites import Site, on_the_way

Prepare = Callable[[pytest.MonkeyPatch], object]


@dataclass(frozen=True)
class Scenario:
    """One way to an error (or to a result that says what comes next).

    arguments: what is typed after `barlowctl`. first: what makes it go wrong. code: the exit code.
    then: part of the message that rightly comes next, where the advice is a step on the way; of another error.
    person: what is put in for a placeholder. launcher: variables of a launcher that started the first command, and
    not what is typed later. slow: only with `make test-slow`.
    """

    arguments: list[str]
    first: Prepare | None = None
    code: int = 2
    then: str | None = None
    person: Mapping[str, str] = field(default_factory=dict)
    launcher: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False


@dataclass
class Watch:
    """Whose advice is shown. `made`: of each error (or command), texts and the sites that they came from."""

    made: list[tuple[str, tuple[Site, ...]]] = field(default_factory=list)
    given: list[str] = field(default_factory=list)

    def claims(self, advice: str) -> list[tuple[str, str]]:
        """Site and text of a line that was shown."""
        raw = [line for line in self.given if not line.endswith("--help") and advice_of(line) == advice] or [advice]
        if advice.endswith("--help"):  # what is shown where no line of the advice is for this command
            raw = [advice]
        return sorted(
            {
                (site.name, text)
                for line in raw
                for made, places in self.made
                if line in made.splitlines()
                for site in places
                for text in site.given(line)
            }
        )


KNOWN_BY_THE_PERSON = {
    "OUT.beton": "packed.beton",
    "FOLDER": "my images",
    "IMAGES": "my images",
    "SOURCE": "one folder",
    "DATASET": "my images",
}
ARGUMENTS: list[str] = []


def advice_of(line: str) -> str:
    """A line of advice as it is shown for what was typed."""
    return advice.completed(line, app.current(ARGUMENTS), ROOT)


@contextlib.contextmanager
def watching(patch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Note where every advice is made, while the first command runs."""
    watch = Watch()
    shown_by, completed = console.Console.next, app.completed

    def get(error: Any) -> str | None:
        return error.__dict__.get("next")

    def put(error: Any, text: str | None) -> None:
        error.__dict__["next"] = text
        if text:
            watch.made.append((text, tuple(on_the_way(sys._getframe(1)))))

    def shows(self: console.Console, *commands: str) -> None:
        watch.made.append(("\n".join(commands), tuple(on_the_way(sys._getframe(1)))))
        shown_by(self, *commands)

    def completes(text: str | None, *rest: Any, **named: Any) -> str:
        watch.given += (text or "").splitlines()
        return completed(text, *rest, **named)

    with patch.context() as inner:
        inner.setattr(errors.UserError, "next", property(get, put), raising=False)
        inner.setattr(console.Console, "next", shows)
        inner.setattr(app, "completed", completes)
        yield watch


def provoked(scenario: Scenario, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> tuple[
    str, dict[str, list[tuple[str, str]]]
]:  # fmt: skip
    """The error's message, and the lines of what to type next with the sites that they came from."""
    capsys.readouterr()
    ARGUMENTS[:] = scenario.arguments
    with watching(patch) as watch, patch.context() as launched:
        for name, value in scenario.launcher.items():
            launched.setenv(name, value)
        code = app.run(scenario.arguments)
        out, err = capsys.readouterr()
        text = err if scenario.code else out
        assert code == scenario.code, f"exit code {code}\n{out}{err}"
        lines = re.findall(r"^next: (.*)$", text, re.MULTILINE)
        assert lines, text
        claims = {line: watch.claims(line) for line in lines}
    message = re.search(r"^(?:error: )?(.*?)(?=^allowed: |^next: )", err, re.MULTILINE | re.DOTALL)
    return (message[1].strip() if message and scenario.code else ""), claims


def typed(line: str, scenario: Scenario) -> int:
    """What a shell does with a line of advice: each command that `&&` joins, in this process where it is ours."""
    code = 0
    for command in line.split(" && "):
        words = [put_in(word, {**KNOWN_BY_THE_PERSON, **scenario.person}) for word in shlex.split(command)]
        with pytest.MonkeyPatch.context() as patch:
            while words[0] == "env" or "=" in words[0]:  # of this command alone
                if words[0] == "env":
                    words.pop(0)
                    while words[0] == "-u":
                        patch.delenv(words[1], raising=False)
                        del words[:2]
                else:
                    patch.setenv(*words.pop(0).split("=", 1))
            code = executed(words)
        if code:
            break
    return code


def put_in(word: str, person: Mapping[str, str]) -> str:
    """A word of a command, with what a person puts in for a placeholder."""
    name, equals, value = word.partition("=")
    if equals and PLACEHOLDER.fullmatch(value) and value in person:
        return f"{name}={person[value]}"
    return person.get(word, word)


def executed(words: list[str]) -> int:
    """One command; of ours and of Python's, in this process."""
    match words:
        case ["barlowctl", *arguments]:
            return app.run(arguments)
        case ["python", "-c", code]:
            exec(compile(code, "typed", "exec"), {})
            return 0
        case ["python", *arguments]:
            words = [sys.executable, *arguments]
        case ["torchrun", *arguments]:
            words = [sys.executable, "-m", "torch.distributed.run", *arguments]
        case ["tail", *_]:  # until Ctrl-C
            words = ["timeout", "2", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=dict(os.environ))
    sys.stderr.write(done.stderr)
    return 0 if words[0] == "timeout" and (done.stdout or "has appeared" in done.stderr) else done.returncode


@contextlib.contextmanager
def unchanged_folder(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """One of several choices is typed: the next one starts where this one did."""
    here = Path.cwd()
    aside = shutil.copytree(here, here.with_name(f"{here.name}-aside"), symlinks=True)
    try:
        yield
    finally:
        shutil.rmtree(here)
        aside.rename(here)
        patch.chdir(here)


def follow(scenario: Scenario, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Provoke the error, type every line of its advice, and see that it leads on.

    Returns:
        The sites and texts that were followed; none where words are all that can be said. The record knows which.
    """
    if scenario.first is not None:
        scenario.first(patch)
    message, lines = provoked(scenario, capsys, patch)
    followed = []
    choices = {line: claims for line, claims in lines.items() if not (is_words(line) or not_to_be_typed(line))}
    for number, (line, claims) in enumerate(choices.items(), 1):
        assert claims, f"nobody knows where this advice comes from: {line}"
        with unchanged_folder(patch) if number < len(choices) and scenario.code else contextlib.nullcontext():
            code = typed(line, scenario)
        errors = capsys.readouterr().err
        assert not message or message not in errors, f"{line}: the same error again\n{errors}"
        if scenario.then is None:  # a group of commands shows its help, with the exit code of a wrong one
            assert code == 0 or "error: " not in errors, f"{line}: exit code {code}\n{errors}"
        else:
            assert code == 0 or scenario.then in errors, f"{line}: exit code {code}\n{errors}"
        followed += claims
    return followed
