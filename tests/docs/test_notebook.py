"""The notebook: its outputs are those of a run and small, its commands can be typed, it runs from top to bottom."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from barlowctl.recipe import load
from tests.docs.test_examples import faults

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebooks" / "first-map.ipynb"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
PERCENT = re.compile(r"^(two epochs of Barlow Twins|raw pixels|random backbone) (\d+\.\d) %$", re.MULTILINE)


def cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(notebook: dict[str, Any]) -> str:
    outputs = [output for cell in cells(notebook) for output in cell["outputs"]]
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


def accuracies(notebook: dict[str, Any]) -> dict[str, float]:
    """Name -> kNN in percent, as the notebook prints it."""
    return {name: float(knn) for name, knn in PERCENT.findall(printed(notebook))}


def test_it_says_how_long_quickstart_is() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert f"`quickstart` has {load.load('quickstart').train.epochs:g} epochs" in text


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return notebook


def test_its_outputs_are_those_of_one_run_and_small(committed: dict[str, Any]) -> None:
    assert [cell["execution_count"] for cell in cells(committed)] == list(range(1, len(cells(committed)) + 1))
    assert [output for cell in cells(committed) for output in cell["outputs"] if output["output_type"] == "error"] == []
    kinds = {kind for cell in cells(committed) for output in cell["outputs"] for kind in output.get("data", {})}
    assert {"image/png", "image/jpeg"} < kinds
    assert NOTEBOOK.stat().st_size < 250_000
    assert accuracies(committed).keys() == {"two epochs of Barlow Twins", "raw pixels", "random backbone"}
    assert re.findall(r"(?<![\w.~-])/\w[\w/.-]*", printed(committed)) == [], "a path of the machine it ran on"


def test_its_commands_can_be_typed(committed: dict[str, Any]) -> None:
    lines = [line for cell in cells(committed) for line in "".join(cell["source"]).splitlines() if line.startswith("!")]
    assert len(lines) > 3
    assert {line: faults(line.removeprefix("!barlowctl ")) for line in lines if faults(line[11:])} == {}


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="pip install '.[docs]' brings what runs a notebook")
    nbclient = pytest.importorskip("nbclient", reason="pip install '.[docs]' brings what runs a notebook")
    pytest.importorskip("sklearn", reason="pip install '.[embed]' brings the map's projection")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # barlowctl's own
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    here = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=here).execute()
    run = json.loads(nbformat.writes(notebook))
    now, before = accuracies(run), accuracies(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    assert now == pytest.approx(before, abs=1.5)
    assert now["two epochs of Barlow Twins"] > now["random backbone"] + 3.0
    assert {"views.png", "map.png", "map.html", "nearest.png", "my-model"} <= set(os.listdir(tmp_path))
