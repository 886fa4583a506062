"""Studies of optimizers that somebody registers: trained with them, and shown where nobody has."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from barlowctl.cli.app import run as command
from tests.api.own_optimizers import SOURCE, forget

Captured = pytest.CaptureFixture[str]
GRID = """
[ours]
[own]
"optimizer.name" = "own-sgd"
[eps]
"optimizer.name" = "torch-adamw"
"optimizer.args.eps" = 1e-3
[plain]
"optimizer.name" = "torch-adamw"
"""
SHORT = ["--set", "train.epochs=1", "--threads", "1", "--set", "train.precision=fp32"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Path) -> Iterator[Path]:
    """The file of a module that registers optimizers, imported; a grid of them beside it."""
    file = tmp_path / "own_optimizers_of_mine.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "grid.toml").write_text(GRID)
    importlib.import_module("own_optimizers_of_mine")
    yield file
    forget()


def test_a_table_is_shown_where_nobody_registers_them(module: Path, recipe: Path, capsys: Captured) -> None:
    study = ["ablate", "--grid", "grid.toml", "--recipe", str(recipe), *SHORT]
    assert command(study) == 0
    table = Path("studies/digits/grid.json")
    expected = table.read_text()
    assert [row["finished"] for row in json.loads(expected)["rows"]] == [[0]] * 4
    forget()
    table.unlink()
    assert command([*study, "--show"]) == 0
    assert table.read_text() == expected
    capsys.readouterr()
    runs = [str(path) for path in sorted(Path("studies/digits/cells").glob("*/seed-0"))]
    assert command(["runs", "table", *runs]) == 0
    rows = capsys.readouterr().out
    assert "own-sgd" in rows
    assert rows.count("torch-adamw") == 2
    assert command(study) == 2
    error = capsys.readouterr().err
    assert f"the optimizer 'own-sgd' is one that own_optimizers_of_mine ({module}) registered when the run" in error
    assert "next: barlowctl --import own_optimizers_of_mine ablate --grid grid.toml" in error


def test_of_a_recipe_that_has_one_too(module: Path, recipe: Path, capsys: Captured) -> None:
    recipe.write_text(recipe.read_text().replace('name = "adamw"', 'name = "own-sgd"'))
    Path("grid.toml").write_text('[a]\n[faster]\n"optimizer.lr" = 4e-3\n')
    assert command(["ablate", "--grid", "grid.toml", "--recipe", str(recipe), *SHORT]) == 0
    expected = Path("studies/digits/grid.json").read_text()
    forget()
    written = ["ablate", "--grid", "grid.toml", "--recipe", "studies/digits/recipe.toml", "--out", "studies/digits"]
    assert command([*written, "--show"]) == 0
    assert json.loads(Path("studies/digits/grid.json").read_text())["rows"] == json.loads(expected)["rows"]
    capsys.readouterr()
    for words in ([*written, "--seeds", "2"], ["ablate", "--grid", "grid.toml", "--recipe", str(recipe), *SHORT]):
        assert command(words) == 2
        error = capsys.readouterr().err
        assert "which own_optimizers_of_mine" in error or "is one that own_optimizers_of_mine" in error
        assert "next: barlowctl --import own_optimizers_of_mine ablate" in error
