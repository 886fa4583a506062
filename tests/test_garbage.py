from __future__ import annotations

import gc
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from barlowctl import garbage
from barlowctl.errors import RunStopped
from barlowctl.garbage import THRESHOLDS, set_aside
from tests.train.test_engine import train


class Circle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _nothing_aside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The suite has set aside what was there before its first test."""
    gc.unfreeze()
    monkeypatch.setattr(garbage, "_is_set_aside", False)
    yield
    gc.freeze()


def test_what_was_there_is_set_aside_and_new_garbage_is_freed() -> None:
    with set_aside():
        assert gc.get_freeze_count() > 10_000
        circle = Circle()
        left = weakref.ref(circle)
        del circle
        gc.collect()
        assert left() is None
    assert gc.get_freeze_count() == 0


def test_garbage_from_before_is_freed_first() -> None:
    circle = Circle()
    left = weakref.ref(circle)
    del circle
    with set_aside():
        assert left() is None


def test_what_somebody_else_set_aside_stays_there() -> None:
    gc.freeze()
    with set_aside():
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() > 10_000


def test_a_block_in_a_block_ends_nothing() -> None:
    with set_aside():
        with set_aside():
            pass
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


def test_an_error_ends_it_too() -> None:
    with pytest.raises(ValueError, match="of the block"), set_aside():
        raise ValueError("of the block")
    assert gc.get_freeze_count() == 0


def test_a_command_looks_seldom_and_an_import_of_the_package_changes_nothing() -> None:
    program = "import gc, sys; from barlowctl import {}; print(gc.get_threshold()); sys.argv[1:] = ['--version']; {}"
    command = "import gc; print(gc.get_threshold()); " + program.format(
        "__main__", "import atexit; atexit.register(lambda: print(gc.get_threshold())); __main__.main()"
    )
    printed = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    pythons, before, _, after = printed.splitlines()
    assert (after, before) == (str(THRESHOLDS), pythons)
    assert after != before


@pytest.mark.parametrize("stopped", [False, True], ids=["to its end", "stopped"])
def test_what_was_there_before_a_training_is_set_aside_in_it(tmp_path: Path, stopped: bool) -> None:
    aside = list[int]()

    def evaluate(*_: object) -> dict[str, float]:
        aside.append(gc.get_freeze_count())
        return {"knn": 1.0}

    with pytest.raises(RunStopped) if stopped else nullcontext():
        train(tmp_path, evaluate=evaluate, stop_at=7 if stopped else None)
    assert aside
    assert min(aside) > 10_000
    assert gc.get_freeze_count() == 0


def test_tests_close_the_arrays_that_they_read() -> None:
    """A file that is left open is met by a search for garbage in another test, which then fails."""
    left_open = re.compile(r"^(?!\s*with ).*\bnp\.load\([^)]*npz", re.MULTILINE)
    others = [file for file in Path(__file__).parent.rglob("*.py") if file != Path(__file__)]
    assert [str(file) for file in others if left_open.search(file.read_text(encoding="utf-8"))] == []
    assert left_open.search('    saved = np.load("x.npz")')
    assert not left_open.search('    with np.load("x.npz") as saved:')
