"""numba's decorators of kernels that are kept from run to run, and compiled anew where a file they are made of changed.

numba takes a kept kernel for current while the one file that defines it is unchanged. What it calls, and the numbers
that were compiled into it, may have been imported from other files of the package: here those count too. What a kernel
calls is always compiled into it. `njit` and `cfunc` are numba's otherwise; a kernel that can be kept nowhere is
compiled in every run, where numba refuses it. Compiling that takes long is a wait that a command says (`waits`),
whoever's kernels they are.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, cast

import numba
from numba.core import caching, event

from barlowctl.waits import Wait


class _AllSources:
    """A place of numba's cache whose entries hold for the sources of all modules that the kernel's module imports."""

    module = ""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        """See numba's `_CacheLocator`."""
        locator = super().from_function(py_func, py_file)  # type: ignore[misc]
        if locator is not None:
            locator.module = py_func.__module__
        return locator

    def get_source_stamp(self) -> Any:
        """See numba's `_CacheLocator`."""
        return super().get_source_stamp(), digest(self.module)  # type: ignore[misc]


_CACHES: Any = getattr(caching, "CacheImpl", None)  # private; without it, numba's own way
_LOCATORS = [type(kind.__name__, (_AllSources, kind), {}) for kind in getattr(_CACHES, "_locator_classes", ())]
_LOCK = threading.RLock()


@contextmanager
def _watching() -> Iterator[None]:
    """Meanwhile decorated kernels are kept so, and those of other packages as they were."""
    if not _LOCATORS:
        yield
        return
    with _LOCK:
        before = _CACHES._locator_classes
        _CACHES._locator_classes = [*_LOCATORS, *before]
        try:
            yield
        finally:
            _CACHES._locator_classes = before


def _watched(decorator: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(decorator)
    def with_arguments(*arguments: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        def decorate(function: Callable[..., Any]) -> Any:
            with _watching():
                try:
                    return decorator(*arguments, **options)(function)
                except RuntimeError:  # nowhere to keep it: no folder can be written to
                    if not options.get("cache"):
                        raise
                    _compiling.how_often = "in every run, for there is no folder to keep them in: barlowctl doctor"
                    return decorator(*arguments, **options | {"cache": False})(function)

        return decorate

    return with_arguments


class _Compiling(event.Listener):
    """The waits for what is compiled in this process, by numba's passes; what a kernel calls is compiled in one of its.

    numba holds its lock meanwhile: one thread compiles.
    """

    how_often = "once for this machine"

    def __init__(self) -> None:
        self._waits: dict[str, Wait] = {}
        self._running: list[Wait] = []

    def on_start(self, event: Any) -> None:
        """See numba's `Listener`."""
        text = self._describe(event.data["module"])
        wait = self._running[-1] if self._running else self._waits.setdefault(text, Wait(text))
        self._running.append(wait)
        wait.__enter__()

    def on_end(self, event: Any) -> None:
        """See numba's `Listener`."""
        if self._running:
            self._running.pop().__exit__()

    def _describe(self, module: str) -> str:
        package = module.partition(".")[0]
        if package != __package__:
            return f"compiling kernels of {package} ..." if package.isidentifier() else "compiling kernels ..."
        part = module.split(".")[1]
        whose = {"data": "the images' views", "train": "the optimizer"}.get(part, "the network")
        return f"compiling kernels of {whose}, {self.how_often} ..."


_compiling = _Compiling()
event.register("numba:run_pass", _compiling)


def _inlined(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba's `njit`, of a function that is always compiled into what calls it.

    Otherwise a process that compiles both calls the one that was compiled by itself, and one that has both from the
    cache calls another copy, whose sums may be rounded in another order: a machine's first run had other numbers.
    """
    return cast(Callable[[Callable[..., Any]], Any], numba.njit(**{"forceinline": True} | options))


njit, cfunc = _watched(_inlined), _watched(numba.cfunc)


@cache
def digest(module: str) -> str:
    """Of the sources of a module and of all modules of its package that it imports, they import, and so on."""
    text = hashlib.sha256()
    for name in sources(module):
        text.update(f"{name}\0{_source(name)}\0".encode())
    return text.hexdigest()


def sources(module: str) -> list[str]:
    """Names of the modules whose sources are those of a module's kernels, sorted."""
    names, pending = set[str](), [module]
    while pending:
        name = pending.pop()
        if name not in names:
            names.add(name)
            pending += _imported(name)
    return sorted(names)


@cache
def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    loader: Any = spec and spec.loader
    return (loader.get_source(module) or "") if hasattr(loader, "get_source") else ""


@cache
def _imported(module: str) -> tuple[str, ...]:
    """Modules of its own package that a module imports at its top: what a kernel can be made of."""
    package, names = module.partition(".")[0], list[str]()
    for node in ast.parse(_source(module)).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.append(whole if node.module.startswith(package) and _is_module(whole) else node.module)
    return tuple(name for name in names if name.partition(".")[0] == package)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what stands before the last dot is no package
        return False
