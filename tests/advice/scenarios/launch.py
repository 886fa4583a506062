"""Several processes, and Slurm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.advice.scenario import Scenario
from tests.advice.scenarios.training import RECIPE, SHORT, TRAIN

Patch = pytest.MonkeyPatch
OPTIONS = ["#SBATCH --partition=small", "#SBATCH --account=small"]


def programs(**texts: str) -> None:
    """Stand-ins, first on the PATH."""
    Path("programs").mkdir()
    for name, text in texts.items():
        Path("programs", name).write_text(f"#!/bin/bash\n{text}\n")
        Path("programs", name).chmod(0o755)


def slurm(patch: Patch) -> None:
    """Slurm takes the job, which begins a moment later: its log is there then, and its run."""
    programs(
        sbatch='place=${2%.sbatch}; (sleep 0.3; echo begun > "$place.slurm.log"; mkdir -p "${place%/*}"; '
        f'cp -r "{Path("runs/done").resolve()}" "$place") > /dev/null 2>&1 &\necho 77',
        squeue='[ "$1 $2" = "-j 77" ]',
    )
    patch.setenv("PATH", f"{Path('programs').resolve()}:{os.defpath}")


def demanding_slurm(patch: Patch) -> None:
    """Slurm takes no job without a partition and an account."""
    has_options = " && ".join(f'grep -q "{option}" "$2"' for option in OPTIONS)
    programs(sbatch=f'{has_options} && echo 77 && exit 0\necho "sbatch: error: no partition, no account" >&2\nexit 1')
    patch.setenv("PATH", f"{Path('programs').resolve()}:{os.defpath}")


def two_cores(patch: Patch) -> None:
    from barlowctl.cli import pretrain_ranks

    patch.setattr(pretrain_ranks, "usable_cores", lambda: 2)


def half_set(patch: Patch) -> None:
    patch.setenv("RANK", "0")
    patch.setenv("WORLD_SIZE", "2")


def started_by_mpi(patch: Patch) -> None:
    patch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    patch.setenv("OMPI_COMM_WORLD_RANK", "0")


def rank_1_killed(patch: Patch) -> None:
    """A rank dies while they meet."""
    from barlowctl import distributed, meeting

    def meet(*_: object, cuda: bool) -> None:
        raise meeting.Gone("rank 1 is gone: its process 7 was killed or crashed", says=True)

    patch.setattr(distributed, "meet", meet)


def a_gpu_elsewhere(patch: Patch) -> None:
    """Rank 1 is on a machine with GPUs, and this one has none."""
    from barlowctl import meeting, peers

    patch.setattr(meeting, "wait_until_all_came", lambda *_: [peers.own("its CPU"), peers.own("a GPU")])


TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
            "MASTER_PORT": "29511"}  # fmt: skip
SRUN = {
    "SLURM_PROCID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "77",
}
MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}

PROBE = ["probe", "runs/done", "--knn", "--threads", "1"]

SCENARIOS = {
    "submitted": Scenario([*RECIPE, "--slurm"], slurm, code=0),
    "no sbatch": Scenario([*RECIPE, "--slurm"]),
    "Slurm refuses": Scenario([*RECIPE, "--slurm"], demanding_slurm),
    "flags of a job": Scenario([*RECIPE, "--nodes", "2"]),
    "option of a job": Scenario([*RECIPE, "--print-sbatch", "--slurm-option", "partition"]),
    "GPUs and processes": Scenario([*RECIPE, "--gpus", "2", "--processes", "2"], then="2 GPUs were asked for"),
    "GPUs on a CPU": Scenario([*RECIPE, *SHORT, "--dry-run", "--gpus", "2", "--device", "cpu"]),
    "processes on a GPU": Scenario([*RECIPE, "--processes", "2", "--device", "cuda"], then="2 GPUs were asked for"),
    "no GPUs": Scenario([*RECIPE, *SHORT, "--gpus", "2"]),
    "more processes than cores": Scenario([*RECIPE, *SHORT, "--processes", "1000"], two_cores, slow=True),
    "batch not to be shared": Scenario(
        [*RECIPE, *SHORT, "--dry-run", "--processes", "2", "--set", "train.batch_size=129"], two_cores
    ),
    "half of a launcher": Scenario(PROBE, half_set),
    "half of a launcher, training": Scenario(TRAIN, half_set, slow=True),
    "started by torchrun": Scenario(PROBE, launcher=TORCHRUN),
    "ranks of ranks": Scenario(
        [*RECIPE, *SHORT, "--processes", "2"], launcher={**TORCHRUN, "TORCHELASTIC_RUN_ID": "a"}, slow=True
    ),
    "a GPU elsewhere": Scenario([*RECIPE, *SHORT], a_gpu_elsewhere, launcher=TORCHRUN),
    "rank killed at the start": Scenario([*RECIPE, *SHORT], rank_1_killed, code=4, launcher=TORCHRUN, slow=True),
    "half started by torchrun": Scenario(
        ["probe", "runs/done", "--knn", "--threads", "1"], launcher={"RANK": "0", "WORLD_SIZE": "2"}
    ),
    "measured by MPI": Scenario(PROBE, launcher=MPI),
    "half started by srun": Scenario(TRAIN, launcher=SRUN, slow=True),
    "started by MPI": Scenario(TRAIN, launcher=MPI, slow=True),
}
