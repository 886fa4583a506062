"""Runs and studies as Slurm jobs that save when they are told to stop, queue themselves again, and go on from there.

One script for both (`_script`): what Slurm is asked for, what the job runs, and which exit codes queue it again.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from barlowctl import program
from barlowctl.errors import EXIT_BY_SIGNAL, EXIT_RANK_LOST, EXIT_STOPPED, UserError
from barlowctl.files import atomic_write, folder_made
from barlowctl.output_paths import why_not_written

WARNING_SECONDS = 120
"""How long before the time limit Slurm sends USR1: a step, a checkpoint, and room to spare."""
RESTARTS = 5
"""A job that keeps losing ranks, or whose time limit ends while it starts, is not worth more: Slurm's own requeue after
a node failure counts too."""

_SCRIPT = """\
#!/bin/bash
{directives}
# Written by barlowctl {command} --print-sbatch. {about}
# Slurm sends USR1 {warning} s before the time limit, and TERM on preemption: the state is saved, the exit code is
# {stopped}, and the job is queued again and goes on where it was. Before the first step there is no state to save, and
# the exit code is the signal's: the job is queued again all the same.
[ -z "${{SLURM_CPUS_PER_TASK:-}}" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # srun does not take it over
{commands}
code=$?
again=no
case "$code" in
    {always}) again=yes ;;
    {limited}) [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ] && again=yes ;;
esac
if [ "$again" = yes ]; then
    echo "exit code $code: queueing this job again"
    scontrol requeue "{itself}"
fi
exit "$code"
"""
# What a shell says of a process that a signal ended, where Slurm runs: on Linux.
_BY_USR1, _BY_TERM = EXIT_BY_SIGNAL + 10, EXIT_BY_SIGNAL + 15
_KILLED = tuple(EXIT_BY_SIGNAL + number for number in (6, 7, 9, 11))  # SIGABRT, SIGBUS, SIGKILL, SIGSEGV
"""srun ends with the highest code of its tasks: that of a rank which was killed, above the 4 of those that lost it. A
cell is one task, which may be killed for memory that others take."""
# $0 of the inner shell is Python, so that its path may have any character.
_COMMANDS_OF_RUN = """\
run={run}
if grep -qs '"steps"' "$run/result.json" && [ "$(tail -n 1 "$run/result.json")" = "}}" ]; then  # whole
    echo "$run is finished"
    exit 0
fi
if [ -e "$run/recipe.toml" ]; then
    set -- --resume "$run"
else
    set -- {new_run_arguments} --out "$run"
fi
export MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

srun --kill-on-bad-exit=0 bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE={per_node}
    exec "$0" "$@"' {python} {program} pretrain "$@" {arguments}"""
_COMMANDS_OF_CELL = """\
cd {folder}
srun {python} {program} ablate {arguments} --cell "$SLURM_ARRAY_TASK_ID\""""


@dataclass(frozen=True)
class Slurm:
    """What a run's job asks for.

    options: further sbatch options, name -> value. cores: of each rank, where it computes on a CPU; 0: Slurm's default.
    """

    nodes: int
    ranks_per_node: int
    on_gpus: bool
    time: str | None
    options: Mapping[str, str]
    cores: int = 0


def run_script(run: Path, slurm: Slurm, new_run_arguments: Sequence[str], arguments: Sequence[str]) -> str:
    """The batch script of a run, one task per rank.

    Args:
        run: the run directory, absolute: made when the job first starts, resumed when it starts again.
        new_run_arguments: arguments of `pretrain` that only a new run takes. arguments: those of every start.
    """
    requested = {
        "nodes": str(slurm.nodes),
        "ntasks-per-node": str(slurm.ranks_per_node),
        **({"gpus-per-node": str(slurm.ranks_per_node)} if slurm.on_gpus else _cores(slurm.cores)),
        **({"time": slurm.time} if slurm.time else {}),
    }
    about = "One task per rank. Submit it with sbatch, or use `barlowctl pretrain --slurm`."
    commands = _COMMANDS_OF_RUN.format(
        run=shlex.quote(str(run)),
        new_run_arguments=shlex.join(new_run_arguments),
        per_node=slurm.ranks_per_node,
        python=shlex.quote(sys.executable),
        program=_program(),
        arguments=shlex.join(arguments),
    )
    job = _Job("pretrain", run.name, f"{_literal(run)}.slurm.log", about, commands, "$SLURM_JOB_ID")
    return _script(job, requested, slurm.options)


