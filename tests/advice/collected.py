"""Every `next:` that the code can print, read off the syntax trees: texts with a mark where a value stands."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "barlowctl"
VALUE = "\N{WHITE SQUARE}"
"""Stands for what is known only when it is printed: a path, a number."""
PARAMETERS_OF = {"memory_explained": 0, "Check": 3}
"""Functions that take a `next` (or advice) without its name: its place."""


@dataclass(frozen=True)
class Advice:
    """One text. `where`: module:line."""

    text: str
    where: str


def collect() -> list[Advice]:
    """All advice of the package, in the order of modules."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        found += in_source(path.read_text(encoding="utf-8"), str(path.relative_to(PACKAGE)))
    return found


def in_source(source: str, name: str) -> list[Advice]:
    """All advice of one module."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found: dict[Advice, None] = {}
    for node, expression in _expressions(tree):
        for text in _texts(expression, parents):
            found[Advice(text, f"{name}:{node.lineno}")] = None
    return list(found)


def _expressions(tree: ast.AST) -> Iterator[tuple[ast.Call, ast.expr]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            if keyword.arg in ("next", "advice"):
                yield node, keyword.value
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called == "next" and isinstance(node.func, ast.Attribute):  # console.next(...)
            yield from ((node, argument) for argument in node.args)
        place = PARAMETERS_OF.get(called)
        if place is not None and len(node.args) > place:
            yield node, node.args[place]


def _texts(node: ast.expr, parents: dict[ast.AST, ast.AST], depth: int = 0) -> list[str]:
    """What an expression can be; [VALUE] where that cannot be read off."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.Constant(value=None):
            return []
        case ast.JoinedStr(values=parts):
            choices = [_texts(part, parents, depth) for part in parts]
            return ["".join(chosen) for chosen in product(*choices)]
        case ast.FormattedValue(value=value):
            inner = _texts(value, parents, depth)
            return inner if isinstance(value, ast.IfExp | ast.Name | ast.Call) else [VALUE]
        case ast.IfExp(body=body, orelse=other):
            return [*_texts(body, parents, depth), *_texts(other, parents, depth)]
        case ast.BoolOp(values=values):
            return [text for value in values for text in _texts(value, parents, depth)]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [a + b for a, b in product(_texts(left, parents, depth), _texts(right, parents, depth))]
        case ast.Call(func=ast.Attribute(value=ast.Name(id="shell"), attr="line"), args=words):
            choices = [[""] if isinstance(word, ast.Starred) else _texts(word, parents, depth) for word in words]
            return [" ".join(_quoted(word) for word in chosen if word) for chosen in product(*choices)]
        case ast.Call(func=ast.Attribute(value=ast.Constant(value="\n"), attr="join"), args=[ast.Tuple(elts=lines)]):
            return [text for line in lines for text in _texts(line, parents, depth)]
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value="\n"), attr="join"), args=[ast.GeneratorExp(elt=line)]
        ):
            return _texts(line, parents, depth)
        case ast.Call(func=ast.Name(id=name)) if depth < 3:
            return _of_function(name, node, parents, depth)
        case ast.Name(id=name) if depth < 3:
            return _of_name(name, node, parents, depth)
    return [VALUE]


def _quoted(word: str) -> str:
    return shlex.quote(word.replace(VALUE, "VALUE")).replace("VALUE", VALUE)


def _of_name(name: str, node: ast.AST, parents: dict[ast.AST, ast.AST], depth: int) -> list[str]:
    """What a variable was set to in the function around it, else in the module."""
    scope: ast.AST | None = parents.get(node)
    while scope is not None:
        if isinstance(scope, ast.FunctionDef | ast.Module):
            values = [
                inner.value
                for inner in ast.walk(scope)
                if isinstance(inner, ast.Assign | ast.AnnAssign)
                and inner.value is not None
                and any(
                    isinstance(target, ast.Name) and target.id == name
                    for target in (inner.targets if isinstance(inner, ast.Assign) else [inner.target])
                )
            ]
            if values:
                texts = [text for value in values for text in _texts(value, parents, depth + 1)]
                return texts or [VALUE]
            if isinstance(scope, ast.FunctionDef) and name in {argument.arg for argument in scope.args.args}:
                return [VALUE]
        scope = parents.get(scope)
    return [VALUE]


def _of_function(name: str, node: ast.AST, parents: dict[ast.AST, ast.AST], depth: int) -> list[str]:
    """What a function of the same module returns."""
    module: ast.AST = node
    while module in parents:
        module = parents[module]
    texts = []
    for inner in ast.walk(module):
        if isinstance(inner, ast.FunctionDef) and inner.name == name:
            returned = [
                part.value for part in ast.walk(inner) if isinstance(part, ast.Return) and part.value is not None
            ]
            texts += [text for value in returned for text in _texts(value, parents, depth + 1)]
    return texts or [VALUE]
