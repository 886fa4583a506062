"""Our loss in both forms against the authors' formulation, lightly's and solo-learn's: time, memory, the wire.

Each implementation has a process of its own per size, and they run in turns, A B A B ...; what is timed is one
forward and backward pass on (N, D) embeddings.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from barlowctl.bench.benchmark_process import BenchmarkProcess, Measured, measure_in_turns
from barlowctl.bench.channel import serve_answers
from barlowctl.errors import UserError, did_you_mean, instead
from barlowctl.objective import barlow_twins_loss, choose_form

LAMBD = 0.0051
SIZES = ((256, 2048), (256, 8192), (512, 8192), (1024, 8192), (2048, 8192))
RANKS = (2, 8, 64, 1000)
PACKAGES = {"lightly": "lightly", "solo-learn": "solo"}
Loss = Callable[[Tensor, Tensor], Tensor]


def authors(z1: Tensor, z2: Tensor) -> Tensor:
    """The published formulation: batch norm, C, the squares on its diagonal and off it."""
    norm = torch.nn.BatchNorm1d(z1.shape[1], affine=False, device=z1.device)
    c = norm(z1).T @ norm(z2) / len(z1)
    on_diagonal = torch.diagonal(c).add(-1).pow(2).sum()
    d = len(c)
    off_diagonal = c.flatten()[:-1].view(d - 1, d + 1)[:, 1:].flatten().pow(2).sum()
    return on_diagonal + LAMBD * off_diagonal


NAMES = ("authors", "ours", "ours-gram", "ours-primal", "lightly", "solo-learn")


def loss_named(name: str) -> Loss:
    """The loss of one of `NAMES`."""
    match name:
        case "ours":
            return lambda z1, z2: barlow_twins_loss(z1, z2, lambd=LAMBD).loss
        case "ours-gram":
            return lambda z1, z2: barlow_twins_loss(z1, z2, lambd=LAMBD, form="gram").loss
        case "ours-primal":
            return lambda z1, z2: barlow_twins_loss(z1, z2, lambd=LAMBD, form="primal").loss
        case "authors":
            return authors
        case "lightly":
            from lightly.loss import BarlowTwinsLoss

            criterion: Loss = BarlowTwinsLoss(lambda_param=LAMBD)
            return criterion
        case "solo-learn":
            function = one_file("solo", "losses/barlow.py").barlow_loss_func
            return lambda z1, z2: function(z1, z2, lamb=LAMBD, scale_loss=1.0)
    raise AssertionError(name)


def one_file(package: str, file: str) -> Any:
    """A module of an installed package without the rest of it, which imports a training stack that may be broken."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:  # a folder of that name that is no package has no origin
        raise ModuleNotFoundError(f"no package '{package}' is installed", name=package)
    own = importlib.util.spec_from_file_location(f"{package}_alone", Path(spec.origin).parent / file)
    assert own is not None
    assert own.loader is not None
    module = importlib.util.module_from_spec(own)
    own.loader.exec_module(module)
    return module


def installed(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The names that can run here, and why the others cannot: each library is tried in a process of its own."""
    left_out = {}
    for name in names:
        if (package := PACKAGES.get(name)) is None:
            continue
        if importlib.util.find_spec(package) is None:
            left_out[name] = f"{package} is not installed"
            continue
        script = f"from barlowctl.bench.loss import loss_named; loss_named({name!r})"
        tried = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        if tried.returncode:
            left_out[name] = f"{package} cannot be used: {(tried.stderr.strip().splitlines() or ['?'])[-1]}"
    return [name for name in names if name not in left_out], left_out


def compare(
    sizes: Sequence[tuple[int, int]],
    names: Sequence[str],
    *,
    rounds: int,
    threads: int,
    device: str,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Rows of every size and name, ready for JSON; ratios are the authors' over the row's, round by round.

    Raises:
        UserError: an unknown name, or an implementation whose process ended.
    """
    for name in names:
        if name not in NAMES:
            raise UserError(
                f"unknown loss '{name}'{did_you_mean(name, NAMES)}",
                allowed=", ".join(NAMES),
                next=instead("--rows", name, NAMES),
            )
    here, left_out = installed(["authors", *(name for name in names if name != "authors")])
    load = os.getloadavg()[0]
    rows: list[dict[str, Any]] = []
    for n, d in sizes:
        progress(f"N = {n}, D = {d}: {', '.join(here)}")
        rows += _rows(n, d, _measure(n, d, here, rounds, threads, device), rounds)
    return {
        "rows": rows,
        "wire": [wire(n, d, ranks) for n, d in sizes for ranks in RANKS],
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


def _measure(n: int, d: int, names: Sequence[str], rounds: int, threads: int, device: str) -> list[Measured]:
    """Rounds of every implementation in turns. The warm-up alone counts for memory: later rounds use again what the C
    library kept.

    Raises:
        UserError: an implementation failed, or its process ended.
    """
    settings = {"n": n, "d": d, "threads": threads, "device": device}
    environment = {"OMP_NUM_THREADS": str(threads)}
    processes = [
        BenchmarkProcess(name, "barlowctl.bench.loss", settings, polls=False, environment=environment) for name in names
    ]
    try:
        return measure_in_turns(processes, rounds, lambda text: None)
    except UserError as error:
        raise UserError(f"at N = {n}, D = {d} {error.message}", next="leave it out with --rows") from None


def _rows(n: int, d: int, measured: Sequence[Measured], rounds: int) -> list[dict[str, Any]]:
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
                "form": choose_form(n, d) if name == "ours" else None,
                "ms": round(statistics.median(times), 2),
                "ms_range": [round(min(times), 2), round(max(times), 2)],
                "peak_mb": round(peak, 1),
                "ratio_time": round(statistics.median(ratios), 2),
                "ratio_time_range": [round(min(ratios), 2), round(max(ratios), 2)],
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
    device, loss = torch.device(settings["device"]), loss_named(settings["name"])
    torch.manual_seed(0)
    small = [torch.randn(8, 16, device=device, requires_grad=True) for _ in range(2)]
    loss(*small).backward()  # what a first call allocates for good is not counted
    z1, z2 = (torch.randn(settings["n"], settings["d"], device=device, requires_grad=True) for _ in range(2))

    def run(number: int) -> dict[str, float]:
        z1.grad = z2.grad = None
        return _pass(loss, z1, z2, device)

    return run


def _pass(loss: Loss, z1: Tensor, z2: Tensor, device: torch.device) -> dict[str, float]:
    """Milliseconds (of the CPU; of the clock on a GPU), and the peak of memory above what was there before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        start = time.perf_counter()
        value = loss(z1, z2)
        value.backward()
        torch.cuda.synchronize(device)
        ms = 1e3 * (time.perf_counter() - start)
        return {"ms": ms, "peak_mb": (torch.cuda.max_memory_allocated(device) - before) / 1e6, "value": value.item()}
    before = reset_peak()
    start = time.process_time()
    value = loss(z1, z2)
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
