"""What started this process: alone, or as one of several by torchrun, Slurm's srun or mpirun. A leaf.

Read off the environment, where a launcher leaves each process its rank. Variables that are missing or wrong are an
error that names each of them; several processes that nothing joins are refused, since each would train alone.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from barlowctl import shell
from barlowctl.errors import UserError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
OF_MPI = {
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "PMI_SIZE": "PMI_RANK",
    "MV2_COMM_WORLD_SIZE": "MV2_COMM_WORLD_RANK",
    "JSM_NAMESPACE_SIZE": "JSM_NAMESPACE_RANK",
    "FLUX_JOB_SIZE": "FLUX_TASK_RANK",
}
"""How many processes Open MPI, MPICH and Intel MPI, MVAPICH, jsrun and Flux say there are -> which one this is."""
BATCH_STEP = 0xFFFFFFF0
"""Steps from here on are not srun's: the batch script, an interactive shell (slurm.h: SLURM_BATCH_SCRIPT, ...)."""


@dataclass(frozen=True)
class LaunchedProcess:
    """This process among those that were started together.

    by: the launcher. rank, size: among all. local_rank, local_size: on this machine.
    address, port: where rank 0, or torchrun's agent, is reached.
    """

    by: str = ""
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = ""
    port: int = 0


ALONE = LaunchedProcess()


