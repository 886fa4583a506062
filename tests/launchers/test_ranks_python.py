"""The Python that ranks run in: this one, whatever torchrun's variable says."""

from __future__ import annotations

import pytest

from barlowctl.errors import UserError
from barlowctl.launchers.ranks import run_ranks


def test_another_python_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_EXEC", "/opt/other/python")
    with pytest.raises(UserError, match="PYTHON_EXEC is '/opt/other/python'") as raised:
        run_ranks(["pretrain"], 2)
    assert raised.value.next == "unset PYTHON_EXEC"
