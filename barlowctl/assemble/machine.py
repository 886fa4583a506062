"""The machine a run works on: device, threads, what is not possible on it."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass

import torch

from barlowctl.errors import UserError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names for mallopt


@dataclass(frozen=True)
class Runtime:
    """What is decided by the machine and not by science."""

    device: str = "auto"
    threads: int | None = None  # of torch on a CPU; None: the recipe's, else the cores
    workers: int | None = None  # threads (fast) or processes (plain) of the loader; None: 1 on a CPU, else the cores
    loader: str = "auto"


def choose_device(name: str) -> torch.device:
    """The torch device of `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: not a device, or not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device is '{name}'", allowed="auto, cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device is '{name}'", allowed="auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"--device is '{name}' but this machine has {torch.cuda.device_count()} CUDA devices",
            next="barlowctl doctor",
        )
    return device


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0))


def set_threads(runtime: Runtime, recipe_threads: int = 0) -> int:
    """Fix the number of torch's CPU threads (results are bit-identical only for equal numbers)."""
    keep_freed_memory()
    threads = min(runtime.threads or recipe_threads or cores(), cores())
    torch.set_num_threads(threads)
    return threads


def keep_freed_memory() -> None:
    """Let the C library keep the memory that activations leave, for the next step to take.

    By default glibc maps every large tensor anew and gives it back at once: thousands of page faults a step
    on a CPU (docs/benchmarks has the ratio). Elsewhere, and with GPUs, nothing changes.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, 1 << 30) or libc.mallopt(MMAP_THRESHOLD, 1 << 25)  # older glibc's limit
        libc.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)


def usable_precision(precision: str, device: torch.device) -> str:
    """The precision that a device computes in: fp16 on a CPU becomes fp32.

    Deviation from the recipe, said in the run's first lines: a CPU's fp16 convolutions are about a hundred
    times slower backward than its fp32 ones, and fp32 has all of fp16's range and more.
    """
    return "fp32" if precision == "fp16" and device.type == "cpu" else precision


def refuse_several_devices() -> None:
    """Training over several processes is not built yet: say so instead of training W separate models."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        raise UserError(
            f"WORLD_SIZE is {world}, but this version trains on one device",
            next="barlowctl pretrain ... without torchrun; train.batch_size and the learning rates stay as they are",
        )
