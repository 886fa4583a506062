"""Where the code gives advice that is a command: each place with its name, and the places that a call comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import FrameType

from tests.advice.checked import is_words
from tests.advice.collected import PACKAGE, VALUE, collect


@dataclass(frozen=True)
class Site:
    """One expression that gives advice.

    name: `module.py function`, and `#2`, `#3` for the next ones of a function: it does not change when lines move.
    lines: first and last of the expression. texts: the command lines that it can give, with marks for values.
    """

    name: str
    module: str
    lines: tuple[int, int]
    texts: tuple[str, ...]

    def given(self, line: str) -> list[str]:
        """Which of its texts a printed line can be."""
        return [text for text in self.texts if pattern(text).fullmatch(line)]


@cache
def sites() -> tuple[Site, ...]:
    """All of them. One without any command is not among them: its words are looked after by `by_hand`."""
    texts: dict[tuple[str, str, int, int], dict[str, None]] = {}
    for advice in collect():
        module, _, first = advice.where.partition(":")
        for line in advice.text.splitlines():
            if not is_words(line) or line == VALUE or line.startswith((f"{VALUE} --", f"{VALUE} {VALUE}")):
                texts.setdefault((module, advice.function, int(first), advice.end), {})[line] = None
    all_sites, numbers = [], dict[str, int]()
    for module, function, first, last in sorted(texts):
        name = f"{module} {function}".strip()
        numbers[name] = numbers.get(name, 0) + 1
        ordinal = f"#{numbers[name]}" if numbers[name] > 1 else ""
        all_sites.append(Site(name + ordinal, module, (first, last), tuple(texts[module, function, first, last])))
    return tuple(all_sites)


def on_the_way(frame: FrameType | None) -> Iterator[Site]:
    """The sites whose expressions are being evaluated in a frame and its callers."""
    while frame is not None:
        in_file = _by_file().get(frame.f_code.co_filename, ())
        yield from (site for site in in_file if site.lines[0] <= frame.f_lineno <= site.lines[1])
        frame = frame.f_back


@cache
def _by_file() -> dict[str, list[Site]]:
    by_file = dict[str, list[Site]]()
    for site in sites():
        by_file.setdefault(str(PACKAGE / site.module), []).append(site)
    return by_file


@cache
def pattern(text: str) -> re.Pattern[str]:
    """What a text can be when it is printed: a value in place of each mark, and further words behind it."""
    return re.compile(".+".join(re.escape(part) for part in text.split(VALUE)) + "( .*)?", re.DOTALL)
