"""Every `next:` that the code can print, read off the syntax trees: texts with a mark where a value stands."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "barlowctl"
VALUE = "\N{WHITE SQUARE}"
"""Stands for what is known only when it is printed: a path, a number."""
NAMES = ("next", "advice", "go_on")
PARAMETERS_OF = {"memory_explained": 0, "Check": 3, "_of_something_else": 2}
"""Functions that take a `next` (or advice) without its name: its place."""


@dataclass(frozen=True)
class Advice:
    """One text. `where`: module:line. `function`: that it is given in. `end`: the last line of the expression."""

    text: str
    where: str
    function: str
    end: int


@cache
def collect() -> tuple[Advice, ...]:
    """All advice of the package, in the order of modules."""
    advice = []
    for path in sorted(PACKAGE.rglob("*.py")):
        advice += in_source(path.read_text(encoding="utf-8"), str(path.relative_to(PACKAGE)))
    for of_trees in (_parsed, _assigned, _origins):  # trees are large
        of_trees.cache_clear()
    return tuple(advice)


def in_source(source: str, name: str) -> list[Advice]:
    """All advice of one module."""
    if not any(word in source for word in (*NAMES, *PARAMETERS_OF)):
        return []
    tree = ast.parse(source)
    expressions = list(_expressions(tree))
    parents = _parents(tree) if expressions else {}
    advice: dict[Advice, None] = {}
    for node, expression in expressions:
        for text in _texts(expression, parents):
            advice[Advice(text, f"{name}:{node.lineno}", _function(node, parents), node.end_lineno or 0)] = None
    return list(advice)


def _hands_on(node: ast.Assign) -> bool:
    """Whether advice is not made there, but kept (`self.next = next`) or made a whole command (`completed`)."""
    return isinstance(node.value, ast.Name) or ast.unparse(node.value).startswith("completed(")


def _function(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> str:
    while node in parents and not isinstance(node, ast.FunctionDef):
        node = parents[node]
    return node.name if isinstance(node, ast.FunctionDef) else ""


def _expressions(tree: ast.AST) -> Iterator[tuple[ast.Call | ast.Assign | ast.FunctionDef, ast.expr]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):  # def __init__(self, *, next="...")
            defaults = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            yield from ((node, value) for name, value in defaults if name.arg in NAMES and value is not None)
        if isinstance(node, ast.Assign):  # error.next = ...
            for target in node.targets:
                if isinstance(target, ast.Attribute) and target.attr == "next" and not _hands_on(node):
                    yield node, node.value
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            if keyword.arg in NAMES:
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
            choices = [
                _of_starred(word) if isinstance(word, ast.Starred) else map(_quoted, _texts(word, parents, depth))
                for word in words
            ]
            return [" ".join(word for word in chosen if word) for chosen in product(*choices)]
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value="\n"), attr="join"),
            args=[ast.Tuple(elts=lines) | ast.List(elts=lines)
                  | ast.Call(func=ast.Name(id="filter"), args=[_, ast.List(elts=lines)])],
        ):  # fmt: skip
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


def _of_starred(word: ast.Starred) -> list[str]:
    """Words that may be many or none; `*(... for ... in ... for word in ("--flag", value))` has its flag."""
    match word.value:
        case ast.GeneratorExp(
            generators=[*_, ast.comprehension(iter=ast.Tuple(elts=[ast.Constant(value=str(flag)), _]))]
        ):
            return [f"{flag} {VALUE}"]
    return [""]


def _quoted(word: str) -> str:
    return shlex.quote(word.replace(VALUE, "VALUE")).replace("VALUE", VALUE)


def _of_name(name: str, node: ast.AST, parents: dict[ast.AST, ast.AST], depth: int) -> list[str]:
    """What a variable was set to in the function around it, else in the module."""
    scope: ast.AST | None = parents.get(node)
    while scope is not None:
        if isinstance(scope, ast.FunctionDef | ast.Module):
            if values := _assigned(scope).get(name):
                texts = [text for value in values for text in _texts(value, parents, depth + 1)]
                return texts or [VALUE]
            if isinstance(scope, ast.FunctionDef) and name in {argument.arg for argument in scope.args.args}:
                return [VALUE]
        scope = parents.get(scope)
    return [VALUE]


@cache
def _assigned(scope: ast.AST) -> dict[str, list[ast.expr]]:
    """The variables of a function or module -> what each is set to."""
    values = dict[str, list[ast.expr]]()
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in {target.id for target in targets if isinstance(target, ast.Name)}:
                values.setdefault(name, []).append(node.value)
    return values


def _of_function(name: str, node: ast.AST, parents: dict[ast.AST, ast.AST], depth: int) -> list[str]:
    """What a function of the same module, or one that it imports by name, returns."""
    module: ast.AST = node
    while module in parents:
        module = parents[module]
    texts = []
    for origin in _origins(module).get(name, ()):
        if isinstance(origin, ast.FunctionDef):
            texts += _returned(origin, parents, depth)
        else:
            texts += _of_another_module(origin.module or "", name, depth)
    return texts or [VALUE]


@cache
def _origins(module: ast.AST) -> dict[str, list[ast.FunctionDef | ast.ImportFrom]]:
    """Names -> the functions and imports of a module that give them."""
    origins = dict[str, list[ast.FunctionDef | ast.ImportFrom]]()
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            origins.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                origins.setdefault(alias.name, []).append(node)
    return origins


def _returned(function: ast.FunctionDef, parents: dict[ast.AST, ast.AST], depth: int) -> list[str]:
    values = [part.value for part in ast.walk(function) if isinstance(part, ast.Return) and part.value is not None]
    return [text for value in values for text in _texts(value, parents, depth + 1)]


def _of_another_module(module: str, name: str, depth: int) -> list[str]:
    package, *parts = module.split(".")
    path = PACKAGE.joinpath(*parts).with_suffix(".py")
    if package != PACKAGE.name or not path.is_file():
        return []
    tree, parents = _parsed(path)
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return [text for function in functions for text in _returned(function, parents, depth)]


@cache
def _parsed(path: Path) -> tuple[ast.Module, dict[ast.AST, ast.AST]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return tree, _parents(tree)


def _parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    """Node -> the node that it is a part of."""
    parents = dict[ast.AST, ast.AST]()
    pending = [tree]
    while pending:
        node = pending.pop()
        children = list(ast.iter_child_nodes(node))
        parents.update(dict.fromkeys(children, node))
        pending += children
    return parents
