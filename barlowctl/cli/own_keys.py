"""Keys of somebody's own methods, read off the source of what `--import` names, which a shell completes unimported.

A key pressed in a shell runs nobody's code: that may take long, print, or train. So the parameters are those that stand
in the source, of a class's own `__init__` or a function; what a subclass takes from another class is not seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from barlowctl import program
from barlowctl.recipe.own_methods import GIVEN


def own_keys(names: Sequence[str]) -> set[str]:
    """`objective.args.NAME=` for each argument of the methods that modules and files of this folder register."""
    keys = set[str]()
    for name in names:
        with suppress(OSError, SyntaxError, ValueError):  # which the command itself names
            tree = ast.parse(_file_of(name).read_bytes())
            keys |= {f"objective.args.{key}=" for key in _arguments(tree)}
    return keys


def _file_of(name: str) -> Path:
    """The source of a file, or of a module of this folder."""
    if program.is_file(name):
        return Path(name)
    module = Path(*name.split("."))
    return module.with_suffix(".py") if module.with_suffix(".py").is_file() else module / "__init__.py"


def _arguments(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or not any(map(_registers, node.decorator_list)):
            continue
        own = [node] if isinstance(node, ast.FunctionDef) else [part for part in node.body if _is_init(part)]
        for function in own:
            assert isinstance(function, ast.FunctionDef)
            parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            yield from (p.arg for p in parameters if p.arg not in (*GIVEN, "self"))


def _registers(decorator: ast.expr) -> bool:
    """Whether it is a call of `register_method`, by whatever it is reached."""
    called = decorator.func if isinstance(decorator, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
    return name == "register_method"


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"
