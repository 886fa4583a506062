"""Writes the tree of docs/architecture.md from the modules' first lines: `make docs`. A test fails when it is stale."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs" / "architecture.md"
WIDTH = 104  # characters of a line, which the site shows whole beside its navigation
BEGIN, END = "<!-- tree: make docs -->\n", "<!-- end of the tree -->\n"


def tree() -> str:
    """Every module with what it says of itself, folders before what lies in them."""
    package = CHECKOUT / "barlowctl"
    return "\n".join(["```", *_lines(package, 0), "```", ""])


def page(text: str) -> str:
    """The page's text with the tree as it is now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{tree()}{END}{rest.partition(END)[2]}"


def _lines(folder: Path, depth: int) -> Iterator[str]:
    yield _line(f"{folder.name}/", folder / "__init__.py", depth)
    modules = [path for path in sorted(folder.glob("*.py")) if not path.name.startswith("__")]
    for path in modules:
        yield _line(path.stem, path, depth + 1)
    for path in sorted(folder.iterdir()):
        if (path / "__init__.py").is_file():
            yield from _lines(path, depth + 1)


def _line(name: str, path: Path, depth: int) -> str:
    says = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    line = f"{'  ' * depth}{name:<{24 - 2 * depth}} {says}".rstrip()
    further_in = " " * 27
    return "\n".join(
        textwrap.wrap(line, WIDTH, subsequent_indent=further_in, break_on_hyphens=False, drop_whitespace=True)
    )


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
