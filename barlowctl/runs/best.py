"""The best evaluation of each run by a measure, and where its weights are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barlowctl.criteria import CRITERIA, Criterion, best
from barlowctl.runs.history import History
from barlowctl.runs.rundir import checkpoint_of, checkpoints_of
from barlowctl.runs.states import damage


@dataclass(frozen=True)
class Choice:
    """A run's best evaluation, and the best one whose weights are there.

    Attributes:
        step, epoch, value: of the best evaluation; the epoch is counted from 1. ties: steps that are as good, later.
        weights: the checkpoint of that step; None: it is not there any more, or damaged.
        damaged: checkpoints of evaluations whose weights cannot be used, by name, with why.
        stored_step, stored_value: of the best evaluation whose checkpoint is there and whole; None: there is none.
    """

    run: History
    criterion: Criterion
    step: int
    epoch: int
    value: float
    ties: tuple[int, ...]
    weights: Path | None
    stored_step: int | None
    stored_value: float | None
    damaged: Mapping[str, str]

    @property
    def score(self) -> float:
        """The larger the better."""
        return self.criterion.score(self.value)

    @property
    def stored(self) -> Path | None:
        """The checkpoint of the best evaluation that has one."""
        return None if self.stored_step is None else checkpoint_of(self.run.path, self.stored_step)

    @property
    def subject(self) -> Path | None:
        """What `export` and `probe` are told: the run where that is its newest state, else the checkpoint.

        None: no evaluation has its checkpoint.
        """
        state = self.weights or self.stored
        if state is None:
            return None
        whole = [path for path in checkpoints_of(self.run.path) if path.name not in self.damaged]
        return self.run.path if state == whole[-1] else state

    @property
    def start(self) -> str | None:
        """The weights that the run began with, where they are what is best and no checkpoint has them."""
        if self.step > 0 or self.weights is not None:
            return None
        return self.run.about.get("recipe", {}).get("init", {}).get("weights") or None

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "run": self.run.name,
            "path": str(self.run.path),
            "state": self.run.state,
            "step": self.step,
            "epoch": self.epoch,
            self.criterion.name: self.value,
            "ties": list(self.ties),
            "weights": None if self.weights is None else str(self.weights),
            "damaged": dict(self.damaged),
            "start": self.start,
            "best_stored": None
            if self.stored is None
            else {"step": self.stored_step, self.criterion.name: self.stored_value, "weights": str(self.stored)},
        }


def measures(run: History, criterion: Criterion) -> bool:
    """Whether an evaluation of a run has a measure."""
    return best(criterion, _evaluations(run)) is not None


def _evaluations(run: History) -> list[Mapping[str, Any]]:
    return [record for record in run.records if record["event"] == "evaluation"]


def choose(run: History, criterion: Criterion, *, every_byte: bool = False) -> Choice | None:
    """The best evaluation of a run; None: it has none with that measure.

    Args:
        every_byte: see `barlowctl.runs.states.damage`; False looks at the sizes of the files of checkpoints alone.
    """
    evaluations = _evaluations(run)
    chosen = best(criterion, evaluations)
    if chosen is None:
        return None
    damaged = {path.name: why for path in checkpoints_of(run.path) if (why := damage(path, every_byte=every_byte))}

    def intact(step: int) -> Path | None:
        path = checkpoint_of(run.path, step)
        return None if path is None or path.name in damaged else path

    steps = [chosen.step, *chosen.ties]  # of several that are as good, one whose weights are there
    step = next((step for step in steps if intact(step) is not None), chosen.step)
    epoch = next(int(record["epoch"]) for record in evaluations if record["step"] == step)
    stored = best(criterion, [record for record in evaluations if intact(record["step"]) is not None])
    return Choice(
        run,
        criterion,
        step,
        epoch + 1,
        chosen.value,
        tuple(other for other in steps if other != step),
        intact(step),
        None if stored is None else stored.step,
        None if stored is None else stored.value,
        damaged,
    )


def rank(choices: Sequence[Choice]) -> list[Choice]:
    """The best first; of runs that are as good, in their order.

    Of the first weights that are there every byte is read.
    """
    ranked = sorted(choices, key=lambda choice: -choice.score)
    for place, choice in enumerate(ranked):
        if choice.subject is not None:
            ranked[place] = choose(choice.run, choice.criterion, every_byte=True) or choice
            if ranked[place].subject is not None:
                break
    return ranked


def first_measured(runs: Sequence[History]) -> Criterion | None:
    """What runs are chosen by where nothing is said: the first of `CRITERIA` that one of them has."""
    return next((own for own in CRITERIA.values() if any(measures(run, own) for run in runs)), None)


def differences(choices: Sequence[Choice]) -> dict[str, list[str]]:
    """What makes values of several runs incomparable: its name -> the value of each run, in their order.

    Images and how evaluation is set up; for ranks also the widths of backbone and projector.
    """
    if len(choices) < 2:
        return {}
    columns: dict[str, list[str]] = {}
    for choice in choices:
        for key, value in _measured_on(choice).items():
            columns.setdefault(key, []).append(value)
    return {key: values for key, values in columns.items() if len(set(values)) > 1 and len(values) == len(choices)}


def _measured_on(choice: Choice) -> dict[str, str]:
    about = choice.run.about
    recipe: Mapping[str, Any] = about.get("recipe") or {}
    images = choice.run.images or {}
    values = {"images": str(images["digest"])[:8] if "digest" in images else "not noted"}
    values |= {f"eval.{key}": str(value) for key, value in recipe.get("eval", {}).items() if _matters(key, choice)}
    if choice.criterion.width_matters:
        model = recipe.get("model", {})
        values |= {
            f"model.{key}": str(model[key]) for key in ("backbone", "backbone_args", "projector") if key in model
        }
    return values


def _matters(key: str, choice: Choice) -> bool:
    """Whether a key of `eval` changes what the measure means."""
    if key.startswith("lidar"):
        return "lidar" in choice.criterion.name
    if key in ("queries", "max_queries"):
        return choice.criterion.labels
    return key in ("bank", "resize", "crop")