def detect(environment: Mapping[str, str] = os.environ) -> LaunchedProcess:
    """Which of a launcher's processes this one is; `ALONE` without a launcher, or if it started a single process.

    Torchrun's variables go before Slurm's: torchrun may run inside a Slurm task.

    Raises:
        UserError: variables that are missing or wrong, or processes of a launcher that nothing joins.
    """
    if any(name in environment for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")):
        return _of_torchrun(environment)
    if task := _of_slurm(environment):
        return task
    for size, rank in OF_MPI.items():
        if environment.get(size, "1") != "1":
            _refuse_mpi(environment, size, rank)
    return ALONE


def refuse_several(command: str) -> None:
    """Refuse to run several copies of a command that runs as one process.

    Raises:
        UserError: a launcher started several; or as `detect`.
    """
    try:
        process = detect()
    except UserError as error:  # starting several is no way out for this command
        commands = [line for line in (error.next or "").splitlines() if not line.startswith("torchrun ")]
        error.next = "\n".join(commands) or "barlowctl ..."
        raise
    if process.size > 1:
        refused = UserError(
            f"{process.by} started {process.size} processes, but `barlowctl {command}` runs as one",
            allowed=f"the command alone, without {process.by}; `barlowctl pretrain` takes several",
            next="barlowctl ...",
        )
        refused.alone = True
        raise refused


def may_be_of_several(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher may have started this process beside others; nothing is checked."""
    return "WORLD_SIZE" in environment or "SLURM_PROCID" in environment


def started() -> bool:
    """Whether a launcher started this process as one of several, or its variables say so by halves."""
    try:
        return detect().size > 1
    except UserError:
        return True


def of_the_same_command(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The words in front of `barlowctl` with which the launcher that started this process starts as many again.

    None of a process that is alone, or that `--processes` started (the same command does), or whose launcher says too
    little of itself.
    """
    try:
        process = detect(environment)
    except UserError:
        return []
    if process.size == 1 or "BARLOWCTL_EXIT_CODES" in environment:
        return []
    on_gpus = any(name in environment for name in ("SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS"))
    return again(process, environment, on_gpus=on_gpus)


def again(process: LaunchedProcess, environment: Mapping[str, str], *, on_gpus: bool) -> list[str]:
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


def says_errors(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the one on its machine that says what all of them meet."""
    try:
        return detect(environment).local_rank == 0
    except UserError:  # what is said is just that: by one of them if possible
        names = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMI_RANK", "RANK")
        return next((environment[name] for name in names if environment.get(name, "").isdecimal()), "0") == "0"


def _of_torchrun(environment: Mapping[str, str]) -> LaunchedProcess:
    if environment.get("WORLD_SIZE") == "1" and environment.get("RANK", "0") == "0":
        return ALONE  # containers say so of a process that is alone
    wrong: list[str] = []
    size = _number(environment, "WORLD_SIZE", wrong, at_least=1)
    rank = _number(environment, "RANK", wrong, below=("WORLD_SIZE", size))
    joined = size != 1
    local_rank = _number(environment, "LOCAL_RANK", wrong) if joined or "LOCAL_RANK" in environment else 0
    local_size = 1
    if "LOCAL_WORLD_SIZE" in environment:
        local_size = _number(environment, "LOCAL_WORLD_SIZE", wrong, at_least=1)
        if local_rank >= local_size > 0:
            wrong.append(f"LOCAL_RANK is {local_rank} of LOCAL_WORLD_SIZE {local_size}, counted from 0")
    if joined:
        if not environment.get("MASTER_ADDR", "").strip():
            wrong.append(_missing(environment, "MASTER_ADDR"))
        _number(environment, "MASTER_PORT", wrong, at_least=1, below=("", 65536))
    if wrong:
        raise _half_set(environment, wrong)
    if not joined:
        return ALONE
    place = environment["MASTER_ADDR"].strip(), int(environment["MASTER_PORT"])
    return LaunchedProcess("torchrun", rank, size, local_rank, max(local_size, local_rank + 1), *place)


def _number(
    environment: Mapping[str, str],
    name: str,
    wrong: list[str],
    *,
    at_least: int = 0,
    below: tuple[str, int] | None = None,
) -> int:
    """A variable's whole number; 0, and a line in `wrong`, where it is none or out of its range."""
    text = environment.get(name, "").strip()
    if not text:
        wrong.append(_missing(environment, name))
    elif not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < at_least:
        wrong.append(f"{name} is {text!r}, and not a number of {at_least} or more")
    elif below is not None and int(text) >= below[1] > 0:
        of, limit = below
        wrong.append(f"{name} is {text} of {of} {limit}, counted from 0" if of else f"{name} is {text}")
    else:
        return int(text)
    return 0


def _missing(environment: Mapping[str, str], name: str) -> str:
    return f"{name} is empty" if name in environment else f"{name} is not set"


def _half_set(environment: Mapping[str, str], wrong: list[str]) -> UserError:
    variables = [name for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE") if name in environment]
    return UserError(
        f"{', '.join(f'{name}={environment[name]}' for name in variables)} "
        f"{'say' if len(variables) > 1 else 'says'} that a launcher started this process, but {'; '.join(wrong)}",
        allowed=f"all of {', '.join(TORCHRUN)}, as torchrun sets them, or none",
        next="\n".join(
            (
                f"{shell.line('env', *(word for name in variables for word in ('-u', name)))} barlowctl ...",
                f"torchrun --standalone --nproc-per-node {_started(environment.get('WORLD_SIZE'))} -m barlowctl ...",
            )
        ),
    )


def _started(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and 2 <= int(text) < 1000 else 2


def _of_slurm(environment: Mapping[str, str]) -> LaunchedProcess | None:
    """A task that srun started; None outside of one, and in a batch script or an interactive shell."""
    if "SLURM_PROCID" not in environment or not _is_step(environment):
        return None
    sizes = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS")
    name = next((name for name in sizes if name in environment), "SLURM_NTASKS")
    if environment.get(name) == "1":
        return None
    wrong: list[str] = []
    size = _number(environment, name, wrong, at_least=1)
    rank = _number(environment, "SLURM_PROCID", wrong, below=(name, size))
    local_rank = _number(environment, "SLURM_LOCALID", wrong)
    nodes = _nodes(environment)
    address, port = _meeting_point(environment, nodes)
    if not address:
        wrong.append("SLURM_STEP_NODELIST is not set, and so the first machine is not known")
    if wrong:
        raise UserError(
            f"srun started this task, but {'; '.join(wrong)}",
            allowed="the variables that Slurm sets for each task of srun",
            next=f"torchrun --standalone --nproc-per-node {size if size > 1 else 2} -m barlowctl ...",
        )
    local_size = size if nodes == 1 else _tasks_here(environment)
    return LaunchedProcess("srun", rank, size, local_rank, max(local_size, local_rank + 1), address, port)


def _is_step(environment: Mapping[str, str]) -> bool:
    """Whether this is a task of srun's, and not the batch script, an allocation's shell or a shell under `--pty`."""
    step = environment.get("SLURM_STEP_ID", "")
    started = (step.isdecimal() and int(step) < BATCH_STEP) or (not step and "SLURM_STEP_NUM_TASKS" in environment)
    if not started:
        return environment.get("SLURM_PROCID", "0") != "0"  # a batch script is process 0
    at_a_shell = "SLURM_PTY_PORT" in environment and environment.get("SLURM_PROCID") == "0"
    return not (at_a_shell and sys.stdin is not None and sys.stdin.isatty())


def _nodes(environment: Mapping[str, str]) -> int:
    for name in ("SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES"):
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    return 1 if not re.search(r"[,\[]", _node_list(environment)) else 2


def _node_list(environment: Mapping[str, str]) -> str:
    names = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    return next((environment[name] for name in names if environment.get(name)), "")


def _meeting_point(environment: Mapping[str, str], nodes: int) -> tuple[str, int]:
    """Where rank 0 listens: on the first machine of the step, at a port that the job's number gives.

    MASTER_ADDR and MASTER_PORT go before; SLURM_LAUNCH_NODE_IPADDR, which may be a login node, comes last.
    """
    numbers = [environment.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    job, step = (int(text) if text.isdecimal() else 0 for text in numbers)
    port = 20000 + (job + 1009 * (step % 16)) % 20000
    if environment.get("MASTER_PORT", "").isdecimal():
        port = int(environment["MASTER_PORT"])
    address = environment.get("MASTER_ADDR") or ("127.0.0.1" if nodes == 1 else first_node(_node_list(environment)))
    return address or environment.get("SLURM_LAUNCH_NODE_IPADDR", ""), port


def first_node(names: str) -> str:
    """The first of Slurm's host list: `gpu[03-05,9],cpu1` is gpu03, `rack1-[2,4]n[7-8]` is rack1-2n7."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", names.strip())
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first[0]) if first else ""


def _tasks_here(environment: Mapping[str, str]) -> int:
    """Tasks on this machine, of `4(x2),3`: 4 on the first two, 3 on the third."""
    text = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE", "")
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(times or 1)
    node = environment.get("SLURM_NODEID", "0")
    return counts[int(node)] if node.isdecimal() and int(node) < len(counts) else 1


def _refuse_mpi(environment: Mapping[str, str], size: str, rank: str) -> None:
    """MPI's processes know of one another by MPI alone, which torch does not speak here."""
    text = environment[size]
    raise UserError(
        f"{size}={text} and {rank}={environment.get(rank, '')} say that MPI started several processes, and only "
        "torchrun or srun can join barlowctl's: each would train a whole run alone",
        allowed="torchrun on one machine, or on several with --nnodes and --rdzv-endpoint; srun",
        next=f"torchrun --standalone --nproc-per-node {_started(text)} -m barlowctl ...",
    )
