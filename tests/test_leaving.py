"""A command's process ends with all that Python does at its end, less the freeing of each object."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRELUDE = """
import atexit, sys, tempfile, threading, time, weakref
from barlowctl import __main__
from barlowctl.cli import app

class Module:
    def __del__(self):
        print("freed", flush=True)

sys.modules["of_the_test"] = Module()
folder = tempfile.TemporaryDirectory()
atexit.register(lambda: print("at exit"))
def late():
    time.sleep(0.3)
    print("thread")
def run(arguments):
    threading.Thread(target=late).start()
    print(folder.name)
    return {code}
app.run = run
"""


def ended(program: str, *options: str, code: int = 3) -> tuple[int, list[str]]:
    process = subprocess.run(
        [sys.executable, *options, "-c", PRELUDE.format(code=code) + program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stderr == ""
    return process.returncode, process.stdout.splitlines()


@pytest.mark.parametrize("code", [0, 2, 130])
def test_threads_end_and_functions_at_exit_are_called_and_nothing_is_freed(code: int) -> None:
    returned, (folder, *lines) = ended("__main__.main()", code=code)
    assert (returned, lines) == (code, ["thread", "at exit"])
    check = subprocess.run(["ls", folder], capture_output=True, check=False)
    assert check.returncode != 0, "the temporary folder is left"


@pytest.mark.parametrize("watching", ["sys.settrace(lambda *_: None)", "sys.setprofile(lambda *_: None)"])
def test_who_watches_the_process_sees_its_end(watching: str) -> None:
    returned, lines = ended(f"{watching}; __main__.main()")
    assert (returned, lines[1:]) == (3, ["thread", "at exit", "freed"])


def test_a_profile_of_a_command_is_printed() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "cProfile", "-m", "barlowctl", "--version"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0
    assert "function calls" in process.stdout
