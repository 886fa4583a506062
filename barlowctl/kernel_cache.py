"""numba's decorators of kernels that are kept from run to run, and compiled anew where a file they are made of changed.

numba takes a kept kernel for current while the one file that defines it is unchanged. What it calls, and the numbers
that were compiled into it, may have been imported from other files of the package: here those count too. What a kernel
calls is always compiled into it. `njit` and `cfunc` are numba's otherwise; a kernel that can be kept nowhere is
compiled in every run, where numba refuses it. Compiling that takes long is a wait that a command says (`waits`),
whoever's kernels they are.

Processes that need the same kernel at the same time compile it once: the others wait, and load it. numba's own index of
what is kept loses entries, or takes one for another, where two of them write it at once.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, wraps
from pathlib import Path
from typing import IO, Any, cast

import numba
from numba.core import caching, codegen, event
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

from barlowctl import locks
from barlowctl.waits import Wait


def permits_tiles() -> bool:
    """Whether the system lets this process use a processor's tiles (Intel's AMX), as far as torch can say it.

    Linux is asked for it once by each process, and refuses in some virtual machines and sandboxes.
    """
    import torch  # a second, which a processor without tiles does not need here

    ask = getattr(getattr(torch._C, "_cpu", None), "_init_amx", None)
    return ask is None or bool(ask())


def compiled_for() -> str:
    """What the processor that kernels are compiled for can do, by LLVM's names: `+avx512f,-amx-tile,...`."""
    own: str | None = cast(Any, numba.config).CPU_FEATURES
    return codegen.get_host_cpu_features() if own is None else own


def leave_out_refused_tiles() -> None:
    """Have numba compile as for a processor without tiles (AMX) where the system does not let this process use them.

    numba keeps kernels by what the processor that they are compiled for can do: those without tiles and those with them
    are others. It asks once, when it compiles first; a person's own NUMBA_CPU_FEATURES hold.
    """
    config: Any = numba.config
    if config.CPU_FEATURES is None and "+amx-tile" in compiled_for().split(",") and not permits_tiles():
        config.CPU_FEATURES = compiled_for().replace("+amx", "-amx")


leave_out_refused_tiles()


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
            _check_closure(function, options)
            with _watching():
                try:
                    if decorator is not numba.cfunc:
                        return _in_turns(decorator(*arguments, **options)(function))
                    store = caching.FunctionCache(function) if options.get("cache") else None
                    with _turns.wait_for(store, function.__module__):
                        return decorator(*arguments, **options)(function)  # compiles at once
                except RuntimeError:  # nowhere to keep it: no folder can be written to
                    if not options.get("cache"):
                        raise
                    _compiling.how_often = "in every run, for there is no folder to keep them in: barlowctl doctor"
                    return decorator(*arguments, **options | {"cache": False})(function)

        return decorate

    return with_arguments


def _check_closure(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """A kernel that is kept closes over no other: numba knows one by a number that each process draws anew, so that
    every run would compile it again, and keep that too. A kernel at the top of its module is no part of a closure.
    """
    closed_over = [cell.cell_contents for cell in function.__closure__ or ()]
    held = [value.py_func.__name__ for value in closed_over if isinstance(value, Dispatcher)]
    assert not (options.get("cache") and held), f"{function.__qualname__} would never be found again: {held}"


PATIENCE = 60.0
"""Seconds in all that a process waits for others that compile: they may be stopped, or gone with their computer."""


class _Turns:
    """Who compiles a kernel: a process that has locked a file beside what numba keeps of it."""

    def __init__(self) -> None:
        self.patience = PATIENCE
        self._mine = set[Path]()

    @contextmanager
    def wait_for(self, store: Any, module: str) -> Iterator[None]:
        """Let no other process compile the kernel of one of numba's caches meanwhile, where there is a file to lock.

        numba's lock is taken first: a thread that has a turn waits for no other thread. Kernels do not call one another
        in circles, and each is compiled within the turns of those that call it: no two processes wait for each other.
        """
        with global_compiler_lock, ExitStack() as turn:
            path = self._file(store)
            if path is not None and path not in self._mine:
                self._mine.add(path)
                turn.callback(self._mine.discard, path)
                with suppress(OSError):  # a folder that can only be read
                    self._lock(turn.enter_context(open(path, "a")), module, turn)
            yield

    def _lock(self, file: IO[str], module: str, turn: ExitStack) -> None:
        turn.callback(locks.release, file)
        if locks.take(file, patience=0.0):
            return
        begun = time.monotonic()
        with _compiling.wait_for(f"another process is {_compiling.describe(module)}"):
            locks.take(file, patience=self.patience)
        self.patience = max(0.0, self.patience - (time.monotonic() - begun))

    def _file(self, store: Any) -> Path | None:
        """Beside the kernel's index; None where numba keeps nothing of it."""
        name = getattr(getattr(store, "_impl", None), "filename_base", None)  # private
        return None if name is None else Path(store.cache_path) / f"{name}.lock"


_turns = _Turns()


def _in_turns(kernel: Any) -> Any:
    """A kernel that is compiled when its process has its turn."""
    compile_ = kernel.compile

    @wraps(compile_)
    def compile_alone(signature: Any) -> Any:
        with _turns.wait_for(kernel._cache, kernel.py_func.__module__):
            return compile_(signature)

    kernel.compile = compile_alone
    return kernel


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
        wait = self._running[-1] if self._running else self.wait_for(self.describe(event.data["module"]))
        self._running.append(wait)
        wait.__enter__()

    def on_end(self, event: Any) -> None:
        """See numba's `Listener`."""
        if self._running:
            self._running.pop().__exit__()

    def wait_for(self, text: str) -> Wait:
        """The wait of a text, of which this is another piece."""
        return self._waits.setdefault(text, Wait(text))

    def describe(self, module: str) -> str:
        """What is being done, for the kernels of a module."""
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
