"""Images that cannot be read: why, and how it is said, the same whichever way they came in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from barlowctl.amounts import counted
from barlowctl.errors import UserError

OnMeasuring = Literal["raise", "skip"]
"""What a measurement does about such an image: stop, or leave it out and name it."""

PROBLEMS_NAMED = 10
"""So many reasons are said on a terminal."""
_EXAMPLES = 3  # names of several images with one reason

REPLACED = "--set data.on_unreadable=replace"
"""With which a run goes on past such an image, also one that began without."""


class Unreadable(Exception):
    """An image that cannot be read; the text says why.

    setting: `KEY=VALUE` of a recipe's section `data`, and a flag of `data pack`, without which it is not read. Another
        may be missing then: see `data.sources.lacking`.
    """

    def __init__(self, text: str, *, setting: str = "") -> None:
        super().__init__(text)
        self.setting = setting


@dataclass(frozen=True)
class Problem:
    """An image that was left out, and why. split: of which split, where there are two: names need not differ."""

    name: str
    reason: str
    split: str = ""

    def as_dict(self) -> dict[str, str]:
        """Plain values, for JSON."""
        return {"name": self.name, "reason": self.reason, **({"split": self.split} if self.split else {})}


class UnreadableImage(UserError):
    """One image of a source stops what was asked for.

    setting: flags, one or several, with which it could be read.
    is_gone: the whole source is not there any more, and nothing of it can be left out.

    Args:
        path: of the source. name: of the image in it. reason: why it cannot be read.
        next: what to try.
    """

    def __init__(self, path: Path, name: str, reason: str, *, next: str = REPLACED) -> None:
        super().__init__(f"{path}: {name} cannot be read: {reason}", next=next)
        self.path, self.name, self.reason = path, name, reason
        self.setting, self.when_resumed, self.is_gone = "", next == REPLACED, False

    @classmethod
    def of(
        cls, path: Path, name: str, error: Unreadable | OSError, settings: str = "", *, is_gone: bool = False
    ) -> UnreadableImage:
        """From what was raised where it was read; the next command sets what was missing, `settings` with spaces.

        is_gone: the source was there, and is not any more.
        """
        if isinstance(error, OSError) and is_gone:
            return cls._of_a_source_that_is_gone(path, name)
        image = cls(path, name, reason_of(error))
        if settings:
            image.when_resumed = False
            image.setting = image.next = " ".join(f"--set data.{setting}" for setting in settings.split())
        return image

    @classmethod
    def _of_a_source_that_is_gone(cls, path: Path, name: str) -> UnreadableImage:
        gone = cls(path, name, "nothing is there any more", next="put the images back where they were, then go on")
        gone.is_gone = True
        return gone

    def __reduce__(self) -> Any:  # it comes out of worker processes
        return type(self), (self.path, self.name, self.reason), self.__dict__


@contextmanager
def advise_skipping(chosen: OnMeasuring) -> Iterator[None]:
    """At an image that cannot be measured, what to do next is the same again with what it lacks, or with
    `--on-unreadable skip`.
    """
    try:
        yield
    except UnreadableImage as error:
        if chosen == "raise" and not error.is_gone:
            error.next = "\n".join(filter(None, [error.setting, "--on-unreadable skip"]))
        raise


def reason_of(error: Unreadable | OSError) -> str:
    """What to say of it."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def listed(problems: Sequence[Problem], count: int | None = None, more: str = "") -> list[str]:
    """A line for each of the first `PROBLEMS_NAMED` reasons, with whom it is of, and one that counts the rest.

    Args:
        count: of all of them, where `problems` has the first alone. more: where the rest is, behind their number.
    """
    names_of: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        names_of.setdefault((problem.split, problem.reason), []).append(problem.name)
    lines = [
        f"unreadable: {f'{split}: ' if split else ''}{_named(names)}: {reason}"
        for (split, reason), names in islice(names_of.items(), PROBLEMS_NAMED)
    ]
    named = sum(map(len, islice(names_of.values(), PROBLEMS_NAMED)))
    rest = (len(problems) if count is None else count) - named
    return [*lines, *([f"... and {rest:,} more{more}"] if rest else [])]


def _named(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{counted(len(names), 'image')} ({', '.join(names[:_EXAMPLES])}{', ...' if names[_EXAMPLES:] else ''})"
