"""A run as a Slurm job that saves when it is told to stop, asks for its place again, and goes on where it was."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from barlowctl.errors import EXIT_RANK_LOST, EXIT_STOPPED, UserError

WARNING_SECONDS = 120
"""How long before the time limit Slurm sends USR1: a step, a checkpoint, and room to spare."""
RESTARTS_AFTER_LOSS = 5
"""A job that keeps losing ranks is not worth more: Slurm's own requeue after a node failure counts too."""

TEMPLATE = """\
#!/bin/bash
{directives}
# Written by `barlowctl pretrain --print-sbatch`; submit it with sbatch, or use `barlowctl pretrain --slurm`.
# One task per rank. Slurm sends USR1 {warning} s before the time limit, and TERM on preemption: the ranks save the
# state at the step and leave with code {stopped}; the job then asks for its place again and goes on where it was.
run={run}
if [ -e "$run/result.json" ]; then
    echo "$run is finished"
    exit 0
fi
if [ -e "$run/recipe.toml" ]; then
    set -- --resume "$run"
else
    set -- {start} --out "$run"
fi
export MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

srun --kill-on-bad-exit=0 bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE={per_node}
    exec {python} -m barlowctl pretrain "$@"' barlowctl "$@" {runtime}
code=$?
if [ "$code" -eq {stopped} ] || {{ [ "$code" -eq {lost} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ]; }}; then
    echo "exit code $code: asking for another turn"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


@dataclass(frozen=True)
class Slurm:
    """What a job asks for. options: further sbatch options, name -> value."""

    nodes: int
    ranks_per_node: int
    on_gpus: bool
    time: str | None
    options: Mapping[str, str]


def script(run: Path, slurm: Slurm, start: Sequence[str], runtime: Sequence[str]) -> str:
    """The batch script of a run.

    Args:
        run: the run directory, absolute: made by the first turn, resumed by the others.
        start: arguments of `pretrain` that only a new run takes. runtime: those of every turn.
    """
    options = {
        "job-name": f"barlowctl-{run.name}",
        "nodes": str(slurm.nodes),
        "ntasks-per-node": str(slurm.ranks_per_node),
        **({"gpus-per-node": str(slurm.ranks_per_node)} if slurm.on_gpus else {}),
        **({"time": slurm.time} if slurm.time else {}),
        "output": f"{run}.slurm.log".replace("%", "%%"),
        "open-mode": "append",
        "signal": f"USR1@{WARNING_SECONDS}",
        **slurm.options,
    }
    lines = [f"#SBATCH --{name}={shlex.quote(value)}\n" for name, value in options.items()]  # Slurm reads quotes
    directives = "".join([*lines, "#SBATCH --requeue\n"])
    return TEMPLATE.format(
        directives=directives,
        warning=WARNING_SECONDS,
        stopped=EXIT_STOPPED,
        lost=EXIT_RANK_LOST,
        restarts=RESTARTS_AFTER_LOSS,
        run=shlex.quote(str(run)),
        start=shlex.join(start),
        runtime=shlex.join(runtime),
        per_node=slurm.ranks_per_node,
        python=shlex.quote(sys.executable),
    )


def submit(text: str, path: Path) -> str:
    """Write the script to `path` and hand it to sbatch; returns the job's number.

    Raises:
        UserError: there is no sbatch here, the file cannot be written, or Slurm refuses.
    """
    if shutil.which("sbatch") is None:
        raise UserError(
            "there is no sbatch on this machine; the job's script can be printed and submitted elsewhere",
            next="--print-sbatch",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        os.chmod(path, 0o755)
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be written: {error.strerror}", next="name another place with --out"
        ) from error
    done = subprocess.run(["sbatch", "--parsable", str(path)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(
            f"Slurm refused the job: {done.stderr.strip() or f'exit code {done.returncode}'}",
            next="--slurm-option partition=NAME --slurm-option account=NAME",
        )
    return done.stdout.strip().partition(";")[0]
