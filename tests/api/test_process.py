"""What a call from Python leaves as it was."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from barlowctl import compiled_code
from barlowctl.api.process import as_a_command, memory_returned
from barlowctl.assemble.machine import keep_freed_memory, return_freed_memory


def test_folders_of_compiled_code_are_named_for_the_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled_code.TORCH, "mine")
    monkeypatch.delenv(compiled_code.TRITON, raising=False)
    with as_a_command():
        os.environ.update({compiled_code.TORCH: "another", compiled_code.TRITON: "another"})
    assert os.environ[compiled_code.TORCH] == "mine"
    assert compiled_code.TRITON not in os.environ


def resident() -> int:
    """MiB of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


@pytest.mark.skipif(sys.platform != "linux", reason="the C library keeps freed memory where it is glibc")
def test_what_a_training_has_freed_is_given_back_at_its_end() -> None:
    return_freed_memory()  # of tests before this one
    before = resident()
    with memory_returned():
        keep_freed_memory()
        tensors = [torch.ones(2**20) for _ in range(64)]  # 256 MiB, in pieces of 4
        pinned = torch.ones(8)  # behind them, so that the heap's top does not move down
        del tensors
        assert resident() - before > 200
    assert resident() - before < 56
    assert pinned.sum() == 8
