from __future__ import annotations

import gc
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from barlowctl import garbage
from barlowctl.errors import RunStopped
from barlowctl.garbage import THRESHOLDS
from tests.train.test_engine import train


@pytest.mark.parametrize(
    "sentence",
    [
        "what_was_there_is_set_aside_and_new_garbage_is_freed",
        "garbage_from_before_is_freed_first",
        "what_somebody_else_set_aside_stays_there",
        "a_block_in_a_block_ends_nothing",
        "an_error_ends_it_too",
    ],
)
def test_in_a_process_of_its_own(sentence: str) -> None:
    command = [sys.executable, "-m", "tests.garbage_alone", sentence]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert (done.stdout, done.stderr) == ("held\n", "")


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
def test_what_was_there_before_a_training_is_set_aside_in_it(
    tmp_path: Path, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite has set aside what was there before its first test: it is not looked through here once more."""
    monkeypatch.setattr(garbage, "_is_set_aside", False)
    monkeypatch.setattr(gc, "collect", lambda: 0)
    gc.unfreeze()
    aside = list[int]()

    def evaluate(*_: object) -> dict[str, float]:
        aside.append(gc.get_freeze_count())
        return {"knn": 1.0}

    gc.disable()
    try:
        with pytest.raises(RunStopped) if stopped else nullcontext():
            train(tmp_path, evaluate=evaluate, stop_at=7 if stopped else None)
        left = gc.get_freeze_count()
    finally:
        gc.freeze()
        gc.enable()
    assert aside
    assert min(aside) > 10_000
    assert left == 0


def test_tests_close_the_arrays_that_they_read() -> None:
    """A file that is left open is met by a search for garbage in another test, which then fails."""
    left_open = re.compile(r"^(?!\s*with ).*\bnp\.load\([^)]*npz", re.MULTILINE)
    others = [file for file in Path(__file__).parent.rglob("*.py") if file != Path(__file__)]
    assert [str(file) for file in others if left_open.search(file.read_text(encoding="utf-8"))] == []
    assert left_open.search('    saved = np.load("x.npz")')
    assert not left_open.search('    with np.load("x.npz") as saved:')
