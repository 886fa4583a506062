"""Notes on runs, and other names for them: nothing that was trained is touched, nothing is lost."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import pytest

from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs home with `first`, and `second`, which started from its weights."""
    home = tmp_path / "runs"
    for name in ("first", "second"):
        shutil.copytree(trained, home / name)
    about = json.loads((home / "second" / "run.json").read_text())
    about["recipe"]["init"] = {"weights": str(home / "first")}
    (home / "second" / "run.json").write_text(json.dumps(about))
    monkeypatch.setenv("BARLOWCTL_RUNS", "runs")
    monkeypatch.chdir(tmp_path)
    return home


def documents(capsys: Captured, *arguments: str) -> dict:
    assert barlowctl(["runs", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def weights(run: Path) -> dict[Path, bytes]:
    return {path.relative_to(run): path.read_bytes() for path in run.rglob("*.safetensors")}


def test_a_note_is_shown_wherever_the_run_is(runs: Path, capsys: Captured) -> None:
    assert barlowctl(["runs", "list"]) == 0
    assert "note" not in capsys.readouterr().out.split("next:")[0]
    text = "seed 0: [bold] für Tabelle 3"
    assert documents(capsys, "note", "first", f" {text} ")["note"] == text
    assert {run["name"]: run["note"] for run in documents(capsys, "list")["runs"]} == {"first": text, "second": ""}
    for command in (["list"], ["show", "first"], ["note", "first"]):
        assert barlowctl(["runs", *command]) == 0
        assert text in capsys.readouterr().out
    assert documents(capsys, "note", "first", "--clear")["note"] == ""
    assert not (runs / "first" / "note.txt").exists()


def test_a_note_in_a_folder_that_is_another_s(runs: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way on was said to be the run's resumption."""

    def refused(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("barlowctl.files.write_bytes", refused)
    assert barlowctl(["runs", "note", "first", "seed 0"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: 'runs/first/note.txt' cannot be written: Permission denied",
        "next: ls -ld runs/first",
    ]


def test_a_run_has_another_name_and_all_that_it_had(runs: Path, capsys: Captured) -> None:
    before = weights(runs / "first")
    document = documents(capsys, "rename", "first", "best")
    assert document == {"run": "runs/best", "before": "runs/first", "started_from_it": [str(runs / "second")]}
    assert {
        path.relative_to(runs / "best"): path.read_bytes() for path in (runs / "best").rglob("*.safetensors")
    } == before
    assert {run["name"] for run in documents(capsys, "list")["runs"]} == {"best", "second"}
    assert documents(capsys, "show", "best")["state"] == "finished"


@pytest.mark.parametrize("name", ["", " ", "..", ".hidden", "-x", "a/b", "second"])
def test_a_name_that_is_none_or_taken_is_refused(runs: Path, capsys: Captured, name: str) -> None:
    assert (
        barlowctl(
            ["runs", "rename", "first", "--", name] if name.startswith("-") else ["runs", "rename", "first", name]
        )
        == 2
    )
    assert "error: " in capsys.readouterr().err
    assert {path.name for path in runs.iterdir()} == {"first", "second"}


def test_a_run_that_is_being_trained_keeps_its_name(runs: Path, capsys: Captured) -> None:
    with open(runs / "first" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert barlowctl(["runs", "rename", "first", "best"]) == 2
    assert "is being trained by another process" in capsys.readouterr().err
    assert (runs / "first").is_dir()
