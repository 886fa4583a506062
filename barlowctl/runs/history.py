"""A run read from outside while it goes on or after: its state, its records, its checkpoints.

Nothing here needs torch, and nothing disturbs the process that trains.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from barlowctl.errors import UserError
from barlowctl.files import PARTIAL
from barlowctl.runs import records, rundir

NOTICES = "notices.jsonl"
"""What was said while a run trained: an object a line, with the time and the text."""
NOTE = "note.txt"
"""What a person wrote on a run."""
PROBES = "probes"
"""In the runs home: the folder of measurements of what is no run."""
State = Literal["running", "finished", "stopped"]
TERMS_OF_BEFORE = {
    "invariance": "Σ (1 − Cᵢᵢ)²: what the distortions change",
    "redundancy": "Σ Cᵢⱼ², before lambd: what dimensions share",
}
"""The terms of runs that did not note theirs: all were Barlow Twins."""


@dataclass(frozen=True)
class History:
    """A run as its directory tells it, at the moment of reading.

    records: the lines of metrics.jsonl, oldest first. about: run.json. result: result.json, empty until the
    run is finished. seen: seconds since something was recorded.
    """

    path: Path
    state: State
    about: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any]
    seen: float

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def last(self) -> dict[str, Any]:
        """The newest value under every name."""
        values: dict[str, Any] = {}
        for record in self.records:
            values |= record
        return values

    @property
    def notices(self) -> list[str]:
        """What was said while it trained, each once, in its order; empty for runs of versions that did not note it."""
        file = self.path / NOTICES
        lines = file.read_bytes().splitlines() if file.is_file() else []
        return list(dict.fromkeys(text for line in lines if (text := _text(line))))

    @property
    def damage(self) -> str:
        """What its metrics.jsonl has lost, in words; empty where it is whole."""
        return lost_records(self.path, self.about, self.result, running=self.state == "running")

    @property
    def note(self) -> str:
        """The note that a person wrote on it; empty where there is none."""
        return note_of(self.path)

    @property
    def images(self) -> Mapping[str, Any] | None:
        """images (their number) and digest of what the run was trained on; None where that was not noted."""
        return rundir.fingerprint(self.about)

    @property
    def terms(self) -> Mapping[str, str]:
        """The terms of the loss: name -> what it says."""
        return terms_of(self.about)

    @property
    def step(self) -> int:
        """The newest step of which there is a record, or a checkpoint: a run that is stopped saves between records."""
        return max([int(self.last.get("step", 0)), *_saved_steps(self.path)])

    @property
    def total_steps(self) -> int | None:
        """None for runs of versions that did not note it."""
        length = self.about.get("length", {})
        return steps_of(length) if length else None

    def curve(self, key: str) -> list[tuple[int, float]]:
        """(step, value) of `loss`, its terms, `knn`, ...; empty where there is none. Epoch means are left out."""
        records = [record for record in self.records if record["event"] != "epoch" and key in record]
        return [(int(record["step"]), float(record[key])) for record in records]

    def best(self, key: str) -> float | None:
        """The largest value of a curve."""
        values = [value for _, value in self.curve(key)]
        return max(values) if values else None


def lost_records(run: Path, about: Mapping[str, Any], result: Mapping[str, Any], *, running: bool) -> str:
    """What a run's metrics.jsonl has lost, in words; empty where it is whole.

    Args:
        about: its run.json. result: its result.json, empty until it is finished.
    """
    return records.damage(
        run / "metrics.jsonl",
        running=running,
        made=0 if running else max([int(result.get("steps", 0)), *_saved_steps(run)]),
        log_every=about.get("recipe", {}).get("train", {}).get("log_every_steps"),
    )


def _saved_steps(run: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in rundir.checkpoints_of(run)]


def note_of(run: Path) -> str:
    """The note that a person wrote on a run; empty where there is none."""
    try:
        return (run / NOTE).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def terms_of(about: Mapping[str, Any]) -> Mapping[str, str]:
    """The terms of a run's loss, from its run.json: name -> what it says, in their order."""
    terms: Mapping[str, str] = about.get("terms", TERMS_OF_BEFORE)
    return terms


def read(run: Path) -> History:
    """Read a run directory.

    Raises:
        UserError: it is not a run.
    """
    about = rundir.read_json(run / "run.json")
    metrics = run / "metrics.jsonl"
    result = rundir.result_of(run)
    newest = max(path.stat().st_mtime for path in (metrics, run / "run.json") if path.exists())
    state: State = "finished" if result else "running" if rundir.is_held(run) else "stopped"
    return History(run, state, about, tuple(records.read(metrics)), result, max(0.0, time.time() - newest))


def find_all(home: Path) -> list[History]:
    """The runs in a folder, newest first; what is damaged is left out."""
    return scan(home)[0]


def scan(home: Path) -> tuple[list[History], list[tuple[Path, UserError]]]:
    """The runs in a folder, newest first, of the same second by name; and those that cannot be read, with why."""
    runs, damaged = [], []
    for folder in _folders(home):
        try:
            runs.append(read(folder))
        except UserError as error:
            damaged.append((folder, error))
    return sorted(runs, key=begun, reverse=True), damaged


def opened(names: Sequence[str]) -> tuple[list[History], list[str]]:
    """The runs that were named, each once; without names those of the runs home, newest first.

    And notes: what cannot be read of that folder.

    Raises:
        UserError: a name that is no run, or a damaged one.
    """
    if names:
        paths, left_out = named(names)
        return [read(path) for path in dict.fromkeys(path.resolve() for path in paths)], left_out
    runs, damaged = scan(rundir.runs_home())
    return runs, [f"left out: {error.message}" for _, error in damaged]


def named(names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The directories of several runs, and notes: the folder of probes is left out, which `runs/*` names too.

    Raises:
        UserError: a name that is no run.
    """
    probes = (rundir.runs_home() / PROBES).absolute()
    others = [name for name in names if Path(name).absolute() != probes or rundir.is_run(Path(name))]
    if not others:
        others = list(names)
    left_out = [f"left out: '{name}' holds probes of networks that are no runs" for name in names if name not in others]
    return [rundir.find(name) for name in others], left_out


def begun(run: History) -> str:
    """When a run began, as run.json has it: the order of runs. Of one second they are in that of their names."""
    return str(run.about.get("started", ""))


def _folders(home: Path) -> list[Path]:
    """The folders of runs; not those that a killed process was making, by name."""
    folders = {file.parent for name in ("run.json", "recipe.toml") for file in home.glob(f"*/{name}")}
    return sorted(folder for folder in folders if not folder.name.startswith(PARTIAL))


def find(name: str | None) -> Path:
    """The directory of a run by path, or by name in the runs home; the newest one without a name.

    Raises:
        UserError: there is none.
    """
    if name is not None:
        return rundir.find(name)
    runs = find_all(rundir.runs_home())
    if not runs:
        raise UserError(f"no run in '{rundir.runs_home()}'", next="barlowctl pretrain --recipe quickstart")
    return runs[0].path


def _text(line: bytes) -> str:
    """The text of a notice; empty of what a crash of the machine left."""
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError):
        return ""
    return text if isinstance(text, str) else ""


def steps_of(length: Mapping[str, Any]) -> int:
    """Steps of a run, from what it noted of its length; runs of earlier versions had whole epochs."""
    return int(length.get("steps", length["epochs"] * length["steps_per_epoch"]))
