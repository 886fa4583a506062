"""What a run notes of how it was made."""

from __future__ import annotations

import sys

import pytest

from barlowctl.runs.environment import environment


@pytest.mark.parametrize(
    ("started", "typed"),
    [
        ("/a/bin/barlowctl", "barlowctl pretrain --out 'runs/my run'"),
        ("/a/site-packages/barlowctl/__main__.py", "barlowctl pretrain --out 'runs/my run'"),
        ("/home/me/train.py", "train.py pretrain --out 'runs/my run'"),
    ],
)
def test_the_command_can_be_typed_again(started: str, typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [started, "pretrain", "--out", "runs/my run"])
    assert environment()["command"] == typed
