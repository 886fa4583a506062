"""Spellings of earlier versions still work, and are neither in the help nor completed by a shell."""

from __future__ import annotations

from typing import Any

import pytest

from barlowctl.cli import renamed
from barlowctl.cli.advice import options_of, typed
from barlowctl.cli.app import run as barlowctl
from tests.cli.tree import ROOT


@pytest.mark.parametrize(
    ("before", "today"),
    [
        ("report A --no-images", "report A --no-previews"),
        ("report --images", "report --previews"),
        ("bench loader --images X --count=9", "bench loader --data X --samples=9"),
        ("data pack A B --on-unreadable fail", "data pack A B --on-unreadable stop"),
        ("probe A --on-unreadable=fail", "probe A --on-unreadable=stop"),
        ("probe fail --data --images", "probe fail --data --images"),
        ("bench loader -- --images", "bench loader -- --images"),
        ("report -- --on-unreadable fail", "report -- --on-unreadable fail"),
    ],
)
def test_an_old_spelling_is_read_as_the_new_one(before: str, today: str) -> None:
    assert renamed.current(before.split()) == today.split()


@pytest.mark.parametrize("path", renamed.OPTIONS)
def test_new_names_exist_and_old_ones_do_not(path: tuple[str, ...]) -> None:
    _, command = typed(path, ROOT)
    known = {name for option in options_of(command).values() for name in (*option.opts, *option.secondary_opts)}
    assert set(renamed.OPTIONS[path].values()) <= known
    assert not renamed.OPTIONS[path].keys() & known


def test_the_advice_has_the_names_of_today(capsys: Any, tmp_path: Any) -> None:
    assert barlowctl(["bench", "loader", "--images", str(tmp_path), "--count", "few"]) == 2
    assert "error: --samples is 'few'" in capsys.readouterr().err
