"""What a call from Python leaves as it was."""

from __future__ import annotations

import os

import pytest

from barlowctl import compiled_code
from barlowctl.api.process import as_a_command


def test_folders_of_compiled_code_are_named_for_the_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled_code.TORCH, "mine")
    monkeypatch.delenv(compiled_code.TRITON, raising=False)
    with as_a_command():
        os.environ.update({compiled_code.TORCH: "another", compiled_code.TRITON: "another"})
    assert os.environ[compiled_code.TORCH] == "mine"
    assert compiled_code.TRITON not in os.environ
