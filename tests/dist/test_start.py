"""Ranks that start from weights: all have the same networks, or none of them starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from barlowctl.cli.app import run as barlowctl
from tests.cli.conftest import digits, recipe, trained  # noqa: F401 - fixtures
from tests.dist import gang, work

pytestmark = pytest.mark.dist


def test_ranks_start_from_the_same_networks_or_not_at_all(recipe: Path, trained: Path, tmp_path: Path) -> None:  # noqa: F811
    one, copy, other = (tmp_path / f"{name}.safetensors" for name in ("one", "copy", "other"))
    assert barlowctl(["export", str(trained), "--out", str(one), "--quiet"]) == 0
    shutil.copy(one, copy)
    weights = load_file(one)
    weights["bn1.bias"] += 1.0
    save_file({"module." + key: value for key, value in weights.items()}, other)
    first, second = gang.together(work.start_of_a_run, 2, [str(one), str(copy)], str(recipe))
    assert first == second == work.alone(work.start_of_a_run, [str(one)], str(recipe))
    for kind, message in gang.answers(gang.start(work.start_of_a_run, 2, [str(one), str(other)], str(recipe))):
        assert kind == "UserError", message
        assert "is not the same on all 2 ranks" in message
