"""docs/install.md has every extra, with what it brings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement


def test_the_table_of_extras_is_that_of_the_package(checkout: Path) -> None:
    page = (checkout / "docs" / "install.md").read_text(encoding="utf-8")
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    section = page.partition("## Extras")[2].partition("\n## ")[0]
    rows = {
        name: brings.split(", ") for name, brings in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE)
    }
    extras = project["optional-dependencies"]
    assert rows == {name: [Requirement(line).name for line in lines] for name, lines in extras.items()}
    everything = Requirement(extras["all"][0]).extras
    assert everything == extras.keys() - {"all", "test", "docs", "dev"}
