"""`barlowctl recipes` and the entry point itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from barlowctl import own_code
from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]


def test_the_list_breaks_no_name(capsys: Captured) -> None:
    from barlowctl.recipe import catalog

    assert barlowctl(["recipes", "list"]) == 0
    first = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert set(catalog.shipped()) <= first


def test_list_show_copy_diff(tmp_path: Path, capsys: Captured) -> None:
    assert barlowctl(["recipes", "list", "--json"]) == 0
    names = [recipe["name"] for recipe in json.loads(capsys.readouterr().out)["recipes"]]
    assert {"quickstart", "resnet50"} <= set(names)
    assert barlowctl(["recipes", "show", "resnet50"]) == 0
    assert "W 16" in capsys.readouterr().out  # the file as written, with its reasons
    assert barlowctl(["recipes", "show", "resnet50", "--resolved", "--set", "train.epochs=50"]) == 0
    assert "epochs = 50" in capsys.readouterr().out
    target = tmp_path / "mine.toml"
    assert barlowctl(["recipes", "copy", "quickstart", str(target)]) == 0
    assert target.is_file()
    capsys.readouterr()
    assert barlowctl(["recipes", "diff", "resnet50", "resnet50-300ep", "--json"]) == 0
    differences = json.loads(capsys.readouterr().out)["differences"]
    assert {"key": "train.epochs", "first": 1000, "second": 300} in differences
    assert barlowctl(["recipes", "show", "resnet5"]) == 2
    assert "did you mean 'resnet50'" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    """What makes --help slow is an import; a clock would measure the machine instead."""
    code = (
        "import sys\n"
        "from barlowctl.cli.app import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'torch', 'numba', 'timm', 'numpy', 'pydantic', 'torchvision', 'PIL', 'ffcv', 'rich.console'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("pretrain", "probe", "ablate", "export", "data", "recipes", "doctor"):
        assert command in done.stdout


def test_a_wrong_command_is_answered(capsys: Captured) -> None:
    assert barlowctl(["pretrian"]) == 2
    message = capsys.readouterr().err
    assert "pretrian" in message
    assert "next: barlowctl" in message


def raising(error: Exception, file: Path) -> Callable[[], dict[str, Path]]:
    """A function of a file, in whose second line the error comes up."""
    names: dict[str, Any] = {"error": error}
    exec(compile("def broken():\n    raise error", str(file), "exec"), names)
    function: Callable[[], dict[str, Path]] = names["broken"]
    return function


def exit_code_of(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of a command in whose code the error comes up."""
    from barlowctl.recipe import catalog

    monkeypatch.setattr(catalog, "shipped", raising(error, own_code.PACKAGE / "made.py"))
    return barlowctl(["recipes", "list"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("operator torchvision::nms does not exist"),
            "torchvision's operators do not fit the torch that is installed",
        ),
        (
            ImportError("libcudart.so.13: cannot open shared object file\nand more", name="torch._C"),
            "package torch cannot be imported: ImportError: libcudart.so.13: cannot open shared object file",
        ),
        (ModuleNotFoundError("No module named 'timm'", name="timm"), "package timm cannot be imported"),
    ],
)
def test_a_broken_package_is_named(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    assert exit_code_of(error, monkeypatch) == 2
    captured = capsys.readouterr().err
    assert captured.startswith(f"error: {message}")
    assert "next: barlowctl doctor" in captured
    assert "and more" not in captured


def test_a_module_of_ours_that_is_missing_is_a_fault_of_ours(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code_of(ImportError("cannot import name 'x'", name="barlowctl.recipe"), monkeypatch) == 1
    assert capsys.readouterr().err.startswith("error: internal error: ImportError")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError("Unable to allocate 3 TiB"), "the machine's memory ran out: Unable to allocate 3 TiB"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3000000000000 bytes."),
            "2,794",
        ),
    ],
)
def test_memory_that_runs_out_anywhere_is_no_fault_of_ours(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    assert exit_code_of(error, monkeypatch) == 2
    captured = capsys.readouterr().err
    assert captured.startswith("error: the machine's memory ran out")
    assert says in captured
    assert "next: barlowctl doctor" in captured


def test_a_fault_of_ours_is_one_line_too(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code_of(ZeroDivisionError("oops\n" + "and a compiler's whole output\n" * 100), monkeypatch) == 1
    captured = capsys.readouterr().err
    assert captured.startswith("error: internal error: ZeroDivisionError: oops")
    assert "BARLOWCTL_DEBUG=1" in captured
    assert "compiler" not in captured
    monkeypatch.setenv("BARLOWCTL_DEBUG", "1")
    assert barlowctl(["recipes", "list"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_error_of_somebodys_own_code_names_its_file_and_line(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A network that is registered with timm is called by a command; so is what it calls in turn."""
    from barlowctl.recipe import catalog

    file = tmp_path / "my_networks.py"
    monkeypatch.setattr(catalog, "shipped", raising(ValueError("my own mistake"), file))
    assert barlowctl(["recipes", "list"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {file}, line 2: ValueError: my own mistake\n")
    names: dict[str, Any] = {"json": json}
    exec(compile("def broken():\n\n    json.loads('no JSON')", str(file), "exec"), names)
    monkeypatch.setattr(catalog, "shipped", names["broken"])
    assert barlowctl(["recipes", "list"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {file}, line 3: JSONDecodeError: Expecting value")
    calls_ours = {"load": raising(ValueError("ours"), own_code.PACKAGE / "made.py")}
    exec(compile("def broken():\n    load()", str(file), "exec"), calls_ours)
    monkeypatch.setattr(catalog, "shipped", calls_ours["broken"])
    assert barlowctl(["recipes", "list"]) == 1
    assert capsys.readouterr().err.startswith("error: internal error: ValueError: ours\n")
