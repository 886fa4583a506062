"""A study as a Slurm array: one task per cell, each resumed by itself when its time runs out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from barlowctl.errors import EXIT_STOPPED

WARNING_SECONDS = 120
"""How long before the time limit Slurm sends USR1: a step, a checkpoint, and room to spare."""

TEMPLATE = """\
#!/bin/bash
{directives}
# Written by `barlowctl ablate --print-sbatch`. One task per cell (variant and seed) of the plan; finished cells end at
# once, so the array can be submitted again. Slurm sends USR1 {warning} s before the time limit and TERM on preemption:
# the cell saves its state, leaves with code {stopped}, and the task asks for its place again.
cd {folder}
srun {python} -m barlowctl ablate {arguments} --cell "$SLURM_ARRAY_TASK_ID"
code=$?
if [ "$code" -eq {stopped} ]; then
    echo "stopped with its state saved: asking for another turn"
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"  # one task's SLURM_JOB_ID is the whole array's
fi
exit "$code"
"""


def array(
    cells: Sequence[int],
    arguments: Sequence[str],
    *,
    out: Path,
    at_once: int | None = None,
    gpu: bool = True,
    options: Mapping[str, str] | None = None,
) -> str:
    """The batch script.

    Args:
        cells: numbers of the open cells. arguments: of `ablate`, without those that start or show.
        at_once: tasks that run at the same time at most. options: further sbatch options, name -> value.
    """
    limit = f"%{at_once}" if at_once else ""
    chosen = {
        "job-name": f"barlowctl-{out.name}",
        "array": f"{_ranges(cells)}{limit}",
        "ntasks": "1",
        **({"gpus": "1"} if gpu else {}),
        "output": str(out.resolve()).replace("%", "%%") + "/slurm-%a.log",
        "open-mode": "append",
        "signal": f"USR1@{WARNING_SECONDS}",
        **(options or {}),
    }
    lines = [f"#SBATCH --{name}={shlex.quote(value)}" for name, value in chosen.items()]
    return TEMPLATE.format(
        directives="\n".join([*lines, "#SBATCH --requeue"]),
        warning=WARNING_SECONDS,
        stopped=EXIT_STOPPED,
        folder=shlex.quote(str(Path.cwd())),
        python=shlex.quote(sys.executable),
        arguments=shlex.join(arguments),
    )


def _ranges(numbers: Sequence[int]) -> str:
    """`0-3,7` for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
