"""How much memory a machine has, and which errors say that it ran out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from barlowctl import memory

MEMINFO = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\nSwapTotal: 500 kB\nHugePages_Total: 3\n"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system that tells what it has in files of its own."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    return tmp_path


def test_a_machine_has_its_memory_and_its_swap(system: Path) -> None:
    assert memory.total() == 1500 * 1024
    assert memory.available() == 600 * 1024


def test_a_container_has_what_it_is_granted(system: Path) -> None:
    (system / "memory.max").write_text("max\n")
    (system / "memory.current").write_text("1024\n")
    assert memory.total() == 1500 * 1024
    (system / "memory.max").write_text("10240\n")
    assert (memory.total(), memory.available()) == (10240, 9216)


def test_a_system_without_such_files_has_memory(system: Path) -> None:
    (system / "meminfo").unlink()
    assert memory.available() is None
    assert memory.total() > 2**26


@pytest.mark.parametrize(("number", "text"), [(2**30, "1 GiB"), (2**29, "0.5 GiB"), (3729 * 2**30, "3,729 GiB")])
def test_sizes_are_written_for_people(number: int, text: str) -> None:
    assert memory.size(number) == text


def raised(make: object) -> BaseException:
    assert callable(make)
    with pytest.raises((RuntimeError, MemoryError, ValueError)) as error:
        make()
    return error.value


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(1 << 60),
        lambda: torch.empty(1 << 62, 1 << 62),
        lambda: torch.empty(1 << 31, 1 << 31),
        lambda: np.empty(1 << 60, dtype=np.uint8),
        lambda: np.empty((1 << 40, 1 << 40)),
        lambda: np.empty(1 << 62, dtype=np.float64),
        lambda: bytearray(1 << 60),
    ],
)
def test_sizes_that_no_machine_has_are_memory_that_ran_out(make: object) -> None:
    explanation = memory.ran_out(raised(make))
    assert explanation is not None
    assert explanation.startswith("the machine's memory ran out")


def test_what_was_asked_for_is_said_beside_what_there_is(system: Path) -> None:
    (system / "meminfo").write_text(f"MemTotal: {3 * 2**20} kB\n")
    explanation = memory.ran_out(raised(lambda: torch.empty(1 << 48, dtype=torch.uint8)))
    assert explanation == "the machine's memory ran out: 262,144 GiB were asked for at once, and it has 3 GiB"


def test_other_errors_are_about_something_else() -> None:
    assert memory.ran_out(raised(lambda: torch.ones(2, 3) @ torch.ones(2, 3))) is None
    assert memory.ran_out(raised(lambda: int("x"))) is None
    assert memory.ran_out(KeyError("can't allocate memory")) is None


def test_a_gpu_is_named() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has more")
    assert memory.ran_out(error) == "the GPU's memory ran out: CUDA out of memory"
