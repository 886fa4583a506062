"""Where an error came up: in somebody's code, wherever it is installed, and not in what barlowctl needs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from barlowctl import own_code

SITE = Path(np.__file__).parents[1]
OURS = own_code.PACKAGE / "made.py"


@pytest.fixture(autouse=True)
def read_anew() -> Iterator[None]:
    yield
    own_code._needed.cache_clear()


def place_of(*files: Path) -> str | None:
    """Of an error in the last of these files, whose function the one before it calls, and so on."""
    names: dict[str, Any] = {}
    code = "def calls():\n    raise ValueError"
    for file in reversed(files):
        exec(compile(code, str(file), "exec"), names)
        names, code = {"called": names["calls"]}, "def calls():\n    called()"
    with pytest.raises(ValueError, match=r"^$") as raised:
        names["called"]()
    return own_code.place(raised.value)


def test_a_package_of_somebodys_is_theirs_where_it_is_installed_too(tmp_path: Path) -> None:
    if not own_code._needed():
        pytest.skip("barlowctl is read from its checkout here, and what it needs is not known")
    installed = SITE / "my_networks" / "small.py"
    assert place_of(OURS, installed) == f"{installed}, line 2"
    assert place_of(OURS, SITE / "my_network.py") == f"{SITE / 'my_network.py'}, line 2"
    assert place_of(OURS, tmp_path / "mine.py") == f"{tmp_path / 'mine.py'}, line 2"


@pytest.mark.parametrize("site", [SITE, Path("/usr/lib/python3/dist-packages"), Path("/other/venv/site-packages")])
@pytest.mark.parametrize("package", ["torch", "timm", "PIL", "yaml"])
def test_what_barlowctl_needs_is_nobodys_in_any_environment(site: Path, package: str, tmp_path: Path) -> None:
    """yaml is what timm needs: PyYAML."""
    assert place_of(OURS, site / package / "made.py") is None
    assert place_of(OURS, Path(np.__file__).parents[3] / "site-packages" / package / "made.py") is None
    mine = tmp_path / "mine.py"
    assert place_of(OURS, mine, site / package / "made.py") == f"{mine}, line 2"


def test_an_exit_in_somebodys_code_is_an_error_there_and_ours_is_none(tmp_path: Path) -> None:
    def left(file: Path) -> None:
        names: dict[str, Any] = {}
        exec(compile("def leave():\n    raise SystemExit(7)", str(file), "exec"), names)
        exec(compile("def call():\n    leave()", str(OURS), "exec"), names)
        with own_code.exits_are_errors():
            names["call"]()

    with pytest.raises(RuntimeError, match=r"^SystemExit\(7\), which would end the whole process$") as raised:
        left(tmp_path / "mine.py")
    assert own_code.place(raised.value) == f"{tmp_path / 'mine.py'}, line 2"
    with pytest.raises(SystemExit) as ended:
        left(OURS)
    assert ended.value.code == 7


def test_python_itself_is_nobodys() -> None:
    import json

    assert place_of(OURS, Path(json.__file__)) is None


def test_where_barlowctl_is_not_installed_no_installed_package_is_somebodys(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    own_code._needed.cache_clear()
    monkeypatch.setattr(metadata, "requires", missing)
    assert place_of(OURS, SITE / "my_networks" / "small.py") is None
