"""docs/dependencies.md has every package that is asked for; its numbers stand where it says they were measured."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement


@pytest.fixture(scope="module")
def page(checkout: Path) -> str:
    return (checkout / "docs" / "dependencies.md").read_text(encoding="utf-8")


def test_every_package_has_a_row_that_names_its_extra(page: str, checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.+) \|$", page, re.MULTILINE))
    extras = {
        Requirement(line).name: name
        for name, lines in reversed(project["optional-dependencies"].items())
        for line in lines
        if name != "all" and Requirement(line).name != project["name"]
    }
    always = {Requirement(line).name for line in project["dependencies"]}
    assert rows.keys() == always | extras.keys()
    assert [name for name in extras if f"extra `{extras[name]}`" not in rows[name]] == []
    assert [name for name in always if "(extra" in rows[name]] == []


def test_numbers_stand_on_the_page_that_is_linked(page: str, checkout: Path) -> None:
    rows = [row for row in page.splitlines() if row.startswith("| ") and "](" in row and "20" in row]
    checked = 0
    for row in rows:
        link = re.findall(r"\]\(([\w/.-]+)", row)[-1]
        there = (checkout / "docs" / link).read_text(encoding="utf-8")
        numbers = re.findall(r"\d,\d{3}|\d+\.\d+(?![.\d])", row.split(" | ")[-1])
        assert [number for number in numbers if number not in there] == [], link
        checked += len(numbers)
    assert checked > 30


def test_modules_that_it_names_exist(page: str, checkout: Path) -> None:
    section = page.partition("## What is written here")[2]
    names = re.findall(r"`([a-z_]+(?:/[a-z_]+)*)`", "\n".join(row.split(" | ")[0] for row in section.splitlines()))
    assert len(names) > 8
    package = checkout / "barlowctl"
    assert [name for name in names if not (package / name).exists() and not (package / f"{name}.py").exists()] == []
