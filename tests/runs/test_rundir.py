"""A run's directory: found by its place or its name, and the newest one that is finished."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from barlowctl.errors import UserError
from barlowctl.runs import rundir
from barlowctl.runs.newest import newest_finished


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs home with the runs `first` and `half`, in a folder that the test is in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARLOWCTL_RUNS", str(tmp_path / "runs"))
    for name in ("first", "half"):
        make(tmp_path / "runs" / name)
    return tmp_path / "runs"


def make(folder: Path) -> None:
    folder.mkdir(parents=True)
    for file in ("recipe.toml", "run.json"):
        (folder / file).write_text("{}")


def test_the_newest_finished_run_is_the_one_that_says_so(home: Path) -> None:
    """By the time that it noted, since a copy has a date of its own; a run of an earlier version has only that."""

    def finish(name: str, noted: str | None, date: float) -> None:
        file = home / name / "result.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"steps": 20} | ({"finished": noted} if noted else {})))
        os.utime(file, (date, date))

    with pytest.raises(UserError, match="no finished run"):
        newest_finished()
    finish("first", "2026-11-26T12:00:00.250+00:00", 2e9)
    finish("half", "2026-11-26T13:00:00.500+02:00", 3e9)
    assert newest_finished() == home / "first"
    finish("old", None, 1.9e9)  # 2030
    assert newest_finished() == home / "old"
    finish("old", None, 1.7e9)  # 2023
    assert newest_finished() == home / "first"
    (home / "half" / "result.json").write_text('{"finished": "2027-01-01T12:00:00.250+00:00", "st')
    assert newest_finished() == home / "first"
    (home / "first" / "result.json").write_text("{}")
    (home / "old" / "result.json").unlink()
    with pytest.raises(UserError, match=r"/result.json. is damaged: "):
        newest_finished()


def test_checkpoints_are_in_the_order_of_their_steps(home: Path) -> None:
    assert rundir.checkpoints_of(home / "first") == []
    names = ["step-00000005", "step-99999999", "step-100000000"]
    for name in (*reversed(names), "step-00000010.part", "step-7"):
        (home / "first" / "checkpoints" / name).mkdir(parents=True)
    (home / "first" / "checkpoints" / "step-00000020").touch()
    assert [path.name for path in rundir.checkpoints_of(home / "first")] == names
    assert rundir.run_of_checkpoint(home / "first" / "checkpoints" / names[0]) == home / "first"
    assert rundir.run_of_checkpoint(home / "first" / "checkpoints" / "step-7") is None


def test_a_directory_comes_before_a_name(home: Path, tmp_path: Path) -> None:
    assert rundir.find("first") == home / "first"
    make(tmp_path / "first")
    assert rundir.find("first") == Path("first")
    assert rundir.find(str(home / "half")) == home / "half"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="it has no recipe"):
        rundir.find("empty")
    with pytest.raises(UserError, match="did you mean 'half'"):
        rundir.find("hafl")


def test_a_lock_that_cannot_be_cleared_does_not_hide_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has become read-only, or a file server that has lost the file, fails there once more."""

    class Lost(io.StringIO):
        def truncate(self, size: int | None = None) -> int:
            if self.read():
                raise OSError(errno.ESTALE, "Stale file handle")
            self.write("held")
            return self.seek(0)

    monkeypatch.setattr(rundir, "holding", lambda path, patience: contextlib.nullcontext(Lost()))
    with pytest.raises(UserError, match="what went wrong"), rundir.lock(tmp_path):
        raise UserError("what went wrong")
    with rundir.lock(tmp_path):
        pass


def test_a_lock_of_one_s_own_that_is_read_only_is_refused_as_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`touch` succeeds on it; root, who may write, gets the system's answer to others."""
    (tmp_path / "lock").touch()
    opened = io.open

    def refused(path: str | Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if Path(path).name == "lock" and set(mode) & set("wa+"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, mode, *arguments, **options)

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(UserError, match="cannot be written to: Permission denied") as error, rundir.lock(tmp_path):
        pass
    assert error.value.next == "make it writable, or start a run elsewhere"


def test_a_full_disk_keeps_nobody_from_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds it is then not known; the error of a disk without room had no file's name and no room."""

    def full(path: Path, text: str, **options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with rundir.lock(tmp_path):
        holder = (tmp_path / "lock").read_text()
        assert holder.startswith("process ")
    monkeypatch.setattr(Path, "write_text", full)
    with rundir.lock(tmp_path):
        assert rundir.is_held(tmp_path)
        with pytest.raises(UserError, match="is being trained by another process"), rundir.lock(tmp_path):
            pass
