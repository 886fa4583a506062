"""Ranks: the processes that train one model together, and what they say to one another.

Gradient scale, stated once: L is the loss of the global batch, one number that every rank knows. A
differentiable function that communicates returns on each rank dL / d(its own rows), without a factor W.
The gradient of L by a parameter is then the sum over ranks of what their backward passes leave, and
`train.gradient_sync` takes that sum ("exact"), or 1/W of it ("reference", the authors' data-parallel average).

A rank that is gone, or does not answer within the time limit, ends a collective of the others with
`RankLost`, which says who is missing and why, as far as they told. Torch, `meeting` and leaves only.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore

from barlowctl import launcher
from barlowctl.errors import EXIT_RANK_LOST, UserError
from barlowctl.meeting import CONNECTING, Gone, Unreachable, by_torchrun, connect, meet, signs_in_store
from barlowctl.peers import Peer, here, last_words, missing
from barlowctl.waits import Wait

TIME_LIMIT = 900.0
"""Seconds that a rank waits for the others; evaluation on rank 0 must fit in."""
LAST_WORDS = 3.0
"""Seconds that a rank which lost another one waits for the others to say what they know."""
CLOSING = "barlowctl-closing"
"""Name of the thread that closes a failed rank's connections."""

EXIT_CODES_FOLDER = "BARLOWCTL_EXIT_CODES"
"""Environment variable: where a rank leaves its exit code for the launcher, which else sees the agent's only."""


class RankLost(UserError):
    """Another rank is gone or does not answer; nothing was saved since the last checkpoint.

    `explained`: that rank said why, and says so to the user itself.
    """

    exit_code = EXIT_RANK_LOST
    explained = False


def another_rank_failed(ranks: Ranks, rank: int, code: int) -> RankLost:
    """What a rank raises that leaves with another one, which says why: with the same exit code."""
    left = RankLost(f"rank {ranks.rank} of {ranks.size} stopped: rank {rank} failed")
    left.explained, left.exit_code = True, code
    return left


