"""Processor cores that this process may use. A leaf."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """How many cores this process may keep busy: those it is bound to, or as many as its container grants."""
    bound, granted = len(bound_to()), quota()
    return bound if granted is None else max(1, min(bound, int(granted)))


def bound_to() -> frozenset[int]:
    """Numbers of the cores that this process may run on (taskset, Slurm and cpusets choose them)."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def quota(cgroup: Path | None = None) -> float | None:
    """Cores' worth of time that a container grants (cgroup v2, then v1); None: no limit, or none that can be read."""
    cgroup = CGROUP if cgroup is None else cgroup
    try:
        if (current := cgroup / "cpu.max").exists():
            granted, period = current.read_text().split()
            return None if granted == "max" else int(granted) / int(period)
        granted, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(granted) / int(period) if int(granted) > 0 else None
    except (OSError, ValueError):
        return None
