"""Several processes of the command line, in the slots of a pool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barlowctl import __version__
from barlowctl.launchers.pool import Slot, run_all


@dataclass(frozen=True)
class Task:
    label: str
    log: Path
    words: tuple[str, ...]


def test_each_task_has_its_log_and_a_failure_is_told_by_its_last_line(tmp_path: Path) -> None:
    version = Task("version", tmp_path / "logs" / "version.log", ("--version",))
    wrong = Task("wrong", tmp_path / "logs" / "wrong.log", ("recipes", "show", "quickstar"))
    reported: list[tuple[str, str | None]] = []
    failures = run_all(
        [version, wrong],
        [Slot("cpu", 1)],
        lambda task, slot: [*task.words],
        lambda task, what: reported.append((task.label, what)),
    )
    assert version.log.read_text().strip() == f"barlowctl {__version__}"
    assert list(failures) == ["wrong"]
    assert "did you mean 'quickstart'" in failures["wrong"]
    assert reported == [("version", "started"), ("version", None), ("wrong", "started"), ("wrong", failures["wrong"])]
