"""The machine a run works on: device, threads, what is not possible on it."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import util
from typing import Any

import torch

from barlowctl import compiled_code, compilers, memory
from barlowctl.caches import is_writable
from barlowctl.cores import bound_to, threads_of_environment, usable_cores
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError, add_note, one_line
from barlowctl.kernels import scratchpad
from barlowctl.launchers.pool import Slot

BYTES_OF_A_PROCESS = 2**28
"""Of memory that a process takes at least, by torch alone."""

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names for mallopt


@dataclass(frozen=True)
class Runtime:
    """What is decided by the machine and not by science."""

    device: str = "auto"
    threads: int | None = None  # of torch on a CPU; None: the recipe's, else the environment's, else the cores
    workers: int | None = None  # threads (fast) or processes (plain) of the loader; None: 1 on a CPU, else the cores
    loader: str = "auto"

    def __post_init__(self) -> None:
        for name, number in (("threads", self.threads), ("workers", self.workers)):
            if number is not None and number < 1:
                raise UserError(f"--{name} is {number}", allowed="1 or more")


def choose_device(name: str) -> torch.device:
    """The torch device of `auto`, `cpu`, `cuda` or `cuda:N`, which also becomes the current one.

    Raises:
        UserError: not a device, or not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device is '{name}'", allowed="auto, cpu, cuda, cuda:N", next="--device auto") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device is '{name}'", allowed="auto, cpu, cuda, cuda:N", next="--device auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"--device is '{name}' but this machine has {torch.cuda.device_count()} CUDA devices",
            next="barlowctl doctor",
        )
    if device.index is not None and device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def device_of_rank(name: str, ranks: Ranks) -> torch.device:
    """`choose_device`, and with several ranks on GPUs one GPU each: by the rank's number on its machine, or the first
    of its own where each rank sees GPUs that no other sees (Slurm's `--gpus-per-task`). A rank that names its GPU has
    that one.

    Raises:
        UserError: more ranks than GPUs on this machine, or one that several ranks name.
    """
    device = choose_device(name)
    if device.type != "cuda" or ranks.size == 1:
        return device
    named: int | None = device.index
    if named is not None:
        if _is_own(frozenset([str(torch.cuda.get_device_properties(named).uuid)]), ranks):
            return device
        raise UserError(
            f"--device is '{name}' on several of the {ranks.local_size} ranks of a machine",
            allowed="a GPU of its own for each rank: --device cuda takes them by the ranks' numbers",
        )
    count = torch.cuda.device_count()
    visible = frozenset(str(torch.cuda.get_device_properties(index).uuid) for index in range(count))
    index = 0 if _is_own(visible, ranks) else ranks.local_rank
    if index >= count:
        raise UserError(
            f"{ranks.local_size} ranks on a machine with {count} GPUs",
            allowed="one rank per GPU, or --device cpu",
            next=f"torchrun --nproc-per-node {count} -m barlowctl ...",
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def set_threads(runtime: Runtime, recipe_threads: int = 0, ranks: Ranks = ALONE) -> int:
    """Fix the number of torch's CPU threads (results are bit-identical only for equal numbers).

    Ranks on one machine share its cores, except where each is bound to cores of its own (as `srun` does).
    A number that was given goes before the recipe's, and that before the environment's (OMP_NUM_THREADS).
    """
    keep_freed_memory()
    bound = ranks.size > 1 and _is_own(bound_to(), ranks)
    share = max(1, usable_cores() // (1 if bound else ranks.local_size))
    threads = min(_threads_set(runtime, recipe_threads) or share, share)
    torch.set_num_threads(threads)
    return threads


def _threads_set(runtime: Runtime, recipe_threads: int) -> int:
    """The number of threads that somebody set; 0: nobody did."""
    return runtime.threads or recipe_threads or (threads_of_environment() or ("", 0))[1]


def fewer_threads(runtime: Runtime, recipe_threads: int, ranks: int = 1) -> str:
    """The variable that leaves cores without work where neither flag nor recipe says how many threads; else nothing."""
    variable, number = threads_of_environment() or ("", 0)
    free = not (runtime.threads or recipe_threads) and (number + 1) * ranks <= usable_cores()
    return variable if free else ""


def _is_own(own: frozenset[Any], ranks: Ranks) -> bool:
    """Whether no other rank of this machine has any of `own`; all ranks call this together."""
    machine = platform.node()
    gathered = ranks.objects((machine, own))
    others = [cores for rank, (node, cores) in enumerate(gathered) if rank != ranks.rank and node == machine]
    return all(own.isdisjoint(cores) for cores in others)


@contextmanager
def memory_explained(next: str) -> Iterator[None]:
    """Memory that runs out, of a GPU or of the machine, is a `UserError` with `next` as what to do."""
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if (what := memory.ran_out(error)) is None:
            raise
        explained = UserError(what, next=next)
        for note in getattr(error, "__notes__", ()):  # what became of the run's state
            add_note(explained, note)
        raise explained from error


def check_compiler(device: torch.device) -> None:
    """Refuse `train.compile` where what torch compiles with is missing: it would be found out in the first step.

    Raises:
        UserError: no C++ compiler (on a GPU: no triton, or no C compiler for it); a folder for compiled code
            that is named and cannot be written.
    """
    if device.type == "cuda":
        if util.find_spec("triton") is None:
            missing = "train.compile on a GPU needs the package triton, which is not installed"
            raise UserError(missing, next="--set train.compile=false")
        kind, variable, usual = "C", "CC", ["gcc", "clang"]
    else:
        kind, variable, usual = "C++", "CXX", ["g++"]
    named = os.environ.get(variable)
    candidates = [named] if named else usual
    if not any(shutil.which(name) for name in candidates):
        raise UserError(
            f"train.compile needs a {kind} compiler, and there is no {' or '.join(candidates)}"
            + (f" ({variable} names it)" if named else ""),
            allowed=f"{variable} not set, or the path of a compiler that is there" if named else None,
            next="--set train.compile=false" if named else f"{compilers.installation()}\n--set train.compile=false",
        )
    folder = compiled_code.named()
    if folder and not is_writable(folder):
        raise UserError(
            f"cannot write to '{folder}', where {compiled_code.TORCH} puts compiled code",
            allowed=f"a folder that can be written to, or {compiled_code.TORCH} not set",
            next="--set train.compile=false",
        )


@contextmanager
def compiling_explained() -> Iterator[None]:
    """A model that torch cannot compile is a `UserError`, with the compiler's first line."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton")):
            raise
        raise UserError(f"train.compile failed: {one_line(error)}", next="--set train.compile=false") from error


def keep_freed_memory() -> None:
    """Let the C library keep the memory that activations leave, for the next step to take.

    By default glibc maps every large tensor anew and gives it back at once: thousands of page faults a step
    on a CPU (docs/benchmarks has the ratio). Elsewhere, and with GPUs, nothing changes.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, 1 << 30) or libc.mallopt(MMAP_THRESHOLD, 1 << 25)  # older glibc's limit
        libc.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)


