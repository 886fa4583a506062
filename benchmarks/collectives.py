"""The collectives of a training step: how many, how large, how long, beside what docs/scale.md says of them.

    python benchmarks/collectives.py [--ranks 2 4] [--batch 128] [--widths 512 512 512] [--steps 10]

`barlowctl`'s engine trains a small ResNet on random pixels, one process a rank, over gloo on this machine, with batch
norm over all ranks, in both forms of the loss. A collective's time is that on the rank that came last, which waits for
nobody: for every call of a step the least over the steps ("least", the sum), and the median over steps of that sum. The
model's is a fixed time for every call and its bytes by a rate, the least that were measured in the same processes.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

from barlowctl.distributed import Ranks, joined
from barlowctl.methods import BarlowTwins
from barlowctl.model import build_backbone, build_mlp, synchronize_batch_norm
from barlowctl.train import engine
from barlowctl.train.events import StepDone
from barlowctl.train.optim import build_optimizer

COUNTED = (
    "all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "all_gather_object", "broadcast",
    "broadcast_object_list", "barrier",
)  # fmt: skip


@dataclass
class Call:
    """A collective of this rank.

    Attributes:
        name: torch's. numbers: of the tensor that every rank has in the end. size: their bytes.
        seconds: from the call until its result is there; of one that is waited for later, of the waiting alone.
    """

    name: str
    numbers: int = 0
    size: int = 0
    seconds: float = 0.0

    def received(self, ranks: int) -> float:
        """Bytes that reach a rank in a ring."""
        foreign = (ranks - 1) / ranks * self.size
        return 2 * foreign if self.name == "all_reduce" else foreign


class _Waited:
    """The handle of a collective that is waited for later."""

    def __init__(self, work: Any, call: Call) -> None:
        self.work, self.call = work, call

    def wait(self) -> Any:
        start = time.perf_counter()
        outcome = self.work.wait()
        self.call.seconds = time.perf_counter() - start
        return outcome


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Every collective of this process within the block, in order, whoever makes it."""
    calls: list[Call] = []
    before = {name: getattr(dist, name) for name in COUNTED}

    def counting(name: str) -> Callable[..., Any]:
        def collective(*values: Any, **options: Any) -> Any:
            first = values[0] if values and isinstance(values[0], Tensor) else torch.empty(0)
            call = Call(name, first.numel(), first.numel() * first.element_size())
            calls.append(call)
            start = time.perf_counter()
            outcome = before[name](*values, **options)
            call.seconds = time.perf_counter() - start
            return _Waited(outcome, call) if options.get("async_op") else outcome

        return collective

    for name in COUNTED:
        setattr(dist, name, counting(name))
    try:
        yield calls
    finally:
        for name, function in before.items():
            setattr(dist, name, function)


@dataclass
class Steps:
    """A sink that notes where each step ended, in the calls that `recorded` keeps and in seconds."""

    calls: list[Call]
    ends: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def __call__(self, event: Any) -> None:
        if isinstance(event, StepDone):
            self.ends.append(len(self.calls))
            self.times.append(time.perf_counter())

    def between(self, step: int) -> list[Call]:
        """Those after a step, counted from 0, and until the next one has ended."""
        return self.calls[self.ends[step] : self.ends[step + 1]]


