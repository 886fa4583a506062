"""The options `--gpus` and `--processes` of pretrain: the same command in several processes of this machine."""

from __future__ import annotations

import os

from barlowctl import launcher
from barlowctl.amounts import counted
from barlowctl.cli.console import say_aside
from barlowctl.cores import usable_cores
from barlowctl.errors import UserError


def device_of_ranks(gpus: int | None, processes: int | None, device: str) -> str:
    """What --device is for each process of --gpus or --processes.

    Raises:
        UserError: both were given, or one of them with a device of the other.
    """
    if gpus and processes:
        raise UserError("--gpus and --processes exclude each other", next="without --processes")
    if gpus and device == "cpu":
        raise UserError(
            f"--gpus {gpus} and --device cpu exclude each other",
            allowed="--processes for several processes on a CPU",
            next=f"--processes {gpus} without --gpus --device",
        )
    if processes and device.startswith("cuda"):
        raise UserError(
            f"--processes {processes}, which compute on the CPU, and --device {device} exclude each other",
            allowed="--gpus for several GPUs",
            next=f"--gpus {processes} without --processes --device",
        )
    return "cpu" if processes else device


def is_rank() -> bool:
    """Whether this process is a rank of --gpus or --processes already.

    Raises:
        UserError: a launcher started other ranks.
    """
    if os.environ.get("BARLOWCTL_EXIT_CODES") and "WORLD_SIZE" in os.environ:
        return True
    started = launcher.detect()
    if started.size > 1:
        raise UserError(
            f"{started.by} started {started.size} ranks already, and --gpus or --processes would start more in each",
            next="without --gpus --processes",
        )
    return False


def run_ranks(arguments: list[str], count: int, *, on_gpus: bool, quiet: bool = False) -> int:
    """Run the same command in `count` processes; returns the exit code.

    Raises:
        UserError: fewer GPUs, or cores, than ranks.
    """
    available = _gpus() if on_gpus else usable_cores()
    if count > available:
        kind = "GPUs" if on_gpus else "cores"
        raise UserError(
            f"{count} {kind} were asked for, and this machine has {available}",
            allowed=f"1 to {available}" if available else None,
            next=f"{'--gpus' if on_gpus else '--processes'} {available}" if available else "without --gpus",
        )
    if not quiet:  # before torch is imported here, and then in each of them
        say_aside(f"starting {counted(count, 'process', 'processes')}, each of which loads torch ...")
    from barlowctl.launchers import ranks

    return ranks.run_ranks(arguments, count)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
