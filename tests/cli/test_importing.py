"""`--import`: a module or a file of somebody's is imported before a command, and what is not there is one error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from barlowctl import program
from barlowctl.api.training import pretrain
from barlowctl.cli import completion
from barlowctl.cli.app import run as barlowctl
from barlowctl.runs.rundir import runs_home
from tests.api.test_own_networks import SOURCE, forget, overrides

Captured = pytest.CaptureFixture[str]
ALLOWED = (
    "allowed: a module of this folder or of an installed package (my_networks), or a .py file (code/my_networks.py)"
)
FAULTS = {
    "broken": 'raise ValueError("no luck")',
    "needy": "import nothing_of_this_name",
    "slip": "def f(:",
    "leaving": "import sys\nsys.exit(3)",
    "json": "",
}
OWN_OPTIMIZER = """
import barlowctl


@barlowctl.register_optimizer("own")
class Own:
    def __init__(self, params, lr, momentum=0.9, *, share: float = 1.0): ...
"""
OWN_METHODS = """
import barlowctl
from barlowctl import register_method
raise SystemExit("a shell that completes runs nothing")
@barlowctl.register_method("agreement")
class Agreement:
    views = 2
    def __init__(self, backbone, projector, ranks=None, *, heat: float = 0.1):
        pass
@register_method("bank")
def bank(backbone, classes, queue: int, w=1.0):
    pass
class Other:
    def __init__(self, no_key=1):
        pass
