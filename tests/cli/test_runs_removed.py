"""`barlowctl runs remove`: each run is whole or gone, and what is needed elsewhere stays."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest

from barlowctl import files
from barlowctl.cli.app import run as barlowctl
from barlowctl.cli.console import Console

Captured = pytest.CaptureFixture[str]
MEASURED = shutil.ignore_patterns("probe*", "transfer*")
"""What other tests may have left in a run that all of them share."""


@pytest.fixture
def runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs home with `first`, `second`, which started from the weights of `first`, and `third`."""
    home = tmp_path / "runs"
    for name in ("first", "second", "third"):
        shutil.copytree(trained, home / name, ignore=MEASURED)
    about = json.loads((home / "second" / "run.json").read_text())
    about["recipe"]["init"] = {"weights": str(home / "first" / "checkpoints" / "step-00000010")}
    (home / "second" / "run.json").write_text(json.dumps(about))
    (home / "third" / "probe-digits.json").write_text("{}")
    monkeypatch.setenv("BARLOWCTL_RUNS", str(home))
    monkeypatch.chdir(tmp_path)
    return home


def names(runs: Path) -> set[str]:
    return {path.name for path in runs.iterdir()}


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_run_is_removed_and_what_it_frees_is_said(runs: Path, capsys: Captured) -> None:
    freed = size(runs / "third")
    assert barlowctl(["runs", "remove", "third", "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["removed"], document["bytes"]) == (False, freed)
    assert names(runs) == {"first", "second", "third"}
    assert barlowctl(["runs", "remove", "third", str(runs / "third"), "--yes", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["removed"], document["bytes"], document["not_removed"]) == (True, freed, [])
    (removed,) = document["runs"]
    assert (removed["state"], removed["checkpoints"], removed["others"]) == ("finished", 2, ["probe-digits.json"])
    assert names(runs) == {"first", "second"}


def test_nothing_is_removed_that_nobody_said_yes_to(
    runs: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert barlowctl(["runs", "remove", "third"]) == 2
    assert "next: barlowctl runs remove third --yes" in capsys.readouterr().err
    monkeypatch.setattr(Console, "can_ask", True)
    questions = []
    for answer, rest in ((False, {"first", "second", "third"}), (True, {"first", "second"})):
        monkeypatch.setattr(Console, "confirm", lambda self, text, answer=answer: questions.append(text) or answer)
        assert barlowctl(["runs", "remove", "third"]) == 0
        assert names(runs) == rest
    assert questions[0].startswith("remove 1 run, ")
    assert "nothing was removed" in capsys.readouterr().out


def test_a_run_that_another_started_from_stays_unless_forced(runs: Path, capsys: Captured) -> None:
    assert barlowctl(["runs", "remove", "third", "first", "--yes"]) == 2
    err = capsys.readouterr().err
    assert f"the weights that '{runs / 'second'}' started from are in '{runs / 'first'}'" in err
    assert "next: barlowctl runs remove third first --yes --force" in err
    assert names(runs) == {"first", "second", "third"}
    assert barlowctl(["runs", "remove", "first", "second", "--dry-run"]) == 0  # both go
    assert barlowctl(["runs", "remove", "first", "--yes", "--force"]) == 0
    assert names(runs) == {"second", "third"}


def test_a_cell_of_a_study_stays_unless_forced(runs: Path, capsys: Captured) -> None:
    study = runs.parent / "study"
    cell = study / "cells" / "baseline-12345678" / "seed-0"
    shutil.copytree(runs / "third", cell)
    (study / "study.json").write_text("{}")
    assert barlowctl(["runs", "remove", str(cell), "--yes"]) == 2
    assert f"'{cell}' is a cell of the study in '{study}'" in capsys.readouterr().err
    assert barlowctl(["runs", "remove", str(cell), "--yes", "--force"]) == 0
    assert not cell.exists()


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_run_that_is_being_trained_is_never_removed(runs: Path, capsys: Captured, force: list[str]) -> None:
    with open(runs / "third" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 7 on there")
        lock.flush()
        assert barlowctl(["runs", "remove", "second", "third", "--yes", *force]) == 2
    assert "'runs/third' is being trained by process 7 on there" in capsys.readouterr().err.replace(
        f"{runs.parent}/", ""
    )
    assert names(runs) == {"first", "second", "third"}


def test_runs_that_lie_in_a_run_and_links_are_not_removed_with_it(runs: Path, capsys: Captured) -> None:
    shutil.copytree(runs / "third", runs / "third" / "mine" / "inner")
    assert barlowctl(["runs", "remove", "third", "--yes", "--force"]) == 2
    assert f"'{runs / 'third' / 'mine' / 'inner'}', another run, lies in it" in capsys.readouterr().err
    (runs / "link").symlink_to(runs / "second")
    assert barlowctl(["runs", "remove", "link", "--yes"]) == 2
    assert f"is a link to '{runs / 'second'}'" in capsys.readouterr().err
    assert names(runs) == {"first", "second", "third", "link"}


def test_a_damaged_run_can_be_removed(runs: Path, capsys: Captured) -> None:
    (runs / "third" / "run.json").write_text("{")
    assert barlowctl(["runs", "remove", "third", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["state"] == "damaged"
    assert names(runs) == {"first", "second"}


def test_where_one_cannot_be_removed_all_stay(runs: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = files.put_aside

    def put_aside(path: Path) -> Path:
        if path.name == "second":
            raise OSError(13, os.strerror(13), str(path))
        return plain(path)

    before = size(runs)
    monkeypatch.setattr(files, "put_aside", put_aside)
    assert barlowctl(["runs", "remove", "third", "second", "--yes"]) == 2
    assert "cannot be removed: Permission denied; nothing was removed" in capsys.readouterr().err
    assert names(runs) == {"first", "second", "third"}
    assert size(runs) == before


def test_what_could_not_be_removed_is_named(runs: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is gone from the list; the rest of its files lies under another name, which is said."""
    monkeypatch.setattr(files, "remove", lambda path: None)
    assert barlowctl(["runs", "remove", "third", "--yes"]) == 0
    (rest,) = names(runs) - {"first", "second"}
    assert f"the rest is in {runs / rest}" in " ".join(capsys.readouterr().out.split())
    assert barlowctl(["runs", "list"]) == 0
    assert "third" not in capsys.readouterr().out
