"""Signals that come before a command has begun, and after it has ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from barlowctl.cli import app
from barlowctl.signals import ENDS_WITH, Ended

CHECKOUT = Path(__file__).resolve().parents[2]
ASKING = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]
BEGIN = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from barlowctl import __main__\n"
WHILE_IMPORTING = """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            signal.raise_signal({number})
sys.meta_path.insert(0, Finder())
"""
AT_EXIT = """
import atexit
atexit.register(signal.raise_signal, {number})
"""


def started(prelude: str, *words: str) -> subprocess.CompletedProcess[str]:
    script = f"{BEGIN}{prelude}\nsys.argv[1:] = {list(words)}\n__main__.main()"
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)


@pytest.mark.parametrize("number", ASKING)
@pytest.mark.parametrize("module", ["barlowctl.cli.usage", "typer", "barlowctl.recipe.catalog"])
def test_a_signal_within_an_import_ends_the_command(module: str, number: signal.Signals) -> None:
    """Of the commands themselves, and of what one of them imports when it runs."""
    process = started(WHILE_IMPORTING.format(module=module, number=int(number)), "recipes", "list")
    assert (process.returncode, process.stdout) == (128 + number, "")
    assert process.stderr.startswith("aborted")
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_after_the_end_does_not_change_it(number: signal.Signals) -> None:
    process = started(AT_EXIT.format(number=int(number)), "--version")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("barlowctl ")


def test_a_second_signal_does_not_change_the_end() -> None:
    """Of an import that a signal ended, which is said."""
    first = WHILE_IMPORTING.format(module="typer", number=int(signal.SIGTERM))
    process = started(first + AT_EXIT.format(number=int(signal.SIGTERM)), "recipes", "list")
    assert (process.returncode, process.stderr) == (143, "aborted: no file is left half-written\n")


@pytest.mark.parametrize("place", ["commands", "refuse_missing_values"])
def test_a_signal_before_the_command_begins_ends_it(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the tree of commands is put together, and while the command line is read."""

    def interrupted(*arguments: object) -> None:
        raise Ended(signal.SIGTERM)

    monkeypatch.setattr(app, place, interrupted)
    assert app.run(["recipes", "list"]) == 143
    assert capsys.readouterr().err == "aborted by SIGTERM: no file is left half-written\n"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process that the one that started it is gone")
def test_a_process_whose_parent_is_gone_before_it_begins_ends() -> None:
    ended = started(f"import os; os.environ['{ENDS_WITH}'] = '1'", "--version")
    assert ended.returncode == 128 + signal.SIGTERM
    assert ended.stdout == ""
    for has_parent in (f"os.environ['{ENDS_WITH}'] = str(os.getppid())", "os.environ['TORCHELASTIC_RUN_ID'] = 'none'"):
        assert started(f"import os; {has_parent}", "--version").returncode == 0
