"""Processor cores that this process may use. A leaf."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that torch's number of threads follows, the first of them first."""


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


def threads_noted(environment: Mapping[str, str] = os.environ) -> int | None:
    """The number of `threads_of_environment`; None also in what `--processes` started, which may have a share as it."""
    of_environment = None if "BARLOWCTL_EXIT_CODES" in environment else threads_of_environment(environment)
    return of_environment and of_environment[1]


def threads_of_environment(environment: Mapping[str, str] = os.environ) -> tuple[str, int] | None:
    """The variable that says how many threads this process computes with, and the number; None where none does.

    OMP_NUM_THREADS=1 of torchrun's ranks is not heeded: torchrun sets it where nobody did, and ranks share the cores
    instead. Nor is SLURM_CPUS_PER_TASK there, which is of the task that torchrun is. What `--processes` starts has the
    number that was set, or its share (see `launchers.ranks`).
    """
    of_torchrun = "TORCHELASTIC_RUN_ID" in environment
    for name in (*THREADS, "SLURM_CPUS_PER_TASK"):
        number = re.match(r"\s*0*([1-9]\d{0,5})\s*(,|$)", environment.get(name, ""))  # "4,2": nested regions have 2
        if number is None or (of_torchrun and name not in THREADS):
            continue
        set_by_torchrun = of_torchrun and "BARLOWCTL_EXIT_CODES" not in environment and number[1] == "1"
        if not (set_by_torchrun and name == THREADS[0]):
            return name, int(number[1])
    return None
