"""What a run goes on with, or is measured with, that is other than at its beginning, so that numbers are others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from barlowctl.amounts import counted

_THREADS = re.compile(r"cpu, (\d+) threads?\b")
_LOADER = re.compile(r"fast|plain")

ACCURATE_JPEG = datetime(2026, 11, 25, 14, 35, tzinfo=UTC)
"""From when on packed JPEGs are decoded with the accurate inverse DCT (docs/loader.md)."""


def decoded_otherwise(about: Mapping[str, object]) -> str | None:
    """A sentence on a run that began on other pixels of the same packed JPEGs; None: it did not.

    Args:
        about: the run's run.json.
    """
    facts = about.get("facts")
    loader = str(facts.get("loader", "")) if isinstance(facts, Mapping) else ""
    if not loader.startswith("fast") or "decoder" not in loader:
        return None
    with suppress(ValueError, TypeError):  # a note that is damaged, or without a time zone
        if datetime.fromisoformat(str(about.get("started"))) < ACCURATE_JPEG:
            return (
                "the run began before 25 November 2026, when packed JPEGs were read about a level darker: what was "
                "measured of it then may differ by a few images"
            )
    return None


def changed_since(about: Mapping[str, object], first_lines: Mapping[str, str]) -> str | None:
    """A sentence for people; None: nothing of the kind, or the run noted nothing. Another number of ranks has its own.

    Args:
        about: the run's run.json. first_lines: of this process.
    """
    facts = about.get("facts")
    before: Mapping[str, object] = facts if isinstance(facts, Mapping) else {}
    changes = []
    threads = [_THREADS.match(str(lines.get("device", ""))) for lines in (before, first_lines)]
    if threads[0] and threads[1] and threads[0][1] != threads[1][1]:
        changes.append(f"{counted(int(threads[1][1]), 'thread')} in place of {threads[0][1]}")
    loaders = [_LOADER.match(str(lines.get("loader", ""))) for lines in (before, first_lines)]
    if loaders[0] and loaders[1] and loaders[0][0] != loaders[1][0]:
        changes.append(f"the {loaders[1][0]} loader in place of the {loaders[0][0]} one")
    if not changes:
        return None
    return f"it goes on with {' and '.join(changes)}: from here on it is not bit for bit the run it would have been"
