"""CPU time and memory of a process with all its descendants, from Linux's /proc."""

from __future__ import annotations

import os
from pathlib import Path

_PARENT, _TIMES = 1, slice(11, 15)  # fields of /proc/PID/stat after the name: see proc(5)

TICK = 1.0 / os.sysconf("SC_CLK_TCK")
"""Seconds: what the kernel counts CPU time in."""


def _stat(pid: int) -> list[str] | None:
    """The fields after the name, None when the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def members(root: int) -> list[int]:
    """The process and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[_PARENT]), []).append(int(entry))
    tree = [root]
    for pid in tree:  # grows while it is walked
        tree += children.get(pid, [])
    return tree


def cpu_seconds(root: int) -> float:
    """User and system time so far, of descendants that have ended too (they must have been waited for)."""
    total = 0
    for pid in members(root):
        if fields := _stat(pid):
            total += sum(int(value) for value in fields[_TIMES])
    return total * TICK


def memory_bytes(root: int) -> int:
    """Proportional set size: a page shared by k processes counts 1/k in each."""
    total = 0
    for pid in members(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:  # it has ended
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                total += 1024 * int(line.split()[1])
    return total
