"""The option `--slurm` of pretrain: a run as a Slurm job, submitted or printed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from barlowctl import shell
from barlowctl.cli.console import Console, say_aside
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.launchers.slurm import Slurm


def refuse_flags_of_a_job(nodes: bool, time_limit: bool, slurm_options: bool) -> None:
    """Refuse what only a Slurm job has: a run that starts here would ignore it in silence."""
    for flag, is_set in (("--nodes", nodes), ("--time", time_limit), ("--slurm-option", slurm_options)):
        if is_set:
            raise UserError(
                f"{flag} belongs to a Slurm job, and this run would start here",
                allowed="with --slurm, which submits the job, or --print-sbatch, which prints its script",
                next="--print-sbatch",
            )


def absolute(name: str) -> str:
    """A recipe's file with its whole path, a shipped one by its name: a job may start elsewhere."""
    return str(Path(name).resolve()) if Path(name).is_file() else name


def arguments_of_every_start(
    data: str,
    device: str,
    threads: int | None,
    workers: int | None,
    loader: str,
    rank_timeout: float,
    tensorboard: bool,
    wandb: bool,
) -> list[str]:
    """The arguments of this command that every start of a job takes; it may start in another folder."""
    from barlowctl.data import home

    valued = {
        "--data": home.anywhere(data),
        "--device": device,
        "--threads": threads,
        "--workers": workers,
        "--loader": loader,
        "--rank-timeout": rank_timeout,
    }
    arguments = [text for flag, value in valued.items() if value is not None for text in (flag, str(value))]
    return [*arguments, *(["--tensorboard"] if tensorboard else []), *(["--wandb"] if wandb else [])]


def start_job(
    console: Console,
    request: Slurm,
    name: str,
    run: Path | None,
    new_run_arguments: list[str],
    arguments: list[str],
    *,
    submit: bool,
) -> None:
    """Print the job's script, or submit it.

    Args:
        name: of a new run's directory. run: the directory, if it was named.
        new_run_arguments: that only a new run takes. arguments: those of every start.
    """
    from barlowctl.launchers import slurm
    from barlowctl.runs import rundir

    run_directory = (run or rundir.runs_home() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}").resolve()
    text = slurm.run_script(run_directory, request, new_run_arguments, arguments)
    if not submit:
        if note := slurm.folder_of_log(run_directory.parent):
            say_aside(f"note: {note}")
        if not console.json:
            console.document(text)
        console.result({"script": text, "run": str(run_directory)})
        return
    path = run_directory.with_name(f"{run_directory.name}.sbatch")
    job = slurm.submit(text, path)
    console.say(f"job {job}: {run_directory}")
    console.next(
        shell.line("squeue", "-j", job),
        shell.line("tail", "-F", f"{run_directory}.slurm.log"),
        shell.line("barlowctl", "runs", "watch", run_directory),
    )
    console.result({"job": job, "script": str(path), "run": str(run_directory)})
