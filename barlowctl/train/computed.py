"""A training step between its halves: what it is made of, what it computed, and what it can be taken back to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from barlowctl.methods import MovedRows, Targets, Terms
from barlowctl.train.gradient_norms import Norms
from barlowctl.train.step_clock import StepClock


@dataclass(frozen=True)
class Before:
    """What a step started from, beside weights and the optimizer's state, which stay until the update."""

    tensors: Sequence[Tensor]
    random: Mapping[str, Tensor]


@dataclass
class Computed:
    """A step between its halves, or after both."""

    inputs: Any
    targets: Targets
    before: Before
    moved: Sequence[MovedRows] = ()  # by the second half, of what is not in `before`
    terms: Terms | None = None  # None: it will be replayed
    read: Callable[[], list[float]] | None = None  # the loss, and the gradient's norm where the step depends on it
    norms: Norms | None = None
    features: Tensor | None = None  # of the first view, where somebody learns from them
    ending: Tensor | None = None  # more than 0: a rank asks to end the run (see `GradientSync`); None: nobody can
    read_ending: Callable[[], list[float]] | None = None
    _numbers: list[float] | None = None

    def loss(self) -> float:
        """The loss, read once."""
        return self._read()[0]

    def norm(self) -> float:
        """The gradient's norm, read with the loss; 0 where it may be any: fp16's scaling leaves such a step out."""
        return self._read()[1] if len(self._read()) > 1 else 0.0

    def _read(self) -> list[float]:
        if self._numbers is None:
            assert self.read is not None
            self._numbers = self.read()
        return self._numbers

    def ends(self) -> bool:
        """Whether a rank asked to end the run rather than take this step: it does not count on any of them."""
        return self.read_ending is not None and self.read_ending()[0] > 0.0


def weighted_sum(terms: Sequence[Terms], weights: Sequence[float]) -> Terms:
    """Each value summed over several terms of one kind."""
    like = terms[0].loss
    columns = zip(*(of_part._asdict().values() for of_part in terms), strict=True)
    total: Terms = type(terms[0])(
        *(
            torch.stack([value.to(like) * weight for value, weight in zip(column, weights, strict=True)]).sum()
            for column in columns
        )
    )
    return total


@dataclass(frozen=True)
class Launched:
    """A step whose loss has not been read: what it computed, and what is to be said of it then.

    complete: whether its terms and rates are said beside the loss, as of a logged step and of an epoch's last one.
    wall, waited: its seconds, and those of them until its batch was there (see `StepClock`).
    """

    computed: Computed
    epoch: int
    factor: float
    logged: bool
    complete: bool
    wall: float
    waited: float
    images: int

    def settled(self, clock: StepClock) -> Launched:
        """The same with its loss read: the device is waited for, in the time of no step that follows."""
        self.computed.loss()
        return replace(self, wall=self.wall + clock.rest())


def each(terms: Terms, change: Callable[[Tensor], Tensor]) -> Terms:
    """Terms with every value changed."""
    changed: Terms = type(terms)(**{name: change(value) for name, value in terms._asdict().items()})
    return changed
