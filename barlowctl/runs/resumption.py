"""The command that continues a run as it was started: with its launcher, and with the flags that no recipe has.

run.json keeps them as "launch": `before`, the words ahead of `barlowctl`, and `flags`, those of `pretrain`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from barlowctl import launcher, shell
from barlowctl.launcher import LaunchedProcess

Launch = dict[str, list[str]]


def resume_line(run: Path) -> str:
    """The command that continues a run as it was last started; runs of before December 2026 noted no flags."""
    before, flags = _noted(run)
    return shell.line(*before, "barlowctl", "pretrain", "--resume", run, *flags)


def _noted(run: Path) -> tuple[list[str], list[str]]:
    with suppress(OSError, ValueError, KeyError, TypeError):  # who asks has an error of the run to report already
        launch = json.loads((run / "run.json").read_text(encoding="utf-8"))["launch"]
        return [str(word) for word in launch["before"]], [str(word) for word in launch["flags"]]
    return [], []


def launch_of(flags: Mapping[str, object], *, on_gpus: bool, environment: Mapping[str, str] = os.environ) -> Launch:
    """What run.json keeps of how this process was started.

    Args:
        flags: of `pretrain` -> value; True: the flag alone, None and False: it was not given.
        on_gpus: whether its ranks are on GPUs.
    """
    process = launcher.detect(environment)
    given = {flag: value for flag, value in flags.items() if value is not None and value is not False}
    before: Sequence[str] = []
    if process.size > 1 and "BARLOWCTL_EXIT_CODES" in environment:  # see `launchers.ranks`
        given = {"--gpus" if on_gpus else "--processes": process.size, **given}
        if not on_gpus:
            given.pop("--device", None)  # which --processes implies
    elif process.size > 1:
        before = _launcher_again(process, on_gpus, environment)
    words = [word for flag, value in given.items() for word in ([flag] if value is True else [flag, str(value)])]
    return {"before": list(before), "flags": words}


def _launcher_again(process: LaunchedProcess, on_gpus: bool, environment: Mapping[str, str]) -> Sequence[str]:
    """The words of a launcher that start as many processes, on as many machines; none where it is not known."""
    machines, here = -(-process.size // process.local_size), str(process.local_size)
    if "TORCHELASTIC_RUN_ID" in environment:
        meeting = ["--standalone"]
        if machines > 1:
            address = environment.get("MASTER_ADDR", "")
            meeting = ["--nnodes", str(machines), "--rdzv-backend", "c10d", "--rdzv-endpoint", address]
        return ["torchrun", *meeting, "--nproc-per-node", here, "-m"]
    if "SLURM_PROCID" in environment:
        gpus = ["--gpus-per-node", here] if on_gpus else []
        return ["srun", "--nodes", str(machines), "--ntasks-per-node", here, *gpus]
    return []
