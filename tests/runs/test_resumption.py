"""The command that continues a run has the launcher and the flags that the run was started with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barlowctl.runs.resumption import launch_of, resume_line

FLAGS = {"--device": "cpu", "--threads": 2, "--workers": None, "--wandb": True, "--tensorboard": False}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "node1",
            "MASTER_PORT": "29511"}  # fmt: skip
OURS = {**TORCHRUN, "BARLOWCTL_EXIT_CODES": "/tmp/codes", "TORCHELASTIC_RUN_ID": "x"}
SRUN = {"SLURM_PROCID": "5", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1",
        "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "gpu[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "on_gpus", "line"),
    [
        ({}, False, "barlowctl pretrain --resume RUN --device cpu --threads 2 --wandb"),
        (OURS, False, "barlowctl pretrain --resume RUN --processes 4 --threads 2 --wandb"),
        (OURS, True, "barlowctl pretrain --resume RUN --gpus 4 --device cpu --threads 2 --wandb"),
        (
            {**TORCHRUN, "TORCHELASTIC_RUN_ID": "x"},
            False,
            "torchrun --standalone --nproc-per-node 4 -m barlowctl pretrain --resume RUN --device cpu --threads 2 "
            "--wandb",
        ),
        (
            {**TORCHRUN, "TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2"},
            False,
            "torchrun --nnodes 2 --rdzv-backend c10d --rdzv-endpoint node1 --nproc-per-node 2 -m barlowctl pretrain "
            "--resume RUN --device cpu --threads 2 --wandb",
        ),
        (
            SRUN,
            True,
            "srun --nodes 2 --ntasks-per-node 4 --gpus-per-node 4 barlowctl pretrain --resume RUN --device cpu "
            "--threads 2 --wandb",
        ),
        ({**TORCHRUN, **SRUN}, False, "srun --nodes 1 --ntasks-per-node 4 barlowctl pretrain --resume RUN --device cpu "
         "--threads 2 --wandb"),
        (TORCHRUN, False, "barlowctl pretrain --resume RUN --device cpu --threads 2 --wandb"),
    ],
)  # fmt: skip
def test_a_run_is_continued_as_it_was_started(
    tmp_path: Path, environment: dict[str, str], on_gpus: bool, line: str
) -> None:
    launch = launch_of(FLAGS, on_gpus=on_gpus, environment=environment)
    (tmp_path / "run.json").write_text(json.dumps({"launch": launch}))
    assert resume_line(tmp_path) == line.replace("RUN", str(tmp_path))


@pytest.mark.parametrize("about", [None, "[", "{}", '{"launch": 3}', '{"launch": {"before": []}}', "[1]"])
def test_a_run_that_noted_nothing_is_continued_by_its_name(tmp_path: Path, about: str | None) -> None:
    if about is not None:
        (tmp_path / "run.json").write_text(about)
    assert resume_line(tmp_path) == f"barlowctl pretrain --resume {tmp_path}"
