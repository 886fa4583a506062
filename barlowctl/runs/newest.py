"""The newest finished run of the runs home, which is taken where none is named."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from barlowctl.errors import UserError
from barlowctl.runs import rundir


def newest_finished() -> Path:
    """The most recently finished run of the runs home; one whose result.json is damaged where there is no other.

    Raises:
        UserError: there is none, or its result.json is damaged.
    """
    runs = [file.parent for file in rundir.runs_home().glob(f"*/{rundir.RESULT}")]
    if not runs:
        raise UserError(
            f"no finished run in '{rundir.runs_home()}'",
            allowed="a run's name or directory as argument (runs are looked for in BARLOWCTL_RUNS, else ./runs)",
            next="barlowctl pretrain --recipe quickstart",
        )
    whole = [run for run in runs if rundir.is_finished(run)]
    if not whole:
        rundir.result_of(max(runs, key=_written_at))
    return max(whole, key=_finished_at)


def _finished_at(run: Path) -> float:
    """When a run was finished: as it noted (a copy has another date); those of versions before by the file's date."""
    try:
        return datetime.fromisoformat(rundir.result_of(run)["finished"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return _written_at(run)


def _written_at(run: Path) -> float:
    return (run / rundir.RESULT).stat().st_mtime
