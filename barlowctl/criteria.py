"""What a run, or a state of it, can be chosen by: measures of the online evaluation, and which value is the better one.

A leaf: plain values, standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Name = Literal["knn", "linear", "lidar", "feature_lidar", "rankme", "effective_rank", "alpha"]
OrOff = Literal["off", "knn", "linear", "lidar", "feature_lidar", "rankme", "effective_rank", "alpha"]


@dataclass(frozen=True)
class Criterion:
    """A measure under its name in metrics.jsonl.

    Attributes:
        title: for people. measured_by: what in a recipe makes a run measure it, in words.
        nearest: the value that is best; None: the higher the better.
        labels: whether it is measured with labels.
        width_matters: whether values of networks of other widths are on another scale.
    """

    name: str
    title: str
    measured_by: str
    nearest: float | None = None
    labels: bool = False
    width_matters: bool = False

    def score(self, value: float) -> float:
        """A number that is larger where the value is better; minus infinity of a value that is none."""
        if not math.isfinite(value):
            return -math.inf
        return value if self.nearest is None else -abs(value - self.nearest)

    @property
    def rule(self) -> str:
        """Which value is best, in words."""
        return "the highest" if self.nearest is None else f"the nearest to {self.nearest:g}"


_QUERIES = 'eval.queries = "holdout" or "val", of images with labels'
CRITERIA: Mapping[str, Criterion] = {
    criterion.name: criterion
    for criterion in (
        Criterion("knn", "online kNN", _QUERIES, labels=True),
        Criterion("linear", "online linear", f"eval.linear = true and {_QUERIES}", labels=True),
        Criterion("lidar", "LiDAR", "eval.lidar_images = 1000", width_matters=True),
        Criterion("feature_lidar", "LiDAR of the features", "eval.lidar_images = 1000", width_matters=True),
        Criterion("rankme", "RankMe", "every evaluation since November 2026", width_matters=True),
        Criterion("effective_rank", "effective rank of the features", "every evaluation", width_matters=True),
        Criterion("alpha", "alpha", "every evaluation", nearest=1.0),
    )
}
"""By name, the first of which that a run has is what it is chosen by where nothing is said."""


class Best(NamedTuple):
    """The best of several evaluations: step, epoch (from 0), value, and the later steps that are as good."""

    step: int
    epoch: int
    value: float
    ties: tuple[int, ...]


def best(criterion: Criterion, evaluations: Iterable[Mapping[str, Any]]) -> Best | None:
    """The earliest of the best evaluations; None: none of them has the measure.

    Args:
        evaluations: `step`, `epoch` and measures of each, oldest first.
    """
    having = [record for record in evaluations if criterion.score(_value(record, criterion)) > -math.inf]
    if not having:
        return None
    highest = max(criterion.score(_value(record, criterion)) for record in having)
    first, *others = (record for record in having if criterion.score(_value(record, criterion)) == highest)
    ties = tuple(int(record["step"]) for record in others)
    return Best(int(first["step"]), int(first["epoch"]), _value(first, criterion), ties)


def when(epoch: int) -> str:
    """When an evaluation is made, for people: after an epoch, counted from 0, or, of epoch -1, before the first."""
    return f"after epoch {epoch + 1}" if epoch >= 0 else "before the first step"


def described(best: Mapping[str, Any]) -> str:
    """`best` of a run's result (measure, value, step and epoch counted from 1), for people."""
    return f"{CRITERIA[best['by']].title} {best['value']:.5g} {when(best['epoch'] - 1)} (step {best['step']:,})"


def _value(record: Mapping[str, Any], criterion: Criterion) -> float:
    value = record.get(criterion.name)
    return math.nan if value is None else float(value)
