"""The lines of a run's metrics.jsonl: whole records, and what is to be said of the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LINES_NAMED = 3


def lines_of(file: Path) -> list[bytes]:
    """The lines of a file; none where there is no file."""
    return file.read_bytes().splitlines() if file.is_file() else []


def read(file: Path) -> list[dict[str, Any]]:
    """The whole records of a metrics file, oldest first."""
    return [record for line in lines_of(file) if (record := record_of(line)) is not None]


def record_of(line: bytes) -> dict[str, Any] | None:
    """A whole record; None for the half of one that is just being written, and for what a crash of the machine left."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    is_whole = isinstance(record, dict) and "event" in record and isinstance(record.get("step"), int)
    return record if is_whole else None


def damage(file: Path, *, running: bool = False, made: int = 0, log_every: int | None = None) -> str:
    """What a metrics file has lost, in words; empty where it is whole.

    Args:
        running: whether a process may be writing the last line now, or was when it was killed: it counts for nothing.
        made: steps that were made, as a checkpoint or the result says. log_every: after how many steps there is a
            record; None: not known.
    """
    lines = lines_of(file)
    broken = [number for number, line in enumerate(lines, 1) if record_of(line) is None]
    if running and broken and broken[-1] == len(lines):
        broken.pop()
    parts = [_left_out(broken, len(lines))] if broken else []
    reached = max((record["step"] for record in read(file)), default=0)
    if log_every is not None and reached + log_every < made:
        parts.append(f"steps {reached + 1:,} to {made:,}, which were made, have no record")
    return f"metrics.jsonl lost records: {'; '.join(parts)}" if parts else ""


def _left_out(broken: Sequence[int], count: int) -> str:
    named = ", ".join(str(number) for number in broken[:LINES_NAMED])
    more = f" and {len(broken) - LINES_NAMED:,} more" if len(broken) > LINES_NAMED else ""
    return f"{'line' if len(broken) == 1 else 'lines'} {named}{more} of {count:,} cannot be read"
