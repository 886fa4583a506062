"""Keys of somebody's own parts, read off the source of what `--import` names, which a shell completes unimported.

A key pressed in a shell runs nobody's code: that may take long, print, or train. So the parameters are those that stand
in the source, of a class's own `__init__` or a function; what a subclass takes from another class is not seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from barlowctl import program
from barlowctl.recipe.optimizers import NAMED
from barlowctl.recipe.own_methods import GIVEN

SECTIONS = {"register_method": "objective", "register_optimizer": "optimizer"}
"""What registers, and the section of a recipe that names it."""


def own_keys(names: Sequence[str]) -> set[str]:
    """`objective.args.NAME=`, `optimizer.args.NAME=`: arguments of what modules and files of this folder register."""
    keys = set[str]()
    for name in names:
        with suppress(OSError, SyntaxError, ValueError):  # which the command itself names
            tree = ast.parse(_file_of(name).read_bytes())
            keys |= {f"{key}=" for key in _arguments(tree)}
    return keys


def _file_of(name: str) -> Path:
    """The source of a file, or of a module of this folder."""
    if program.is_file(name):
        return Path(name)
    module = Path(*name.split("."))
    return module.with_suffix(".py") if module.with_suffix(".py").is_file() else module / "__init__.py"


def _arguments(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        section = next(filter(None, map(_section, node.decorator_list)), None)
        if section is None:
            continue
        own = [node] if isinstance(node, ast.FunctionDef) else [part for part in node.body if _is_init(part)]
        for function in own:
            assert isinstance(function, ast.FunctionDef)
            parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            names = [p.arg for p in parameters if p.arg != "self"]
            own_names = names[1:] if section == "optimizer" else names  # whose first one is the parameters
            given = NAMED if section == "optimizer" else GIVEN
            yield from (f"{section}.args.{name}" for name in own_names if name not in given)


def _section(decorator: ast.expr) -> str | None:
    """The section of what a call registers, by whatever that is reached; None: it registers nothing."""
    called = decorator.func if isinstance(decorator, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
    return SECTIONS.get(name or "")


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"
