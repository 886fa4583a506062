"""Studies read from a directory without their recipes: what names them to `ablate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from barlowctl.study.recorded import RecordedStudies, recorded_studies


def written(out: Path, study: str, rows: list[dict[str, Any]], **more: Any) -> None:
    """A study's table as `ablate` writes it, as far as it is read here."""
    out.mkdir(exist_ok=True)
    (out / "study.json").write_text('{"recipe": "quickstart"}')
    rows = [{"finished": [], "failed": {}, "missing": [], "group": None} | row for row in rows]
    (out / f"{study}.json").write_text(json.dumps({"study": study, "rows": rows} | more))


def test_studies_that_were_made_together_are_one(tmp_path: Path) -> None:
    both = ["loss", "asymmetry", "--budget", "steps=8"]
    written(tmp_path, "loss", [{"finished": [0], "missing": [1]}], selection=both)
    written(tmp_path, "asymmetry", [{"finished": [0], "failed": {"4": "diverged"}}], selection=both)
    written(tmp_path, "lambd", [{"finished": [0]}], selection=["lambd"])
    assert recorded_studies(tmp_path) == [
        RecordedStudies(("asymmetry", "loss"), tuple(both), 5),
        RecordedStudies(("lambd",), ("lambd",), 1),
    ]


def test_tables_of_before_are_known_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    of_methods = [{"group": "barlow-twins"}, {"group": "byol"}, {"group": "byol"}]
    written(tmp_path / "s", "depth", [{}])
    written(tmp_path / "s", "drop-aug", of_methods)
    written(tmp_path / "s", "methods", of_methods)
    written(tmp_path / "s", "mine", [{}], source="mine.toml")
    selections = [recorded.selection for recorded in recorded_studies(tmp_path / "s")]
    methods = ("--methods", "barlow-twins,byol")
    assert selections == [("projector-width",), ("drop-aug", *methods), methods, ("--grid", "FILE")]
    (tmp_path / "mine.toml").write_text("[a]")
    assert recorded_studies(tmp_path / "s")[-1].selection == ("--grid", "mine.toml")


def test_a_grid_that_moved_with_its_study_is_named_where_it_is(tmp_path: Path) -> None:
    written(tmp_path / "s", "mine", [{}], selection=["--grid", "/before/mine.toml", "--only", "a"])
    assert recorded_studies(tmp_path / "s")[0].selection == ("--grid", "FILE", "--only", "a")
    (tmp_path / "mine.toml").write_text("[a]")
    assert recorded_studies(tmp_path / "s")[0].selection == ("--grid", str(tmp_path / "mine.toml"), "--only", "a")


def test_what_is_no_table_is_passed_over(tmp_path: Path) -> None:
    written(tmp_path, "loss", [{"finished": [0]}])
    (tmp_path / "cpu-seconds.json").write_text('{"resnet10t": 0.1}')
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"study": 3, "rows": 4}')):
        (tmp_path / f"{name}.json").write_text(text)
    assert [recorded.names for recorded in recorded_studies(tmp_path)] == [("loss",)]
    (tmp_path / "study.json").unlink()
    assert recorded_studies(tmp_path) == []  # a folder of other JSON files