def lost_at_start(message: str) -> RankLost:
    """What is raised where a rank is gone before all have met: nothing is trained, and the same command starts anew."""
    return RankLost(message, next="barlowctl ...")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model. Alone (size 1) every method is a no-op.

    Control values (`all_gather_ints`, `objects`) travel over gloo on the CPU and never wait for a device.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    store: Any = field(default=None, repr=False, compare=False)
    peers: tuple[Peer, ...] = field(default=(), repr=False, compare=False)

    @property
    def first(self) -> bool:
        """Whether this rank shows, records and saves."""
        return self.rank == 0

    def all_gather_ints(self, values: Sequence[int]) -> list[list[int]]:
        """Every rank's row of integers, in the order of ranks; every rank gives equally many."""
        if self.size == 1:
            return [list(values)]
        own = torch.tensor(list(values), dtype=torch.int64)
        rows = torch.empty(self.size * len(values), dtype=torch.int64)
        with self.collective():
            dist.all_gather_into_tensor(rows, own)
        return rows.view(self.size, len(values)).tolist()

    def shares(self, rows: int) -> list[int]:
        """How many rows of the batch each rank holds."""
        return [row[0] for row in self.all_gather_ints([rows])]

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place. No gradient: callers state theirs."""
        if self.size > 1:
            with self.collective():
                dist.all_reduce(tensor)
        return tensor

    def neighbours(self, size: int) -> Ranks | Neighbours:
        """This rank's group of `size` that follow one another, of which there are several; 0, or all: the ranks.

        Every rank makes this call. On a machine with as many ranks the group is the machine.
        """
        if size in (0, self.size) or self.size == 1:
            return self
        firsts = range(0, self.size, size)
        with self.collective():
            groups = [dist.new_group(list(range(first, first + size))) for first in firsts]
        return Neighbours(self, groups[self.rank // size])

    def gather(self, rows: Tensor, shares: Sequence[int]) -> Tensor:
        """All ranks' rows `(n_r, ...)`, in the order of ranks: `(sum n_r, ...)`. No gradient: callers state theirs."""
        if self.size == 1:
            return rows
        largest = max(shares)
        padded = rows.contiguous()
        if len(rows) < largest:
            padded = torch.cat([padded, padded.new_zeros(largest - len(rows), *rows.shape[1:])])
        everything = rows.new_empty(self.size * largest, *rows.shape[1:])
        with self.collective():
            dist.all_gather_into_tensor(everything, padded)
        if min(shares) == largest:
            return everything
        parts = [everything[r * largest : r * largest + share] for r, share in enumerate(shares)]
        return torch.cat(parts)

    def objects(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of ranks (small Python values; never on disk)."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self.collective():
            dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """Rank 0's value on every rank; what the others give is ignored."""
        if self.size == 1:
            return value
        box = [value]
        with self.collective():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors in place with rank 0's."""
        if self.size > 1:
            with self.collective(), torch.no_grad():
                for tensor in tensors:
                    row_major = tensor.detach().contiguous()
                    dist.broadcast(row_major, src=0)
                    tensor.copy_(row_major)

    def report(self, reason: str) -> None:
        """Leave the reason of this rank's failure where the others look for it."""
        if self.store is not None:
            with contextlib.suppress(Exception):  # the store may be what is gone
                self.store.set(f"failed/{self.rank}", reason)

    def leave(self) -> None:
        """The last thing before a failed rank exits; rank 0, which may hold the store, lets the others read it."""
        if self.store is None:
            return
        with contextlib.suppress(Exception):  # the store may be what is gone
            self.store.set(f"left/{self.rank}", "")
            others = [f"left/{rank}" for rank in range(1, self.size)]
            deadline = time.monotonic() + LAST_WORDS
            while self.first and not self.store.check(others) and time.monotonic() < deadline:
                time.sleep(0.02)

    def reason_of_first(self) -> str | None:
        """Why rank 0 failed, if it says so within a moment."""
        words, _ = last_words(self.store, self.peers, (0,), 1.0)
        return words.get(0)

    @contextlib.contextmanager
    def collective(self) -> Iterator[None]:
        """A context around a collective: its failure becomes `RankLost`."""
        try:
            yield
        except RuntimeError as error:
            raise self.lost(error) from error

    def lost(self, error: BaseException) -> RankLost:
        """What to raise when a collective failed: who is missing, and what they said."""
        self.report("")
        others = tuple(rank for rank in range(self.size) if rank != self.rank)
        words, gone = last_words(self.store, self.peers, others, LAST_WORDS)
        reasons = [f"rank {rank} failed: {text}" for rank, text in sorted(words.items()) if text]
        silent = gone or [rank for rank in others if rank not in words]
        explained = bool(reasons)
        if silent and not explained:
            reasons = [missing(silent, self.peers, gone=bool(gone))]
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        why = "; ".join(reasons) or f"the connection to another rank broke ({cause})"
        lost = RankLost(f"rank {self.rank} of {self.size} stopped: {why}")
        lost.explained = explained
        return lost

    def is_first_to_say(self) -> bool:
        """Whether no other rank says to the user that a rank is lost; where the store is lost too, one per machine."""
        try:
            return int(self.store.add("said", 1)) == 1
        except Exception:  # the store may be what is gone
            return all(peer.is_gone or peer.space != here() for peer in self.peers[: self.rank])


ALONE = Ranks()


@dataclass(frozen=True)
class Neighbours:
    """Some of the ranks, this one among them (see `Ranks.neighbours`). group: torch's process group."""

    whole: Ranks
    group: Any

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over them, in place. No gradient: callers state theirs."""
        with self.whole.collective():
            dist.all_reduce(tensor, group=self.group)
        return tensor


def is_closing() -> bool:
    """Whether connections are being made or closed: the process must then end without the interpreter's own end."""
    return any(thread.name in (CLOSING, CONNECTING) for thread in threading.enumerate())


@contextlib.contextmanager
def joined(*, cuda: bool, time_limit: float = TIME_LIMIT) -> Iterator[Ranks]:
    """The ranks that a launcher (torchrun, srun) started, read from its environment variables; alone without them.

    Args:
        cuda: tensors on GPUs are reduced too (NCCL); control values use gloo in both cases.
        time_limit: seconds that a rank waits for the others before it gives up.

    Raises:
        UserError: variables that are missing or wrong, or ranks that cannot be reached.
        RankLost: a rank is gone before all had come.
    """
    process = launcher.detect()
    if process.size == 1:
        yield ALONE
        return
    try:
        (store, peers), rank, size = meet(process, time_limit, cuda=cuda), process.rank, process.size
        with Wait(f"connecting {size} processes ..."):
            init = partial(
                dist.init_process_group, "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank,
                world_size=size, timeout=datetime.timedelta(seconds=time_limit),
            )  # fmt: skip
            connect(init, peers, process, signs_in_store(process, peers))
    except Gone as error:
        lost = lost_at_start(f"rank {process.rank} of {process.size} stopped: {error}")
        lost.reported_elsewhere = not error.says
        raise lost from error
    except (KeyError, ValueError, RuntimeError, Unreachable) as error:
        raise UserError(
            f"the {process.size} processes that {process.by} started could not find one another at "
            f"{process.address}:{process.port}: rank {process.rank}: {error}",
            allowed="MASTER_ADDR and MASTER_PORT: a machine and a free port that all of them reach",
            next=by_torchrun(process),
        ) from error
    ranks = Ranks(rank, size, process.local_rank, process.local_size, PrefixStore("barlowctl", store), tuple(peers))
    try:
        yield ranks
    except BaseException as error:
        if isinstance(error, UserError):
            _tell(ranks, error)
        else:
            ranks.report(f"{type(error).__name__}: {error}")
            error.add_note(f"on rank {ranks.rank} of {ranks.size}")
        # Closes the connections, which ends the others' waiting. It may wait for a rank itself: not for long.
        closing = threading.Thread(target=dist.destroy_process_group, name=CLOSING, daemon=True)
        closing.start()
        ranks.leave()
        closing.join(LAST_WORDS)  # the interpreter aborts, whatever the exit code, when it ends under its feet
        raise
    else:
        dist.destroy_process_group()


def _tell(ranks: Ranks, error: UserError) -> None:
    """Tell the others why this rank leaves, and let an error be said once: by the rank that it began on."""
    if isinstance(error, RankLost):
        error.reported_elsewhere = error.explained or not ranks.is_first_to_say()
        return
    ranks.report(error.message)
    error.reported_elsewhere = not ranks.first and ranks.reason_of_first() == error.message
    if not ranks.first and not error.reported_elsewhere:
        error.message = f"rank {ranks.rank}: {error.message}"
