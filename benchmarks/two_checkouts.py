"""A training step of this checkout beside that of another one, in turns: what a change saves.

    git worktree add ../before COMMIT
    python benchmarks/two_checkouts.py ../before --recipe cifar10-resnet18 --precision bf16 --batch 32 \\
        --set model.stem=default --set model.backbone=resnet50 --set views.size=96

Both are measured with this Python's packages: each in a process of its own, which waits while the other takes a step.
Whoever is started second may be the faster one by some hundredths, so both orders are measured, and the mean of both
is what counts. Images lie in memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
WARMUP = 3
"""Steps that are not measured, of each."""


class Clock:
    """Where a step takes its batches from: waits for a line on standard input, and prints a step's CPU-milliseconds."""

    begun: float | None = None

    def next_batch(self, batches: Iterator[Any], ahead: int) -> Any:
        """See `stopwatch.Watch`."""
        if self.begun is not None:
            print(1000 * (time.process_time() - self.begun), flush=True)
        if not sys.stdin.readline():
            raise SystemExit
        self.begun = time.process_time()
        return next(batches)

    def note(self, text: str) -> None:
        """Both checkouts note the same."""


def take_steps(arguments: argparse.Namespace) -> None:
    """Steps of the checkout that is imported, each when it is asked for."""
    import torch

    from barlowctl.assemble.machine import Runtime, set_threads
    from barlowctl.bench.step import base_recipe
    from barlowctl.bench.step_ours import OurStep
    from barlowctl.bench.step_settings import StepSettings
    from barlowctl.recipe import load

    set_threads(Runtime(threads=arguments.threads))
    torch.manual_seed(0)
    own = [f"train.batch_size={arguments.batch}", f"train.precision={arguments.precision}", "train.channels_last=true"]
    recipe = base_recipe(load.load(arguments.recipe, [*arguments.set, *own]))
    OurStep(StepSettings("ours", recipe, torch.device("cpu"), arguments.threads, 0, 1)).run(Clock())


def started(checkout: Path, arguments: argparse.Namespace) -> subprocess.Popen[str]:
    """A process that has taken the steps that are not measured."""
    words = ["--recipe", arguments.recipe, "--precision", arguments.precision, "--batch", str(arguments.batch)]
    words += ["--threads", str(arguments.threads), *(word for change in arguments.set for word in ("--set", change))]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(arguments.threads)}
    process = subprocess.Popen(
        [sys.executable, __file__, str(checkout), "--steps-of-it", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout,
    )  # fmt: skip
    for _ in range(WARMUP):
        step_of(process)
    return process


def step_of(process: subprocess.Popen[str]) -> float:
    """CPU-milliseconds of a step."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args[2]} could not take a step")  # type: ignore[index]
    return float(line)


def compare(first: Path, second: Path, arguments: argparse.Namespace) -> dict[Path, list[float]]:
    """Steps of two checkouts, the first of which is started first, in turns that turn around."""
    processes = {checkout: started(checkout, arguments) for checkout in (first, second)}
    times: dict[Path, list[float]] = {first: [], second: []}
    try:
        for number in range(arguments.rounds):
            for checkout in (first, second) if number % 2 == 0 else (second, first):
                times[checkout].append(step_of(processes[checkout]))
    finally:
        for process in processes.values():
            process.kill()
    return times


def main() -> None:
    """Print how many times as long the other checkout's step takes, for both orders of starting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the root of the other checkout")
    parser.add_argument("--recipe", default="cifar10-resnet18")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps-of-it", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps_of_it:
        take_steps(arguments)
        return
    other = arguments.other.resolve()
    if not (other / "barlowctl" / "bench").is_dir():
        parser.error(f"'{arguments.other}' is no checkout: it has no folder barlowctl/bench")
    if other == HERE:
        parser.error(f"'{arguments.other}' is this checkout; another one is made by git worktree add ../before COMMIT")
    middles = []
    for first, second in ((other, HERE), (HERE, other)):
        times = compare(first, second, arguments)
        ratios = [before / now for before, now in zip(times[other], times[HERE], strict=True)]
        middles.append(statistics.median(ratios))
        print(
            f"{statistics.median(times[other]):,.1f} CPU-ms there, {statistics.median(times[HERE]):,.1f} here, "
            f"{middles[-1]:.3f} times ({min(ratios):.3f}-{max(ratios):.3f}), n = {len(ratios)}; "
            f"{'there' if first == other else 'here'} was started first"
        )
    print(f"mean of both orders: {statistics.geometric_mean(middles):.3f} times")


if __name__ == "__main__":
    main()
