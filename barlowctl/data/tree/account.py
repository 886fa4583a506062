"""What a source met and does not read, by kind, and the choices it made: nothing is passed over in silence."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from barlowctl.data.names import written

EXAMPLES = 3
"""Names kept of each kind: memory does not grow with what is passed over."""

LONGEST_NAME = 200


@dataclass
class PassedOver:
    """One kind of what was passed over.

    count: how many.    examples: the first names in sorted order.    next: what to do to have them read, if anything.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)
    next: str = ""


class Account:
    """Kinds of what a source passed over, and its notes.

    passed_over: kind -> what was found of it.    notes: choices that were made and how to make another.
    """

    def __init__(self) -> None:
        self.passed_over: dict[str, PassedOver] = {}
        self.notes: list[str] = []

    def pass_over(self, kind: str, name: str, *, next: str = "") -> None:
        """Count one file, folder, member or column. kind: for people, in the plural ("HEIC images")."""
        found = self.passed_over.setdefault(kind, PassedOver(next=next))
        found.count += 1
        if len(found.examples) < EXAMPLES or name < found.examples[-1]:
            insort(found.examples, name)
            del found.examples[EXAMPLES:]

    def take_back(self, kind: str, count: int, name: str = "") -> None:
        """Some that were counted are read after all: labels in files beside images. name: that of one alone."""
        found = self.passed_over.get(kind)
        if found is None or found.count <= count:
            self.passed_over.pop(kind, None)
        elif name in found.examples and found.count == len(found.examples):
            found.count -= 1
            found.examples.remove(name)
        else:
            found.count, found.examples = found.count - count, []  # which are left is not known

    def note(self, text: str) -> None:
        """Say a choice once."""
        if text not in self.notes:
            self.notes.append(text)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: {"passed_over": {kind: {"count", "examples", "next"}}, "notes": [...]}."""
        kinds = {
            kind: {"count": found.count, "examples": [_shortened(name) for name in found.examples]}
            | ({"next": found.next} if found.next else {})
            for kind, found in sorted(self.passed_over.items())
        }
        return {"passed_over": kinds, "notes": list(self.notes)}

    def facts(self) -> dict[str, str]:
        """For a run's first lines: what was passed over, and the notes; empty where there is nothing to say."""
        kinds = [_describe(kind, found) for kind, found in self.as_dict()["passed_over"].items()]
        said = {"passed over": "; ".join(kinds), "note on data": "; ".join(self.notes)}
        return {key: text for key, text in said.items() if text}

    def found(self) -> dict[str, Any]:
        """For a result: `as_dict` without what is empty."""
        return {key: value for key, value in self.as_dict().items() if value}

    def lines(self) -> list[str]:
        """What to print, a line for each kind and note."""
        return lines_of(self.as_dict())


def lines_of(account: Mapping[str, Any]) -> list[str]:
    """The lines of an account that was stored with `as_dict`."""
    kinds = account.get("passed_over", {}).items()
    return [f"passed over: {_describe(kind, found)}" for kind, found in kinds] + [
        f"note: {note}" for note in account.get("notes", [])
    ]


def total(account: Mapping[str, Any]) -> int:
    """How many things a stored account passed over."""
    return sum(found["count"] for found in account.get("passed_over", {}).values())


def _describe(kind: str, found: Mapping[str, Any]) -> str:
    more = ["..."] if found["count"] > len(found["examples"]) else []
    named = f" ({', '.join([*found['examples'], *more])})" if found["examples"] else ""
    advice = f"; {found['next']}" if found.get("next") else ""
    return f"{kind}: {found['count']:,}{named}{advice}"


def _shortened(name: str) -> str:
    text = written(name)
    return text if len(text) <= LONGEST_NAME else f"...{text[-LONGEST_NAME:]}"
