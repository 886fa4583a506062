"""What barlowctl and some of its extras require, without barlowctl itself, one a line: requirements.py PYPROJECT EXTRAS

The image installs them before the code is there, so that a change of the code leaves that layer as it is. Standard
library alone: it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

OWN_EXTRAS = re.compile(r"barlowctl\[([\w\s,-]+)\]")


def main() -> None:
    """Print them; an unknown extra ends with an error that names those there are."""
    pyproject, extras = sys.argv[1:]
    project = tomllib.loads(Path(pyproject).read_text(encoding="utf-8"))["project"]
    print("\n".join(requirements(project, names(extras))))


def names(extras: str) -> list[str]:
    """The names in a list with commas between them."""
    return extras.replace(",", " ").split()


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """Sorted, each once; an extra that is made of others (`barlowctl[a,b]`) brings what they bring."""
    lines = set(project["dependencies"])
    optional = project["optional-dependencies"]
    for extra in extras:
        if extra not in optional:
            raise SystemExit(f"no extra {extra!r} in pyproject.toml; extras: {', '.join(sorted(optional))}")
        for line in optional[extra]:
            own = OWN_EXTRAS.fullmatch(line)
            lines.update(requirements(project, names(own[1])) if own else [line])
    return sorted(lines)


if __name__ == "__main__":
    main()
