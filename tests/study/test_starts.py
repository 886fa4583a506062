"""Cells of a study that name the same weights start from the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from barlowctl.assemble.weights import read_weights
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.study.starts import pinned


def weights(path: Path, value: float) -> str:
    save_file({"conv1.weight": torch.full((2, 3), value)}, path)
    return read_weights(str(path)).sha256


def begun(cells: Path, name: str, recipe: Recipe) -> None:
    folder = cells / name / "seed-0"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(load.dump(recipe))


def test_later_cells_start_from_what_the_first_one_noted(tmp_path: Path) -> None:
    cells, file = tmp_path / "study" / "cells", tmp_path / "start.safetensors"
    digest = weights(file, 1.0)
    recipe = load.load("quickstart", [f"init.weights={file}"])
    assert pinned(cells, recipe) == recipe  # the first one
    begun(cells, "random", load.load("quickstart"))
    begun(cells, "elsewhere", load.load("quickstart", ["init.weights=another", f"init.sha256={'a' * 64}"]))
    assert pinned(cells, recipe) == recipe
    begun(cells, "first", load.override(recipe, [f"init.sha256={digest}"]))
    later = load.override(recipe, ["objective.lambd=0.1", "seed=1"])
    assert pinned(cells, later) == load.override(later, [f"init.sha256={digest}"])
    assert pinned(cells, load.load("quickstart")) == load.load("quickstart")
    weights(file, 2.0)
    with pytest.raises(UserError, match="holds other weights than when this study began") as refused:
        pinned(cells, later)
    assert digest in refused.value.message
    assert refused.value.next == f"--out {tmp_path / 'study-2'}"