def return_freed_memory() -> None:
    """Give the system back what was kept of memory that nobody holds any more, of the machine, kernels and GPUs.

    From here on the C library keeps as much of it as it would in any process that has freed a tensor of 32 MiB: its
    limits grow with what is freed, and end there (glibc's DEFAULT_MMAP_THRESHOLD_MAX, and twice that).
    """
    scratchpad.give_back()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.mallopt(MMAP_THRESHOLD, 1 << 25)
        libc.mallopt(TRIM_THRESHOLD, 1 << 26)
        libc.malloc_trim(0)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def pool_slots(count: int, runtime: Runtime, recipe_threads: int) -> list[Slot]:
    """`count` slots of the process pool: the GPUs in turn, or equal shares of the cores.

    Raises:
        UserError: several processes were asked for on one named GPU, or more than the memory holds.
    """
    device = choose_device(runtime.device)
    if count * BYTES_OF_A_PROCESS > memory.total():
        raise UserError(
            f"--parallel {count} takes {memory.size(count * BYTES_OF_A_PROCESS)} of memory or more, and this machine "
            f"has {memory.size(memory.total())}",
            next=f"--parallel {min(count - 1, usable_cores())}",
        )
    if device.type == "cpu":
        share = max(1, usable_cores() // count)
        own = runtime.threads or recipe_threads
        return [Slot("cpu", own or min(_threads_set(runtime, 0) or share, share))] * count
    if runtime.device not in ("auto", "cuda"):
        raise UserError(
            f"--parallel {count} with --device {runtime.device}, which is one device",
            allowed="no --device: the processes take this machine's GPUs in turn",
            next="without --device",
        )
    return [Slot(f"cuda:{number % torch.cuda.device_count()}", runtime.threads) for number in range(count)]


def pool_speed_up(count: int, runtime: Runtime, recipe_threads: int) -> int:
    """How many times as fast `count` processes are as one at most: no more than there are GPUs, or cores for them."""
    if choose_device(runtime.device).type == "cuda":
        return min(count, torch.cuda.device_count())
    return min(count, max(1, usable_cores() // (_threads_set(runtime, recipe_threads) or usable_cores())))
