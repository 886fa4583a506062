"""The losses of the compared methods against their published formulation, lightly's and solo-learn's: time and memory.

Each implementation has a process of its own per size, and they run in turns, A B A B ...; what is timed is one
forward and backward pass on what the loss takes at (N, D). Before that the value of each is checked against the
published formulation's, in float64.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from barlowctl.bench import both_orders
from barlowctl.bench.benchmark_process import BenchmarkProcess, Measured, measure_in_turns
from barlowctl.bench.channel import serve_answers
from barlowctl.bench.loss_contests import check_rows, contest_of
from barlowctl.bench.loss_libraries import PACKAGES, Loss
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.objective import choose_form
from barlowctl.recipe.objectives import DEFAULT

RANKS = (2, 8, 64, 1000)
CHECKED = (16, 24)
"""N and D at which values are compared."""
ROUNDING = 1e-6
"""Relative difference of two float64 values that is the guards (1e-8 beside a norm) and rounding."""


def loss_named(name: str, method: str = DEFAULT) -> Loss:
    """The loss of one of a method's rows."""
    return contest_of(method).rows[name]()


def checked_value(name: str, method: str = DEFAULT) -> float:
    """A row's loss of inputs that are the same for all, in float64, by the method's factor the published one."""
    contest, before = contest_of(method), torch.get_default_dtype()
    with own_generator(seed=1):
        inputs = contest.inputs(*CHECKED, torch.device("cpu"), torch.float64)
        torch.set_default_dtype(torch.float64)  # of what a loss makes in itself, such as a batch norm
        try:
            return contest.as_authors(name, loss_named(name, method)(*inputs).item())
        finally:
            torch.set_default_dtype(before)


def installed(names: Sequence[str], method: str = DEFAULT) -> tuple[list[str], dict[str, str]]:
    """The names that can run here and compute the published loss, and why the others cannot or do not.

    Each library is tried in a process of its own.
    """
    expected, left_out = checked_value("authors", method), {}
    for name in names:
        package = PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            left_out[name] = f"{package} is not installed"
            continue
        try:
            value = checked_value(name, method) if package is None else _tried_value(name, method)
        except UserError as error:
            left_out[name] = f"{package} cannot be used: {error.message}"
            continue
        if not math.isclose(value, expected, rel_tol=ROUNDING):
            left_out[name] = f"it computes another loss than the published one: {value:.8g}, not {expected:.8g}"
    return [name for name in names if name not in left_out], left_out


def _tried_value(name: str, method: str) -> float:
    """`checked_value` of a library, in a process that it may end.

    Raises:
        UserError: it cannot be imported, or called as it is here.
    """
    script = (
        "from barlowctl.bench.loss import checked_value; import json; "
        f"print(json.dumps(checked_value({name!r}, {method!r})))"
    )
    tried = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, process_group=0)
    if tried.returncode:
        raise UserError((tried.stderr.strip().splitlines() or ["?"])[-1])
    return float(json.loads(tried.stdout.strip().splitlines()[-1]))


def compare(
    sizes: Sequence[tuple[int, int]],
    names: Sequence[str],
    *,
    rounds: int,
    threads: int,
    device: str,
    progress: Callable[[str], None],
    method: str = DEFAULT,
) -> dict[str, Any]:
    """Rows of every size and name, ready for JSON; ratios are the authors' over the row's, round by round.

    Args:
        sizes: N and D; none: the method's own. names: of rows; none: all of the method.

    Raises:
        UserError: an unknown method or name, or an implementation whose process ended.
    """
    from barlowctl.bench.room import check_loss  # with timm, which no process of a row needs

    contest, names = contest_of(method), check_rows(method, names)
    sizes = sizes or contest.sizes
    for n, d in sizes if device == "cpu" else ():
        check_loss(contest, n, d)
    here, left_out = installed(["authors", *(name for name in names if name != "authors")], method)
    load = os.getloadavg()[0]
    rows: list[dict[str, Any]] = []
    for n, d in sizes:
        progress(f"N = {n}, {contest.across} = {d}: {', '.join(here)}")
        rows += _rows(n, d, _measure(n, d, here, rounds, threads, device, method), rounds, method)
    return {
        "method": method,
        "rows": rows,
        "wire": [wire(n, d, ranks) for n, d in sizes for ranks in RANKS] if contest.forms else [],
        "left_out": left_out,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "device": device,
            "threads": threads,
            "load_before": round(load, 1),
            "torch": str(torch.__version__),
        },
    }


