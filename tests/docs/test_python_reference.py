"""The Python reference is the docstrings: each says what every argument and every attribute is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import barlowctl
from barlowctl import events, losses

ELSEWHERE = re.compile(r"\bSee `(\w+)(?:\.(\w+))?`")


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What `module` offers and the methods of its classes, with their names."""
    names = getattr(module, "__all__", None) or [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__
    ]
    for name in names:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield f"{module.__name__}.{name}", thing
        if inspect.isclass(thing):
            for method, member in vars(thing).items():
                if inspect.isfunction(member) and not method.startswith("_"):
                    yield f"{module.__name__}.{name}.{method}", member


def unexplained(thing: Any) -> list[str]:
    """Parameters that the docstring neither has nor leaves to what it points to by "See `that`"."""
    text = inspect.getdoc(thing) or ""
    for owner, method in ELSEWHERE.findall(text):
        there = getattr(barlowctl, owner)
        text += inspect.getdoc(getattr(there, method) if method else there) or ""
    names = [
        parameter.name
        for parameter in inspect.signature(thing).parameters.values()
        if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]
    return [name for name in names if not re.search(rf"(?<!\w){name}(, \w+)*: |`{name}`", text)]


THINGS = dict(entry for module in (barlowctl, events, losses) for entry in public(module))
POSITIONAL = {
    # their docstrings say "-> loss" of what comes in, by place and shape
    *(f"barlowctl.losses.{name}.forward" for name in ("BarlowTwins", "VICReg", "SimCLR", "BYOL", "SimSiam")),
    # what fails carries the words of UserError
    "barlowctl.RunStopped",
    "barlowctl.RunDiverged",
}


@pytest.mark.parametrize("name", sorted(THINGS.keys() - POSITIONAL))
def test_every_argument_is_explained(name: str) -> None:
    assert unexplained(THINGS[name]) == []


def test_what_is_not_explained_is_seen() -> None:
    def half(run: str, out: str, loader: str) -> None:
        """One thing. See `load`.

        Args:
            out: the file.
        """

    assert unexplained(half) == ["loader"]
    assert len(THINGS) > 40


RAISES = re.compile(r"^ *Raises:\n((?: +(?!\"\"\")\S.*\n)+)", re.MULTILINE)
SECOND = re.compile(r"^.*[.;] [A-Z]\w+: .*$", re.MULTILINE)


def test_every_exception_has_a_line_of_its_own() -> None:
    """A reference takes what begins a line for the exception, and the rest of it for its explanation."""
    package = Path(barlowctl.__file__).parent
    sections = {path: RAISES.findall(path.read_text(encoding="utf-8")) for path in package.rglob("*.py")}
    assert {
        path.name: lines for path, texts in sections.items() for text in texts if (lines := SECOND.findall(text))
    } == {}
    assert sum(map(len, sections.values())) > 100
    assert SECOND.findall("    UserError: it was. OSError: a disk has lost it.\n") != []
