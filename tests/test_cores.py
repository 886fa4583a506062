"""How many cores a process may use: what it is bound to, and what a container grants."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from barlowctl import cores


@pytest.mark.parametrize(
    ("files", "granted"),
    [
        ({}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "max 100000\n", "cpu/cpu.cfs_quota_us": "1\n", "cpu/cpu.cfs_period_us": "1\n"}, None),
        ({"cpu.max": "?\n"}, None),
    ],
)
def test_the_quota_is_read_from_both_kinds_of_control_groups(
    tmp_path: Path, files: dict[str, str], granted: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores.quota(tmp_path) == granted


@pytest.mark.parametrize(
    ("bound", "granted", "usable"), [(8, None, 8), (64, 4.0, 4), (4, 16.0, 4), (4, 2.9, 2), (4, 0.5, 1)]
)
def test_usable_is_what_it_is_bound_to_or_less_where_less_is_granted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bound: int, granted: float | None, usable: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(3, 3 + bound)))
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    if granted is not None:
        (tmp_path / "cpu.max").write_text(f"{int(granted * 100_000)} 100000\n")
    assert cores.usable_cores() == usable


def test_where_nobody_binds_a_process_it_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert len(cores.bound_to()) == 6


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, None),
        ({"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "5"}, ("OMP_NUM_THREADS", 3)),
        ({"OMP_NUM_THREADS": "4,2"}, ("OMP_NUM_THREADS", 4)),
        ({"OMP_NUM_THREADS": "", "MKL_NUM_THREADS": "5"}, ("MKL_NUM_THREADS", 5)),
        ({"OMP_NUM_THREADS": "0"}, None),
        ({"OMP_NUM_THREADS": "many"}, None),
        ({"SLURM_CPUS_PER_TASK": "6"}, ("SLURM_CPUS_PER_TASK", 6)),
        ({"SLURM_CPUS_PER_TASK": "6", "OMP_NUM_THREADS": "2"}, ("OMP_NUM_THREADS", 2)),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "a"}, None),  # torchrun's own
        ({"OMP_NUM_THREADS": "2", "TORCHELASTIC_RUN_ID": "a"}, ("OMP_NUM_THREADS", 2)),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "a", "BARLOWCTL_EXIT_CODES": "x"}, ("OMP_NUM_THREADS", 1)),
        ({"SLURM_CPUS_PER_TASK": "6", "TORCHELASTIC_RUN_ID": "a"}, None),
    ],
)
def test_the_environment_says_how_many_threads_a_process_computes_with(
    environment: dict[str, str], threads: tuple[str, int] | None
) -> None:
    assert cores.threads_of_environment(environment) == threads


def test_a_number_of_threads_that_may_be_a_share_is_not_noted() -> None:
    assert cores.threads_noted({"OMP_NUM_THREADS": "3"}) == 3
    assert cores.threads_noted({"SLURM_CPUS_PER_TASK": "8"}) == 8
    assert cores.threads_noted({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "a"}) is None
    assert cores.threads_noted({"OMP_NUM_THREADS": "3", "BARLOWCTL_EXIT_CODES": "x"}) is None
    assert cores.threads_noted({}) is None