def wire(n: int, d: int, ranks: int) -> dict[str, Any]:
    """Bytes that one rank of W receives in a forward and backward pass of the loss, float32, N over all ranks.

    An all-reduce of S bytes brings `2 S (W - 1) / W` to each rank (reduce-scatter and all-gather), an all-gather
    of S bytes in all `S (W - 1) / W`. Both forms share the statistics: 2 D + 1 float64 numbers forward and 2 D
    backward per view. `authors` is the reduction of C alone, as their code has it.
    """
    foreign = (ranks - 1) / ranks
    statistics_bytes = 2 * foreign * 2 * ((2 * d + 1) * 8 + 2 * d * 4)
    gram = foreign * 2 * n * d * 4 + 2 * foreign * (d + 1) * 8 + statistics_bytes
    primal = 2 * foreign * d * d * 4 + statistics_bytes
    return {
        "w": ranks,
        "n": n,
        "d": d,
        "gram_bytes": round(gram),
        "primal_bytes": round(primal),
        "authors_bytes": round(2 * foreign * d * d * 4),
        "form": choose_form(n, d, ranks),
    }


def _measure(
    n: int, d: int, names: Sequence[str], rounds: int, threads: int, device: str, method: str = DEFAULT
) -> list[Measured]:
    """Rounds of every implementation in turns. The warm-up alone counts for memory: later rounds use again what the C
    library kept.

    Raises:
        UserError: an implementation failed, or its process ended.
    """
    settings = {"method": method, "n": n, "d": d, "threads": threads, "device": device}
    environment = {"OMP_NUM_THREADS": str(threads)}
    processes = [
        BenchmarkProcess(name, "barlowctl.bench.loss", settings, polls=False, environment=environment) for name in names
    ]
    try:
        return measure_in_turns(processes, rounds, lambda text: None)
    except UserError as error:
        raise UserError(f"at N = {n}, D = {d} {error.message}", next="leave it out with --rows") from None


def _rows(n: int, d: int, measured: Sequence[Measured], rounds: int, method: str = DEFAULT) -> list[dict[str, Any]]:
    authors_row = next(row for row in measured if row.name == "authors")
    rows = []
    for row in measured:
        name, times = row.name, [answer["ms"] for answer in row.answers]
        ratios = [answer["ms"] / ms for answer, ms in zip(authors_row.answers, times, strict=True)]
        peak, authors_peak = row.warm_up["peak_mb"], authors_row.warm_up["peak_mb"]
        rows.append(
            {
                "name": name,
                "n": n,
                "d": d,
                "form": choose_form(n, d) if name == "ours" and "ours-gram" in contest_of(method).rows else None,
                **both_orders.with_range("ms", times, 2),
                "peak_mb": round(peak, 1),
                **both_orders.ratios("ratio_time", ratios, 2),
                "ratio_memory": round(authors_peak / peak, 2) if peak else None,
                "value": row.warm_up["value"],
                "rounds": rounds,
            }
        )
    return rows


# ---- an implementation's own process -----------------------------------------------------------------------


def _build(settings: dict[str, Any]) -> Callable[[int], dict[str, float]]:
    """An implementation, as a function that makes one forward and backward pass and says what it took."""
    torch.set_num_threads(settings["threads"])
    device, contest = torch.device(settings["device"]), contest_of(settings["method"])
    loss = loss_named(settings["name"], settings["method"])
    torch.manual_seed(0)
    small, inputs = contest.inputs(8, 16, device), contest.inputs(settings["n"], settings["d"], device)
    loss(*small).backward()  # what a first call allocates for good is not counted

    def run(number: int) -> dict[str, float]:
        for tensor in inputs:
            tensor.grad = None
        return _pass(loss, inputs, device)

    return run


def _pass(loss: Loss, inputs: Sequence[Tensor], device: torch.device) -> dict[str, float]:
    """Milliseconds (of the CPU; of the clock on a GPU), and the peak of memory above what was there before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        start = time.perf_counter()
        value = loss(*inputs)
        value.backward()
        torch.cuda.synchronize(device)
        ms = 1e3 * (time.perf_counter() - start)
        return {"ms": ms, "peak_mb": (torch.cuda.max_memory_allocated(device) - before) / 1e6, "value": value.item()}
    before = reset_peak()
    start = time.process_time()
    value = loss(*inputs)
    value.backward()
    ms = 1e3 * (time.process_time() - start)
    return {"ms": ms, "peak_mb": (peak_bytes() - before) / 1e6, "value": value.item()}


def reset_peak() -> int:
    """Start Linux's high-water mark of this process anew; returns the bytes resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """The high-water mark of resident memory, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    serve_answers(_build)
