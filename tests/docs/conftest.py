"""The scripts of docs, as modules."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.short_timings import short_timings as short_timings


@pytest.fixture(scope="session")
def script_of(checkout: Path) -> Callable[[str], ModuleType]:
    """Path of a script in docs -> its module, which finds the scripts beside it, as it does when it is run."""

    def load(path: str) -> ModuleType:
        file = checkout / "docs" / path
        sys.path.insert(0, str(file.parent))
        try:
            spec = importlib.util.spec_from_file_location(f"docs_{file.stem}", file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(file.parent))
        return module

    return load
