"""Every command line in README and the documentation is one that the command line takes today."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from barlowctl import program
from barlowctl.cli import renamed
from barlowctl.cli.advice import typed
from tests.advice.checked import faults_of_arguments
from tests.cli.tree import ROOT, parse

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
WRITTEN = sorted([*DOCS.glob("*.md"), *DOCS.glob("howto/*.md")])
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *WRITTEN, DOCS / "study" / "README.md"]
PAGES.remove(DOCS / "cli.md")  # that one is generated


def commands(text: str) -> Iterator[str]:
    """What stands in code after `barlowctl`, a line continued with a backslash as one, without a comment."""
    fenced = False
    for line in text.replace("\\\n", " ").splitlines():
        fenced ^= line.startswith("```")
        line = re.sub(r"^\(cd \S+ && (.*)\)$", r"\1", line)  # in another folder
        match = re.match(r" *(?:[A-Z_]+=\S+ )*(?:torchrun \S.* -m |srun \S.* -m |python -m )?barlowctl (.*)", line)
        if match and (fenced or line.startswith("    ")):
            yield match[1]
    yield from (command.partition("barlowctl ")[2] for command in re.findall(r"`(barlowctl [^`\n]+)`", text))


LINES = sorted({(page.name, line) for page in PAGES for line in commands(page.read_text(encoding="utf-8"))})


def faults(line: str) -> list[str]:
    words = shlex.split(re.split(r" [|>&]+ ", line)[0], comments=True)
    words = program.split(words)[1]  # what is imported is the reader's
    if "..." in words:  # the rest stands above it
        words = words[: words.index("...")]
    if renamed.current(words) != words:
        return ["an earlier spelling"]
    if not_understood := [fault for fault in faults_of_arguments(words) if "missing" not in fault]:
        return not_understood
    command = typed(words, ROOT)[1]
    if hasattr(command, "commands"):  # a group alone, or an option of the main command: nothing that is converted
        return []
    try:
        parse(words)
    except Exception as error:
        message = str(error) or type(error).__name__
        return [] if "Missing" in message or type(error).__name__ in ("NoArgsIsHelpError", "Exit") else [message]
    return []


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_command_of_the_documentation_can_be_typed(page: str, line: str) -> None:
    assert faults(line) == [], f"{page}: barlowctl {line}"


def test_many_are_found_and_a_wrong_one_is_seen() -> None:
    assert len(LINES) > 60
    assert faults("probe runs/NAME --protocol papper") != []
    assert faults("probe runs/NAME --semi-lst x") != []
    assert faults("report --no-images") == ["an earlier spelling"]
    assert faults("data pack a b --shorter-side 2") != []
