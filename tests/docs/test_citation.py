"""What lies beside the code for people who cite it, report to it, or type-check with it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

import barlowctl

CHECKOUT = Path(__file__).parents[2]
FORMS = sorted((CHECKOUT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(file: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return parsed


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    citation = read(CHECKOUT / "CITATION.cff")
    assert citation["version"] == barlowctl.__version__
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what 1.2.0 asks for
    assert "preferred-citation" not in citation  # GitHub would show that alone, and the software would not be cited
    (paper,) = citation["references"]
    assert (paper["year"], paper["start"], paper["end"]) == (2021, 12310, 12320)  # PMLR 139
    assert [author["family-names"] for author in paper["authors"]] == ["Zbontar", "Jing", "Misra", "LeCun", "Deny"]


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.stem)
def test_issue_forms_have_what_github_asks_of_them(file: Path) -> None:
    form = read(file)
    if file.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert form["name"]
    assert form["description"]
    assert all(field["attributes"]["label"] for field in form["body"])
    assert len({field["id"] for field in form["body"]}) == len(form["body"])


def test_type_checkers_are_told_that_the_package_is_typed() -> None:
    assert (Path(barlowctl.__file__).parent / "py.typed").is_file()
