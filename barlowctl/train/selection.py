"""The best evaluation of a run so far: whose state is kept, and when a run ends because it gets no better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from barlowctl.criteria import CRITERIA, Criterion, when
from barlowctl.train.events import Event, Notice

KEEP, END = 1, 2
"""What is decided after an evaluation: the state now is the best and is to be kept; the run ends here."""


@dataclass
class BestSoFar:
    """The best of the evaluations that were counted.

    Attributes:
        step, epoch, value: of the best one, the earliest of those that are as good; step -1: there is none yet.
        since: evaluations after it. counted: step of the newest one; what is measured of it again is not counted twice.
    """

    step: int = -1
    epoch: int = -1
    value: float = math.nan
    since: int = 0
    counted: int = -1

    def count(self, criterion: Criterion, step: int, epoch: int, value: float) -> None:
        """One more evaluation."""
        if step <= self.counted:
            return
        self.counted = step
        if self.step < 0 or criterion.score(value) > criterion.score(self.value):
            self.step, self.epoch, self.value, self.since = step, epoch, value, 0
        else:
            self.since += 1


@dataclass
class Selection:
    """What a run selects by its online evaluations. It is part of the checkpoint.

    Attributes:
        keep: the measure by which the best state is kept; None: none is. stop, patience: the run ends when this
            measure has not improved for so many evaluations; None: it does not.
    """

    keep: Criterion | None = None
    stop: Criterion | None = None
    patience: int = 0
    best: BestSoFar = field(default_factory=BestSoFar)
    watched: BestSoFar = field(default_factory=BestSoFar)
    _lacking: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, keep: str, stop: str, patience: int, saved: Mapping[str, Any] | None = None) -> Selection:
        """By the names of measures, or "off". `saved`: what an earlier process of the run came to (`state`)."""
        made = cls(CRITERIA.get(keep), CRITERIA.get(stop), patience)
        if saved:
            made.best, made.watched = BestSoFar(**saved["best"]), BestSoFar(**saved["watched"])
        return made

    def state(self) -> dict[str, Any]:
        """What goes into a checkpoint."""
        return {"best": asdict(self.best), "watched": asdict(self.watched)}

    @property
    def best_step(self) -> int | None:
        """The step whose checkpoint is not removed; None: no evaluation asks for one."""
        return self.best.step if self.keep is not None and self.best.step >= 0 else None

    def decide(self, step: int, epoch: int, values: Mapping[str, float], say: Callable[[Event], None]) -> int:
        """What follows from an evaluation: `KEEP`, `END`, both (their sum) or 0."""
        decision = 0
        if self._has(self.keep, "train.keep_best", epoch, values, say):
            assert self.keep is not None
            self.best.count(self.keep, step, epoch, values[self.keep.name])
            decision |= KEEP if self.best.step == step else 0
        if self._has(self.stop, "train.stop", epoch, values, say):
            assert self.stop is not None
            self.watched.count(self.stop, step, epoch, values[self.stop.name])
            decision |= END if self.is_over else 0
        return decision

    @property
    def is_over(self) -> bool:
        """Whether the measure has not improved for long enough."""
        return self.stop is not None and self.watched.since >= self.patience

    def result(self, *, early: bool) -> dict[str, Any]:
        """What a run's result says of it. `early`: it has ended before its last step."""
        values: dict[str, Any] = {}
        if self.keep is not None and self.best.step >= 0:
            best = self.best
            values["best"] = {"by": self.keep.name, "value": best.value, "step": best.step, "epoch": best.epoch + 1}
        if early and self.stop is not None and self.is_over:
            best = self.watched
            evaluations = f"{best.since} evaluation{'s' * (best.since > 1)}"
            values["stopped_early"] = (
                f"{self.stop.name} has not improved for {evaluations}; the best, {best.value:.5g}, was "
                f"{when(best.epoch)} (step {best.step})"
            )
        return values

    def _has(
        self,
        criterion: Criterion | None,
        key: str,
        epoch: int,
        values: Mapping[str, float],
        say: Callable[[Event], None],
    ) -> bool:
        """Whether an evaluation has the measure; that it has not is said once."""
        if criterion is None:
            return False
        if math.isfinite(values.get(criterion.name, math.nan)):
            return True
        if key not in self._lacking:
            self._lacking.add(key)
            say(Notice(f"{key} is {criterion.name}, which the evaluation {when(epoch)} lacks: not counted"))
        return False
