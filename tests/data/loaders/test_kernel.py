"""The compiled kernel's cache: never stale."""

from __future__ import annotations

import inspect

import pytest

from barlowctl.data.beton import decode
from barlowctl.data.loaders import kernel
from barlowctl.data.views import corruption, draws, photometric, resize, vector

MODULES = [corruption, decode, draws, photometric, resize, vector]


def test_the_cache_key_holds_the_sources_of_all_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = kernel.source_digest()
    assert [cell.cell_contents for cell in kernel.fill.py_func.__closure__] == [digest]
    original = inspect.getsource
    for changed in [*MODULES, kernel]:
        with monkeypatch.context() as patch:
            patch.setattr(inspect, "getsource", lambda m, c=changed: original(m) + " " * (m is c))
            assert kernel.source_digest() != digest


def test_only_the_last_kernel_crosses_modules() -> None:
    """numba does not see changes in another file: a cached kernel calls only its own file's."""
    for module in MODULES:
        for name, function in vars(module).items():
            if hasattr(function, "py_func"):
                assert function.py_func.__module__ == module.__name__, name
    for name, function in vars(kernel).items():
        if hasattr(function, "py_func") and function.py_func.__module__ == kernel.__name__:
            cached = type(function._cache).__name__ != "NullCache"
            assert cached == (name == "fill"), name
