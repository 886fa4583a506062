"""What a source met and does not read, by kind, and the choices it made: nothing is skipped in silence."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from barlowctl.data.names import written

EXAMPLES = 3
"""Names remembered of each kind: memory does not grow with what is skipped."""

LONGEST_NAME = 200

MOST_KINDS = 50
"""Kinds that are told apart: of files with random endings each would be one, and a packed file has no room for all."""

OTHERS = "files of other kinds"


@dataclass
class Skipped:
    """One kind of what was skipped.

    count: how many.    examples: the first names in sorted order.    next: what to do to have them read, if anything.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)
    next: str = ""


class ScanReport:
    """Kinds of what a source skipped, and its notes.

    skipped: kind -> how many, and some names.    notes: choices that were made and how to make another.
    """

    def __init__(self) -> None:
        self.skipped: dict[str, Skipped] = {}
        self.notes: list[str] = []

    def skip(self, kind: str, name: str, *, next: str = "") -> None:
        """Count one file, folder, member or column. kind: for people, in the plural ("HEIC images")."""
        skipped = self.skipped.setdefault(kind, Skipped(next=next))
        skipped.count += 1
        if len(skipped.examples) < EXAMPLES or name < skipped.examples[-1]:
            insort(skipped.examples, name)
            del skipped.examples[EXAMPLES:]

    def take_back(self, kind: str, count: int, name: str = "") -> None:
        """Some that were counted are read after all: labels in files beside images. name: that of a single one."""
        skipped = self.skipped.get(kind)
        if skipped is None or skipped.count <= count:
            self.skipped.pop(kind, None)
        elif name in skipped.examples and skipped.count == len(skipped.examples):
            skipped.count -= 1
            skipped.examples.remove(name)
        else:
            skipped.count, skipped.examples = skipped.count - count, []  # which are left is not known

    def note(self, text: str) -> None:
        """Add a note, unless it is there already."""
        if text not in self.notes:
            self.notes.append(text)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: {"passed_over": {kind: {"count", "examples", "next"}}, "notes": [...]}.

        Users and files read "passed over": in both, "skipped" are images that cannot be decoded.
        """
        kinds = {
            kind: {"count": skipped.count, "examples": [_shortened(name) for name in skipped.examples]}
            | ({"next": skipped.next} if skipped.next else {})
            for kind, skipped in sorted(self._kinds().items())
        }
        return {"passed_over": kinds, "notes": list(self.notes)}

    def _kinds(self) -> dict[str, Skipped]:
        """Kinds of what was skipped: those with advice and the most frequent ones, and the rest as one."""
        if len(self.skipped) <= MOST_KINDS:
            return self.skipped
        ranked = sorted(self.skipped, key=lambda kind: (not self.skipped[kind].next, -self.skipped[kind].count, kind))
        rest = [self.skipped[kind] for kind in ranked[MOST_KINDS - 1 :]]
        names = sorted(name for skipped in rest for name in skipped.examples)
        others = Skipped(sum(skipped.count for skipped in rest), names[:EXAMPLES])
        return {**{kind: self.skipped[kind] for kind in ranked[: MOST_KINDS - 1]}, OTHERS: others}

    def first_lines(self) -> dict[str, str]:
        """For a run's first lines: what was skipped, and the notes; empty where there is neither."""
        kinds = [_describe(kind, skipped) for kind, skipped in self.as_dict()["passed_over"].items()]
        texts = {"passed over": "; ".join(kinds), "note on data": "; ".join(self.notes)}
        return {label: text for label, text in texts.items() if text}

    def nonempty(self) -> dict[str, Any]:
        """For a result: `as_dict` without what is empty."""
        return {key: value for key, value in self.as_dict().items() if value}

    def lines(self) -> list[str]:
        """What to print, a line for each kind and note."""
        return lines_of(self.as_dict())


def lines_of(stored: Mapping[str, Any]) -> list[str]:
    """The lines of a report that was stored with `as_dict`."""
    kinds = stored.get("passed_over", {}).items()
    return [f"passed over: {_describe(kind, skipped)}" for kind, skipped in kinds] + [
        f"note: {note}" for note in stored.get("notes", [])
    ]


def total(stored: Mapping[str, Any]) -> int:
    """How many things were skipped, by a report that was stored with `as_dict`."""
    return sum(skipped["count"] for skipped in stored.get("passed_over", {}).values())


def _describe(kind: str, skipped: Mapping[str, Any]) -> str:
    more = ["..."] if skipped["count"] > len(skipped["examples"]) else []
    named = f" ({', '.join([*skipped['examples'], *more])})" if skipped["examples"] else ""
    advice = f"; {skipped['next']}" if skipped.get("next") else ""
    return f"{kind}: {skipped['count']:,}{named}{advice}"


def _shortened(name: str) -> str:
    text = written(name)
    return text if len(text) <= LONGEST_NAME else f"...{text[-LONGEST_NAME:]}"