@dataclass(frozen=True)
class Pixels:
    """A loader: the same random pixels in every batch."""

    ranks: Ranks
    batch: int
    steps: int
    size: int = 32

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self.ranks.rank)
        shape = (self.batch // self.ranks.size, self.size, self.size, 3)
        views = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(2)]
        for _ in range(start_batch, self.steps):
            yield Pair(views)

    def shares(self, batch: int) -> list[int]:
        return [self.batch // self.ranks.size] * self.ranks.size


@dataclass(frozen=True)
class Pair:
    """A `TrainingBatch` of two views."""

    views: list[Tensor]

    @property
    def labels(self) -> Tensor:
        return torch.full((len(self.views[0]),), -1)

    @property
    def indices(self) -> Tensor:
        return torch.arange(len(self.views[0]))

    def to(self, device: torch.device) -> list[Tensor]:
        return self.views

    def hold(self, event: Any) -> None:
        """Nothing is used again."""


def step_calls(
    ranks: Ranks, form: str, batch: int, widths: Sequence[int], steps: int
) -> tuple[list[list[Call]], float]:
    """The collectives of every step but the first two, and a step's median seconds."""
    torch.manual_seed(1)
    backbone = build_backbone("resnet18", in_chans=3)
    head = build_mlp(512, widths, batch_norm=True, hidden_bias=False, last_bias=False)
    method = BarlowTwins(backbone, head, lambd=0.005, form=form, ranks=ranks)  # type: ignore[arg-type]
    synchronize_batch_norm(method, ranks, torch.device("cpu"))
    optimizer = build_optimizer(method, "lars", lr=0.1, lr_biases=0.01, weight_decay=1e-6)
    settings = engine.Settings(
        epochs=1, steps_per_epoch=steps + 2, warmup_epochs=0.0, final_lr_scale=1.0, precision="fp32", log_every_steps=1,
        checkpoint_every_epochs=2, keep_checkpoints=1, evaluate_every_epochs=0,
    )  # fmt: skip
    with recorded() as calls, tempfile.TemporaryDirectory() as folder:
        marks = Steps(calls)
        engine.train(
            method, Pixels(ranks, batch, steps + 2), optimizer, settings, device=torch.device("cpu"), emit=marks,
            to_input=lambda views: views.permute(0, 3, 1, 2).float() / 255, checkpoints=Path(folder), recipe_digest="",
            ranks=ranks,
        )  # fmt: skip
    seconds = [end - begin for begin, end in zip(marks.times[1:-1], marks.times[2:], strict=True)]
    return [marks.between(step) for step in range(1, steps + 1)], statistics.median(seconds)


def rates(ranks: Ranks, rounds: int = 30) -> tuple[float, float]:
    """Of an all-reduce here: the seconds of a call that carries nothing, and bytes received a second."""

    def fastest(numbers: int) -> float:
        tensor, times = torch.zeros(numbers), []
        for _ in range(rounds):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(tensor)
            times.append(time.perf_counter() - start)
        return min(ranks.objects(min(times)))

    small, large = fastest(1), fastest(1 << 22)
    received = 2 * (ranks.size - 1) / ranks.size * 4 * (1 << 22)
    return small, received / (large - small)


def member(rank: int, size: int, port: int, options: argparse.Namespace) -> None:
    """One rank: measure, and print from the first."""
    torch.set_num_threads(1)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank))
    with joined(cuda=False) as ranks:
        fixed, rate = rates(ranks)
        if ranks.first:
            print(f"{size} ranks: {1e6 * fixed:.0f} µs a call, {rate / 1e6:.0f} MB/s received", flush=True)
        for form in ("gram", "primal"):
            steps, seconds = step_calls(ranks, form, options.batch, options.widths, options.steps)
            every = ranks.objects([[call.seconds for call in step] for step in steps])
            if ranks.first:
                report(form, steps, every, seconds, fixed, rate, size)


def report(
    form: str,
    steps: list[list[Call]],
    every: list[list[list[float]]],
    seconds: float,
    fixed: float,
    rate: float,
    size: int,
) -> None:
    """Print one row. `every`: of each rank, the seconds of its calls, step by step."""
    counts = {len(step) for step in steps}
    last = [[min(of_call) for of_call in zip(*of_step, strict=True)] for of_step in zip(*every, strict=True)]
    least = sum(min(of_call) for of_call in zip(*last, strict=True))
    typical = statistics.median(sum(of_step) for of_step in last)
    model = sum(fixed + call.received(size) / rate for call in steps[0])
    received = sum(call.received(size) for call in steps[0])
    print(
        f"| {size} | {form} | {'/'.join(map(str, sorted(counts)))} | {received / 1e6:.2f} | {1e3 * model:.1f} | "
        f"{1e3 * least:.1f} | {1e3 * typical:.1f} | {1e3 * seconds:.0f} |",
        flush=True,
    )


def main() -> None:
    """Print a line of the links' measures and a row for each form, for every number of ranks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--widths", type=int, nargs="+", default=[512, 512, 512])
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    print("| ranks | form | collectives | received MB | model ms | least ms | median ms | step ms |\n|" + "---|" * 8)
    for size in options.ranks:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        multiprocessing.spawn(member, args=(size, port, options), nprocs=size)


if __name__ == "__main__":
    main()