def study_script(
    cells: Sequence[int],
    arguments: Sequence[str],
    *,
    out: Path,
    at_once: int | None = None,
    gpu: bool = True,
    cores: int = 0,
    options: Mapping[str, str] | None = None,
) -> str:
    """The batch script of a study: an array with one task per cell.

    Args:
        cells: numbers of the open cells. arguments: of `ablate`, without those that start or show.
        out: the study's directory.
        at_once: tasks that run at the same time at most. gpu: whether each takes one. cores: of a task without; 0:
            Slurm's default. options: further sbatch options, name -> value.
    """
    limit = f"%{at_once}" if at_once else ""
    requested = {"array": f"{_ranges(cells)}{limit}", "ntasks": "1", **({"gpus": "1"} if gpu else _cores(cores))}
    about = "One task per cell (variant and seed); finished cells end at once: it can be submitted again."
    commands = _COMMANDS_OF_CELL.format(
        folder=shlex.quote(str(Path.cwd())),
        python=shlex.quote(sys.executable),
        program=_program(),
        arguments=shlex.join(arguments),
    )
    itself = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"  # one task's SLURM_JOB_ID is the whole array's
    log = f"{_literal(out.resolve())}/slurm-%a.log"
    return _script(_Job("ablate", out.name, log, about, commands, itself), requested, options or {})


def _program() -> str:
    return shlex.join(program.words(absolute=True))


def _cores(count: int) -> dict[str, str]:
    return {"cpus-per-task": str(count)} if count else {}


@dataclass(frozen=True)
class _Job:
    """How one kind of job differs from another.

    command: of barlowctl. name: of what it computes. log: the file of its output, in Slurm's pattern.
    about: a sentence for who opens the script. commands: shell lines; the exit code of the last one counts.
    itself: what `scontrol requeue` is given.
    """

    command: str
    name: str
    log: str
    about: str
    commands: str
    itself: str


def _script(job: _Job, requested: Mapping[str, str], options: Mapping[str, str]) -> str:
    """The batch script. requested: sbatch options, name -> value; `options` are the user's and win."""
    directives = {
        "job-name": f"barlowctl-{job.name}",
        **requested,
        "output": job.log,
        "open-mode": "append",
        "signal": f"USR1@{WARNING_SECONDS}",
        **options,
    }
    lines = [f"#SBATCH --{key}={shlex.quote(value)}" for key, value in directives.items()]  # Slurm reads quotes
    return _SCRIPT.format(
        directives="\n".join([*lines, "#SBATCH --requeue"]),
        command=job.command,
        about=job.about,
        warning=WARNING_SECONDS,
        stopped=EXIT_STOPPED,
        commands=job.commands,
        always=f"{EXIT_STOPPED}|{_BY_TERM}",
        limited="|".join(map(str, (_BY_USR1, EXIT_RANK_LOST, *_KILLED))),
        restarts=RESTARTS,
        itself=job.itself,
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
        with folder_made(path.parent), atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
            temporary.chmod(0o755)
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be written: {why_not_written(error, path.parent)}", next="name another place with --out"
        ) from error
    done = subprocess.run(["sbatch", "--parsable", str(path)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(
            f"Slurm refused the job: {done.stderr.strip() or f'exit code {done.returncode}'}",
            next="name what it asks for with --slurm-option, e.g. --slurm-option partition=gpu",
        )
    return done.stdout.strip().partition(";")[0]


def folder_of_log(folder: Path) -> str | None:
    """Make the folder that a printed script's log goes to: Slurm makes none, and a job without it ends without a word.

    Returns:
        What is to be said where it cannot be made here.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = why_not_written(error, folder)
        return f"Slurm writes the job's log into '{folder}', which must exist before it starts: {why}"
    return None


def _literal(path: Path) -> str:
    """A path as Slurm's pattern of a file name: a % of its own is doubled."""
    return str(path).replace("%", "%%")


def _ranges(numbers: Sequence[int]) -> str:
    """`0-3,7` for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
