"""What a machine can compute in."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from barlowctl import compilers, cores
from barlowctl.assemble import machine
from barlowctl.assemble.machine import (
    Runtime,
    check_compiler,
    choose_device,
    device_of_rank,
    memory_explained,
    set_threads,
)
from barlowctl.distributed import Ranks
from barlowctl.errors import UserError
from barlowctl.launchers.pool import Slot


def test_memory_that_runs_out_is_explained() -> None:
    message = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB"
    with (
        pytest.raises(UserError, match=r"the GPU's memory ran out: CUDA out of memory") as raised,
        memory_explained("x"),
    ):
        raise torch.OutOfMemoryError(message)
    assert raised.value.next == "x"
    with (
        pytest.raises(UserError, match=r"the machine's memory ran out: .* GiB were asked for at once"),
        memory_explained("x"),
    ):
        torch.empty(1 << 60)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), memory_explained("x"):
        torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.fixture
def no_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing of threads; the tests' own has one for each process."""
    for variable in (*cores.THREADS, "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.usefixtures("no_number_of_threads")
def test_processes_take_the_gpus_in_turn_or_shares_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    assert machine.pool_slots(4, Runtime(device="cpu"), 0) == [Slot("cpu", 2)] * 4
    assert machine.pool_slots(4, Runtime(device="cpu"), 1) == [Slot("cpu", 1)] * 4
    assert [machine.pool_speed_up(n, Runtime(device="cpu"), 2) for n in (1, 4, 9)] == [1, 4, 4]
    assert machine.pool_speed_up(4, Runtime(device="cpu"), 0) == 1  # one process uses all cores
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [slot.device for slot in machine.pool_slots(3, Runtime(), 0)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert machine.pool_speed_up(3, Runtime(), 0) == 2
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert current == [torch.device("cuda", 1)]  # streams and events that name no device are on it
    with pytest.raises(UserError, match="which is one device"):
        machine.pool_slots(2, Runtime(device="cuda:1"), 0)


class RankOfSeveral(Ranks):
    """One of the ranks of a machine, which hears from the others what a test makes them say."""

    others: Sequence[Any] = ()

    def objects(self, value: Any) -> list[Any]:
        answers = [(platform.node(), frozenset(other)) for other in self.others]
        return [*answers[: self.rank], value, *answers[self.rank :]]


def rank_of_two(others: Sequence[Any]) -> RankOfSeveral:
    ranks = RankOfSeveral(rank=1, size=2, local_rank=1, local_size=2)
    ranks.others = others
    return ranks


def test_a_rank_takes_a_gpu_by_its_number_or_the_one_that_it_alone_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)

    def see(*uuids: str) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=uuids[index]))

    see("a", "b")
    assert device_of_rank("auto", rank_of_two(["ab"])) == torch.device("cuda", 1)
    see("b")  # srun --gpus-per-task=1
    assert device_of_rank("auto", rank_of_two(["a"])) == torch.device("cuda", 0)
    assert current == [1, 0]
    with pytest.raises(UserError, match="2 ranks on a machine with 1 GPUs"):
        device_of_rank("auto", rank_of_two(["b"]))
    see("a", "b")  # a script that names each rank's
    assert device_of_rank("cuda:0", rank_of_two(["b"])) == torch.device("cuda", 0)
    with pytest.raises(UserError, match="--device is 'cuda:0' on several of the 2 ranks of a machine"):
        device_of_rank("cuda:0", rank_of_two(["a"]))


@pytest.mark.usefixtures("no_number_of_threads")
def test_ranks_share_cores_unless_each_is_bound_to_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {4, 5, 6, 7})
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    assert set_threads(Runtime(), 0, rank_of_two([{4, 5, 6, 7}])) == 2
    assert set_threads(Runtime(), 0, rank_of_two([{0, 1, 2, 3}])) == 4


@pytest.mark.usefixtures("no_number_of_threads")
def test_the_environments_number_of_threads_counts_where_neither_flag_nor_recipe_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    assert set_threads(Runtime()) == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (set_threads(Runtime()), set_threads(Runtime(), 4), set_threads(Runtime(threads=5), 4)) == (3, 4, 5)
    assert (machine.fewer_threads(Runtime(), 0), machine.fewer_threads(Runtime(), 0, 3)) == ("OMP_NUM_THREADS", "")
    assert (machine.fewer_threads(Runtime(threads=3), 0), machine.fewer_threads(Runtime(), 3)) == ("", "")
    assert machine.pool_slots(2, Runtime("cpu"), 0) == [Slot("cpu", 3)] * 2
    assert machine.pool_slots(4, Runtime("cpu"), 0) == [Slot("cpu", 2)] * 4  # no more than there are cores
    assert machine.pool_speed_up(9, Runtime("cpu"), 0) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert set_threads(Runtime()) == 8
    assert machine.fewer_threads(Runtime(), 0) == ""


def test_a_compiler_that_is_named_and_not_there_is_not_answered_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/g++")
    with pytest.raises(UserError, match=r"no /nonexistent/g\+\+ \(CXX names it\)") as raised:
        check_compiler(torch.device("cpu"))
    assert raised.value.next == "--set train.compile=false"
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"no g\+\+$") as raised:
        check_compiler(torch.device("cpu"))
    assert (raised.value.next or "").splitlines() == [
        "install g++ with the package manager of this system",
        "--set train.compile=false",
    ]


@pytest.mark.parametrize(
    ("there", "advised"),
    [
        (["apt-get"], "apt-get install g++"),
        (["dnf", "conda"], "dnf install gcc-c++"),
        (["conda"], "conda install --channel conda-forge cxx-compiler"),
    ],
)
def test_a_compiler_is_installed_with_what_the_system_has(
    there: list[str], advised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    for name in there:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compilers.installation() == advised


def test_a_mac_without_a_compiler_is_not_sent_to_apt_get(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError) as raised:
        check_compiler(torch.device("cpu"))
    assert (raised.value.next or "").splitlines() == ["xcode-select --install", "--set train.compile=false"]


def test_more_processes_than_the_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.memory, "total", lambda: 2**30)
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    assert len(machine.pool_slots(4, Runtime(device="cpu"), 0)) == 4
    with pytest.raises(UserError, match=r"--parallel 5 takes 1\.2 GiB of memory or more, and .* has 1 GiB") as error:
        machine.pool_slots(5, Runtime(device="cpu"), 0)
    assert error.value.next == "--parallel 4"
