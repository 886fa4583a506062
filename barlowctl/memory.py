"""This machine's memory: how much there is, and which errors say that it ran out. A leaf: standard library only."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
_TOO_LARGE = (
    "can't allocate memory",
    "Storage size calculation overflowed",
    "numel: integer multiplication overflow",
    "Arrays larger than",
    "array is too big",
    "Maximum allowed dimension exceeded",
)
"""In messages of torch's and NumPy's RuntimeErrors and ValueErrors where a size is the cause."""


def available() -> int | None:
    """Bytes that can be had without swapping, within a container's limit; None where nobody tells."""
    limits = [_meminfo()["MemAvailable"]] if "MemAvailable" in _meminfo() else []
    limits += [limit - used for limit, used in _container()]
    return min(limits) if limits else None


def total() -> int:
    """Bytes that there are, swap among them, within a container's limit."""
    amounts = _meminfo()
    there = amounts.get("MemTotal") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([there + amounts.get("SwapTotal", 0), *(limit for limit, _ in _container())])


def size(number: float) -> str:
    """Bytes for people: `24 GiB`, `0.5 GiB`, `3,729 GiB`."""
    return f"{number / 2**30:,.0f} GiB" if number >= 10 * 2**30 else f"{number / 2**30:.2g} GiB"


def ran_out(error: BaseException) -> str | None:
    """What an error says of memory that ran out, in one sentence; None: it is about something else."""
    text = str(error).strip().partition("\n")[0]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return f"the GPU's memory ran out: {text.partition('. ')[0]}"
    if not isinstance(error, MemoryError) and not (
        isinstance(error, RuntimeError | ValueError) and any(words in text for words in _TOO_LARGE)
    ):
        return None
    if request := re.search(r"tried to allocate (\d+) bytes", text):
        needed, there = size(int(request[1])), size(total())
        return f"the machine's memory ran out: {needed} were asked for at once, and it has {there}"
    return "the machine's memory ran out" + (f": {text}" if text else "")


def _meminfo() -> dict[str, int]:
    """Bytes by their name; empty where the system has no such file."""
    if not MEMINFO.exists():
        return {}
    lines = [line.split() for line in MEMINFO.read_text().splitlines()]
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3}


def _container() -> Iterator[tuple[int, int]]:
    """A container's limit and what is used of it, where it has one."""
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        yield int(limit.read_text()), int(used.read_text())
