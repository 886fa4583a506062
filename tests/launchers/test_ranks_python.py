"""The process that starts ranks: they run in its Python, whatever torchrun's variable says, and it stays as it was."""

from __future__ import annotations

import os
import signal

import pytest

from barlowctl.errors import UserError
from barlowctl.launchers.ranks import run_ranks


def test_another_python_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_EXEC", "/opt/other/python")
    with pytest.raises(UserError, match="PYTHON_EXEC is '/opt/other/python'") as raised:
        run_ranks(["pretrain"], 2)
    assert raised.value.next == "unset PYTHON_EXEC"


def test_the_process_that_starts_ranks_is_afterwards_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    environment = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    assert run_ranks(["--version"], 2) == 0
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == handlers
    assert dict(os.environ) == environment
