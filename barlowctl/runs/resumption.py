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
        before = launcher.again(process, environment, on_gpus=on_gpus)
    words = [word for flag, value in given.items() for word in ([flag] if value is True else [flag, str(value)])]
    return {"before": list(before), "flags": words}