@register_model("network")
def network(no_key_either=1):
    pass
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with modules; Python's path and modules, and what the process imports, are put back."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    (folder / "sub").mkdir()
    (folder / "sub" / "beside.py").write_text("import near_by\n")
    (folder / "sub" / "near_by.py").write_text("")
    (folder / "mine.py").write_text("import os\nprint('imported', __name__)\nassert os.path.isfile('mine.py')\n")
    for name, source in FAULTS.items():
        (folder / f"{name}.py").write_text(source)
    yield folder
    program.begin_with(())
    for name in ("mine", "beside", "near_by"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("words", [["--import", "mine"], ["--import=mine.py"], ["--import", "./mine.py"]])
def test_a_module_or_a_file_is_imported_and_what_is_typed_next_begins_with_it(
    words: list[str], capsys: Captured
) -> None:
    assert barlowctl([*words, "runs", "list"]) == 0
    name = words[-1].removeprefix("--import=")
    written = capsys.readouterr()
    assert written.err == "imported mine\n"  # standard output is the command's, a JSON document with --json
    assert written.out.splitlines() == [
        f"no run in {runs_home()}",
        f"next: barlowctl --import {name} pretrain --recipe quickstart",
    ]
    assert barlowctl(["runs", "list"]) == 0  # another command of the process imports nothing
    assert capsys.readouterr().out.splitlines()[-1] == "next: barlowctl pretrain --recipe quickstart"


def test_each_of_several_is_imported_once_and_a_file_finds_what_lies_beside_it(capsys: Captured, place: Path) -> None:
    words = ["--import", "mine", "--import", "sub/beside.py", "--import", "mine.py"]
    assert barlowctl([*words, "runs", "list"]) == 0
    written = capsys.readouterr()
    assert written.err == "imported mine\n"
    assert written.out.splitlines()[-1] == f"next: barlowctl {' '.join(words)} pretrain --recipe quickstart"
    assert sys.modules["beside"].__file__ == str(place / "sub" / "beside.py")
    assert "near_by" in sys.modules


def test_an_error_of_the_command_keeps_it(capsys: Captured) -> None:
    assert barlowctl(["--import", "mine", "prob", "x"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "next: barlowctl --import mine probe x"
    assert barlowctl(["--import", "mine", "pretrain", "--recipe", "nothing"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "next: barlowctl --import mine recipes list"


@pytest.mark.parametrize(
    ("name", "message", "advice"),
    [
        ("mnie", "there is no module 'mnie', did you mean 'mine'?", "barlowctl --import mine runs list"),
        ("mnie.py", "there is no file 'mnie.py', did you mean 'mine.py'?", "barlowctl --import mine.py runs list"),
        ("sub/besid.py", "there is no file 'sub/besid.py', did you mean 'sub/beside.py'?",
         "barlowctl --import sub/beside.py runs list"),
        ("no.such.thing", "there is no module 'no.such.thing'", "barlowctl --help"),
        ("probe", "there is no module 'probe': 'probe' is a command, and what is imported stands in front of it",
         "barlowctl --help"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_one_error(name: str, message: str, advice: str, capsys: Captured) -> None:
    assert barlowctl(["--import", name, "runs", "list"]) == 2
    assert capsys.readouterr().err.splitlines() == [f"error: --import {name}: {message}", ALLOWED, f"next: {advice}"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "ValueError: no luck, in {place}/broken.py, line 1"),
        ("needy.py", "ModuleNotFoundError: No module named 'nothing_of_this_name', in {place}/needy.py, line 1"),
        ("slip", "SyntaxError: invalid syntax (slip.py, line 1)"),
        (
            "leaving",
            "RuntimeError: SystemExit(3), which would end the whole process, in {place}/leaving.py, line 2",
        ),
    ],
)
def test_an_error_of_theirs_names_file_and_line_and_is_no_traceback(
    name: str, message: str, place: Path, capsys: Captured
) -> None:
    assert barlowctl(["--import", name, "runs", "list"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: --import {name}: {message.format(place=place)}",
        "allowed: a module that can be imported without an error",
        f"next: BARLOWCTL_DEBUG=1 barlowctl --import {name} runs list",
    ]
    assert name.removesuffix(".py") not in sys.modules


def test_a_file_that_is_named_as_another_module_is_refused(capsys: Captured) -> None:
    """It would stand in that one's place for everything that is imported later."""
    assert barlowctl(["--import", "json.py", "runs", "list"]) == 2
    error, allowed, advice = capsys.readouterr().err.splitlines()
    assert error.startswith("error: --import json.py: Python has another module named 'json', ")
    assert (allowed, advice) == ("allowed: a file whose name is no other module's", "next: rename json.py")


def test_behind_the_command_or_without_a_value_it_is_refused(capsys: Captured) -> None:
    assert barlowctl(["runs", "list", "--import", "mine", "--all"]) == 2
    error, allowed, advice = capsys.readouterr().err.splitlines()
    assert error == "error: --import stands in front of the command"
    assert allowed == "allowed: barlowctl --import my_networks runs ..."
    assert advice == "next: barlowctl --import mine runs list --all"
    for words in (["--import"], ["--import", "--help"], ["--import="]):
        assert barlowctl(words) == 2
        assert capsys.readouterr().err.startswith("error: --import is ")


def test_a_shell_completes_it_and_what_follows_it(place: Path) -> None:
    assert completion.modules("mi") == ["mine", "mine.py"]

    def completed(line: str) -> list[str]:
        environment = {
            **os.environ,
            "_BARLOWCTL_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
            "PYTHONPATH": str(Path(program.__file__).parents[1]),
        }
        code = "import sys; sys.argv[0] = 'barlowctl'; from barlowctl.cli.app import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()

    assert completed("barlowctl --import mi") == ["mine", "mine.py"]
    assert completed("barlowctl --import mine pret") == ["pretrain"]  # and prints nothing: it imports nothing
    (place / "own.py").write_text(OWN_METHODS)
    (place / "package").mkdir()
    (place / "package" / "__init__.py").write_text(OWN_METHODS.replace("heat", "cold"))
    line = "pretrain --set objective.args."
    assert completed(f"barlowctl --import own {line}") == [f"objective.args.{key}=" for key in ("heat", "queue", "w")]
    assert completed(f"barlowctl --import mine --import package {line}c") == ["objective.args.cold="]
    (place / "rates.py").write_text(OWN_OPTIMIZER)
    assert completed("barlowctl --import rates pretrain --set optimizer.args.") == ["optimizer.args.share="]
    # What no Python can read, or is not there.
    assert completed(f"barlowctl --import slip --import nothing {line}") == []
    assert completed(f"barlowctl {line}") == []


def test_a_run_of_a_network_that_is_not_registered_says_what_to_import(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """And imports nothing by itself: that would be a stranger's code."""
    (folder := tmp_path / "code").mkdir()
    (folder / "own_parts.py").write_text(SOURCE)
    monkeypatch.chdir(folder)
    try:
        assert barlowctl(["--import", "own_parts", "runs", "list"]) == 0
        pretrain(recipe, overrides=overrides("own_small"), out="own")
        forget()
        export = ["export", "own", "--out", "own.safetensors"]
        for here, name in ((folder, "own_parts"), (tmp_path, str(folder / "own_parts.py"))):
            monkeypatch.chdir(here)
            export[1] = os.path.relpath(folder / "own")
            capsys.readouterr()
            assert barlowctl(export) == 2
            advice = capsys.readouterr().err.splitlines()[-1]
            assert advice == f"next: barlowctl --import {name} {' '.join(export)}"
            assert "own_parts" not in sys.modules
            assert barlowctl(advice.split()[2:]) == 0
            assert Path("own.safetensors").is_file()
            forget()
        again = ["pretrain", "--recipe", os.path.relpath(folder / "own" / "recipe.toml"), "--out", "again"]
        program.begin_with(())
        capsys.readouterr()
        assert barlowctl(again) == 2
        error, _, advice = capsys.readouterr().err.splitlines()
        place = f"own_parts ({folder / 'own_parts.py'})"
        assert error.startswith(f"error: backbone 'own_small' is somebody's, which {place} registered with timm when ")
        assert advice == f"next: barlowctl --import {folder / 'own_parts.py'} {' '.join(again)}"
        assert barlowctl(advice.split()[2:]) == 0
    finally:
        forget()
