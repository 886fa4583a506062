"""Kept kernels are never stale: what they call and what was compiled into them may be of other files."""

from __future__ import annotations

import ast
import errno
import importlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numba.core import caching, event

from barlowctl import kernel_cache, locks, waits
from barlowctl.kernels import global_pooling
from barlowctl.kernels.batch_norm import threads as norm_threads
from barlowctl.kernels.winograd import functions as winograd_functions

PACKAGE = Path(kernel_cache.__file__).parent
FILES = {
    "__init__": "",
    "kernels": """
        from barlowctl.kernel_cache import cfunc, njit
        from made import numbers
        from made.inner import doubled
        @njit(cache=True)
        def kernel(x):
            return doubled(x) + numbers.THIRD
        @cfunc("float64(float64)", cache=True)
        def function(x):
            return doubled(x) + numbers.THIRD
    """,
    "inner": """
        import made.lowest
        from barlowctl.kernel_cache import njit
        FACTOR = made.lowest.FACTOR
        @njit(cache=True)
        def doubled(x):
            return FACTOR * x
    """,
    "numbers": "THIRD = 3.0",
    "lowest": "FACTOR = 2.0",
    "others": "AWAY = 1.0",
}


def write(folder: Path, name: str, text: str) -> None:
    lines = [line.removeprefix(8 * " ") for line in text.strip("\n").splitlines()]
    folder.joinpath("made", f"{name}.py").write_text("\n".join(lines) + "\n")


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ModuleType]:
    """The kernels of a package of its own, imported as another process would."""
    (tmp_path / "made").mkdir()
    for name, text in FILES.items():
        write(tmp_path, name, text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(kernel_cache._compiling, "how_often", kernel_cache._compiling.how_often)

    def load() -> ModuleType:
        for name in [name for name in sys.modules if name.partition(".")[0] == "made"]:
            monkeypatch.delitem(sys.modules, name)
        for function in (kernel_cache.digest, kernel_cache._source, kernel_cache._imported):
            function.cache_clear()
        importlib.invalidate_caches()
        return importlib.import_module("made.kernels")

    return load


def values(module: ModuleType) -> list[float]:
    """What the kernel and the function of C give, and how often they were compiled before."""
    kernel, function = module.kernel, module.function
    return [kernel(5.0), function.ctypes(5.0), sum(kernel.stats.cache_hits.values()), function.cache_hits]


def test_it_is_kept_while_nothing_changes(anew: Callable[[], ModuleType], tmp_path: Path) -> None:
    assert values(anew()) == [13.0, 13.0, 0, 0]
    assert values(anew()) == [13.0, 13.0, 1, 1]
    write(tmp_path, "others", "AWAY = 2.0")
    assert values(anew()) == [13.0, 13.0, 1, 1]


def test_where_it_can_be_kept_nowhere_it_is_compiled_each_time(
    anew: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_cache, "_LOCATORS", [])
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(lambda x: x)
    for _ in range(2):
        module = anew()
        assert (module.kernel(5.0), module.function.ctypes(5.0)) == (13.0, 13.0)


@pytest.mark.parametrize(
    ("name", "text", "result"),
    [
        ("inner", FILES["inner"].replace("FACTOR * x", "FACTOR * x + 100.0"), 113.0),
        ("numbers", "THIRD = 4.0", 14.0),
        ("lowest", "FACTOR = 3.0", 18.0),
    ],
)
def test_a_change_of_another_file_is_seen(
    anew: Callable[[], ModuleType], tmp_path: Path, name: str, text: str, result: float
) -> None:
    assert values(anew()) == [13.0, 13.0, 0, 0]
    write(tmp_path, name, text)
    assert values(anew()) == [result, result, 0, 0]
    write(tmp_path, name, FILES[name])
    assert values(anew())[:2] == [13.0, 13.0]


def test_numba_by_itself_does_not_see_it(anew: Callable[[], ModuleType], tmp_path: Path) -> None:
    """Why all this: once it does, it can go."""
    for name in ("kernels", "inner"):
        write(tmp_path, name, FILES[name].replace("barlowctl.kernel_cache", "numba"))
    assert values(anew())[:2] == [13.0, 13.0]
    write(tmp_path, "numbers", "THIRD = 4.0")
    assert values(anew())[:2] == [13.0, 13.0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("barlowctl.data.loaders.kernel", "compiling kernels of the images' views, once for this machine ..."),
        ("barlowctl.kernels.winograd.loops", "compiling kernels of the network, once for this machine ..."),
        ("pynndescent.distances", "compiling kernels of pynndescent ..."),
        ("<dynamic>", "compiling kernels ..."),
    ],
)
def test_compiling_that_takes_long_is_a_wait(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setattr(kernel_cache._compiling, "_waits", {})
    monkeypatch.setattr(waits, "SECONDS", 1e-6)
    texts: list[str] = []
    any_text = threading.Event()
    monkeypatch.setattr(waits, "_listener", lambda given: (texts.append(given), any_text.set()))
    for _ in range(2):
        outer = event.trigger_event("numba:run_pass", data={"module": name})
        with outer, event.trigger_event("numba:run_pass", data={"module": "numba.core"}):
            assert any_text.wait(10.0)
    assert texts == [text]


@contextmanager
def another_process_compiles(tmp_path: Path) -> Iterator[None]:
    """Another process has the turn of all kernels that are kept."""
    with ExitStack() as stack:
        files = sorted(tmp_path.rglob("*.lock"))
        assert [file.name.partition("-")[0] for file in files] == [
            "inner.doubled",
            "kernels.function",
            "kernels.kernel",
        ]
        assert all(stack.enter_context(locks.holding(file, patience=0.0)) for file in files)
        yield


def test_what_another_process_compiles_is_waited_for_and_loaded(
    anew: Callable[[], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew().kernel(5.0)
    indices = [(path, path.rename(path.with_suffix(".away"))) for path in tmp_path.rglob("*.nbi")]
    results: list[list[float]] = []
    thread = threading.Thread(target=lambda: results.append(values(anew())), daemon=True)
    texts: list[str] = []
    monkeypatch.setattr(kernel_cache._compiling, "_waits", {})
    monkeypatch.setattr(waits, "SECONDS", 0.01)
    monkeypatch.setattr(waits, "_listener", texts.append)
    with another_process_compiles(tmp_path):
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        for path, away in indices:
            away.rename(path)
    thread.join(30.0)
    assert results == [[13.0, 13.0, 1, 1]]
    assert texts == ["another process is compiling kernels of made ..."]


def test_who_does_not_end_is_waited_for_once(
    anew: Callable[[], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert values(anew()) == [13.0, 13.0, 0, 0]
    monkeypatch.setattr(kernel_cache._turns, "patience", 0.2)
    write(tmp_path, "numbers", "THIRD = 4.0")
    with another_process_compiles(tmp_path):
        assert values(anew()) == [14.0, 14.0, 0, 0]
        assert kernel_cache._turns.patience == 0.0
    assert values(anew()) == [14.0, 14.0, 1, 1]
    with another_process_compiles(tmp_path):  # nothing of ours is locked still
        pass


def test_where_no_file_can_be_locked_kernels_are_compiled_and_loaded(
    anew: Callable[[], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(locks, "take", refuse)
    assert values(anew()) == [13.0, 13.0, 0, 0]
    for path in tmp_path.rglob("*.lock"):
        path.unlink()
        path.mkdir()  # which nobody opens
    assert values(anew()) == [13.0, 13.0, 1, 1]


def test_loading_a_kept_kernel_is_no_wait(
    anew: Callable[[], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew().kernel(5.0)
    module = anew()
    monkeypatch.setattr(kernel_cache._compiling, "_waits", {})
    assert module.kernel(5.0) == 13.0
    assert not kernel_cache._compiling._waits
    write(tmp_path, "numbers", "THIRD = 4.0")
    assert anew().kernel(5.0) == 14.0
    assert list(kernel_cache._compiling._waits) == ["compiling kernels of made ..."]


def test_where_kernels_are_kept_nowhere_the_wait_says_so(
    anew: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_cache, "_LOCATORS", [])
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    anew()
    assert "in every run" in kernel_cache._compiling.describe("barlowctl.data.loaders.kernel")


def kernels() -> list[tuple[Path, ast.FunctionDef]]:
    """Functions of the package that numba compiles, where they are written."""
    sources = {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    return [
        (path, node)
        for path, source in sources.items()
        if "njit(" in source or "cfunc(" in source
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(decorator).startswith(("njit(", "cfunc(")) for decorator in node.decorator_list)
    ]


def test_kernels_assign_no_slices() -> None:
    """numba checks their shapes, and compiles strings for the error: 3 seconds of CPU time for each kernel."""
    of_the_package = kernels()
    assert len(of_the_package) > 50
    for path, kernel in of_the_package:
        for node in ast.walk(kernel):
            for target in node.targets if isinstance(node, ast.Assign) else []:
                slices = [part for part in ast.walk(target) if isinstance(part, ast.Slice)]
                assert not slices, f"{path.name}:{node.lineno} {ast.unparse(node)}: a loop does it"


def with_kernels() -> list[str]:
    """Names of the package's modules that have decorated kernels."""
    sources = {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    names = []
    for path in (path for path, source in sources.items() if "kernel_cache" in source):
        for node in ast.walk(ast.parse(sources[path])):
            if isinstance(node, ast.ImportFrom) and node.module == "barlowctl.kernel_cache":
                names.append(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    return names


@pytest.mark.parametrize("name", with_kernels())
def test_kernels_of_the_package_are_kept_with_the_sources_of_all_they_call(name: str) -> None:
    module, seen = importlib.import_module(name), 0
    sources = kernel_cache.sources(name)
    for kernel in vars(module).values():
        function = getattr(kernel, "py_func", None) or getattr(kernel, "__wrapped__", None)
        stamp = getattr(getattr(getattr(kernel, "_cache", None), "_cache_file", None), "_source_stamp", None)
        if function is None or not hasattr(kernel, "_cache"):
            continue
        assert function.__module__ in sources
        if function.__module__ == name and stamp is not None:
            seen += 1
            assert stamp[1] == kernel_cache.digest(name)
    assert seen or name == winograd_functions.__name__


def test_kernels_that_are_made_when_they_are_first_used_are_kept_with_their_sources(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []

    def recorded(*arguments: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        decorate = kernel_cache.cfunc(*arguments, **options)
        return lambda function: made.append(decorate(function)) or made[-1]

    monkeypatch.setattr(winograd_functions, "cfunc", recorded)
    for maker in ("_inputs", "_gradients", "_taps", "_gather", "_write", "_multiply"):
        monkeypatch.setattr(winograd_functions, maker, getattr(winograd_functions, maker).__wrapped__)
    assert set(winograd_functions.addresses(3, 1).values()) == {kernel.address for kernel in made}
    name = winograd_functions.__name__
    for kernel in made:
        assert kernel._cache._cache_file._source_stamp[1] == kernel_cache.digest(name)
    assert {"barlowctl.kernels.winograd.vector_code", "barlowctl.kernels.winograd.toom_cook"} < set(
        kernel_cache.sources(name)
    )


@pytest.mark.parametrize("decorate", [kernel_cache.njit, partial(kernel_cache.cfunc, "float64(float64)")])
def test_a_kept_kernel_that_closes_over_another_is_refused(decorate: Callable[..., Any]) -> None:
    """numba would never find it again: each run would compile it, and keep one file more."""
    inner = numba.njit(lambda x: 2.0 * x)

    def outer(x: float) -> Any:
        return inner(x) + 1.0

    with pytest.raises(AssertionError, match="outer would never be found again"):
        decorate(cache=True)(outer)
    assert decorate()(outer) is not None


@pytest.mark.parametrize("make", [global_pooling.pooling, global_pooling.spreading])
def test_kernels_of_global_pooling_are_found_again_by_another_process(make: Callable[..., Any]) -> None:
    """numba's key of a kernel has its closure, pickled: that of a kernel in it is another one in every process."""
    make.cache_clear()  # type: ignore[attr-defined]
    kernel = make(torch.float32)
    cells = [cell.cell_contents for cell in kernel._pyfunc.__closure__]
    assert [type(value) for value in cells] == [np.float32]


def test_all_kernels_are_decorated_so() -> None:
    """numba's own decorators are used nowhere else."""
    decorators = {"jit", "njit", "cfunc", "vectorize", "guvectorize", "stencil"}
    assert len(with_kernels()) > 5
    sources = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    for path in (path for path, source in sources.items() if "numba" in source):
        for node in ast.walk(ast.parse(sources[path])):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "numba":
                assert decorators.isdisjoint(alias.name for alias in node.names), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "numba":
                assert node.attr not in decorators or path.name == "kernel_cache.py", path


@pytest.mark.parametrize("decorator", [kernel_cache.njit, numba.njit])
def test_what_a_kernel_calls_is_compiled_into_it(decorator: Callable[..., Any]) -> None:
    """numba leaves a call of what is large, whose code in the process that compiled it is not that of later ones."""

    @decorator(fastmath=True)
    def a_part(values, by):  # type: ignore[no-untyped-def]
        total = 0.0
        for value in values:
            total += value * by if value > by else value / by
        for value in values:
            total += value**by if total > 1.0 else value - by
        for value in values:
            total -= value // by if total > value else value % by
        return total

    @decorator()
    def whole(values):  # type: ignore[no-untyped-def]
        return a_part(values, 2.0) + a_part(values, 3.0)

    assert np.isfinite(whole(np.ones(3)))
    (code,) = whole.inspect_llvm().values()
    assert bool(re.search(r"call [^\n]*a_part", code)) is (decorator is numba.njit)


@pytest.mark.parametrize("make", [norm_threads._adding, norm_threads._writing])
def test_kernels_of_batch_norm_call_none_of_ours(make: Callable[..., Any]) -> None:
    options = {**norm_threads.SHARED, "cache": False}
    code = numba.cfunc(norm_threads.TASK, **options)(make(np.float32(0.0))._pyfunc).inspect_llvm()
    assert "norm_kernels" not in "".join(re.findall(r"call [^\n]*", code))


def test_others_kernels_are_kept_as_numba_does(tmp_path: Path) -> None:
    """Nothing of numba is changed for who uses it beside."""
    from numba.core import caching

    before: list[Any] = list(caching.CacheImpl._locator_classes)
    assert kernel_cache.njit(cache=True)(lambda x: x + 1)(1) == 2
    assert caching.CacheImpl._locator_classes == before
    stamp = numba.njit(cache=True)(values_of_nothing)._cache._cache_file._source_stamp
    assert not isinstance(stamp, tuple) or kernel_cache.digest(__name__) not in stamp


def values_of_nothing() -> int:
    """A function in a file, which numba can keep."""
    return 0


HOST = "+64bit,+amx-tile,-amx-fp16,+amx-bf16,+avx512bf16"


@pytest.mark.parametrize(
    ("features", "own", "permitted", "compiled_for"),
    [
        (HOST, None, False, "+64bit,-amx-tile,-amx-fp16,-amx-bf16,+avx512bf16"),
        (HOST, None, True, None),  # what the host has
        (HOST, "+avx2", False, "+avx2"),
        ("+64bit,-amx-tile,+avx512bf16", None, False, None),
    ],
)
def test_kernels_are_compiled_without_tiles_that_the_system_refuses(
    features: str, own: str | None, permitted: bool, compiled_for: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_cache.codegen, "get_host_cpu_features", lambda: features)
    monkeypatch.setattr(numba.config, "CPU_FEATURES", own)
    monkeypatch.setattr(kernel_cache, "permits_tiles", lambda: permitted)
    kernel_cache.leave_out_refused_tiles()
    assert compiled_for == numba.config.CPU_FEATURES
