"""What every loader of views is: epochs of batches, and what becomes of samples that cannot be read."""

from __future__ import annotations

import abc
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal

from barlowctl.amounts import counted
from barlowctl.channels import MOST_CHANNELS, are_bands, stored_as
from barlowctl.data.images.unreadable import Problem
from barlowctl.data.loaders.batch import ViewBatch
from barlowctl.data.loaders.plan import EpochPlan
from barlowctl.data.views.spec import Spec
from barlowctl.errors import UserError

SUBSTITUTES = 16  # unreadable samples in a row before giving up

OnUnreadable = Literal["raise", "replace", "skip"]
"""What becomes of a sample that cannot be read: it stops the epoch, another one stands in for it (while training), or
it is left out of its batch (while measuring)."""


class ViewLoader(abc.ABC):
    """Epochs of batches. Every sample exactly once per epoch over all ranks (except for `drop_last`).

    Attributes:
        name: "fast" or "plain".
        batches_per_epoch: the same on every rank.
        samples_per_epoch: over all ranks.
        unreadable: source indices of the samples that were replaced or left out, sorted.
        problems: the same, index -> (name, why).
        notify: told what a person may want to know about how batches are made; set it before the first one.
    """

    name: str
    notify: Callable[[str], None] = staticmethod(lambda text: None)

    def __init__(self, plan: EpochPlan) -> None:
        self.plan = plan
        self.batches_per_epoch = plan.batches
        self.samples_per_epoch = plan.samples
        self.problems: dict[int, Problem] = {}

    @property
    def unreadable(self) -> list[int]:
        """Source indices of the samples that could not be read."""
        return sorted(self.problems)

    @abc.abstractmethod
    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[ViewBatch, None, None]:
        """The batches of an epoch from `start_batch` on. Closing the generator stops its work."""

    def shares(self, batch: int) -> list[int]:
        """How many rows of a batch each rank has, in the order of ranks; the same in every epoch."""
        return self.plan.shares(batch)

    def close(self) -> None:  # noqa: B027  a loader may own nothing
        """Release threads and buffers; harmless when repeated."""

    def __enter__(self) -> ViewLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_common(source: Any, views: Sequence[Spec], channels: int, on_unreadable: str) -> None:
    """Refuse arguments that neither loader takes, and images of other channels."""
    if not views:
        raise UserError("a loader needs at least one view")
    if not 1 <= channels <= MOST_CHANNELS:
        raise UserError(f"channels is {channels}", allowed=f"1 to {MOST_CHANNELS}")
    check_source(source, channels)
    if on_unreadable not in ("raise", "replace", "skip"):
        raise UserError(f"on_unreadable is '{on_unreadable}'", allowed="raise, replace or skip")


def check_source(source: Any, channels: int) -> None:
    """Refuse images that cannot be read as so many channels.

    Raises:
        UserError: says how many they have.
    """
    has = getattr(source, "stored_channels", 3)
    if has == stored_as(channels):
        return
    what = f"images of {has} bands" if are_bands(has) else "grey or coloured images"
    raise UserError(
        f"{source.path} holds {what}, where images of {counted(channels, 'channel')} are taken",
        allowed=f"images of {channels} bands" if are_bands(channels) else "grey or coloured images",
        next="without --data",
    )
