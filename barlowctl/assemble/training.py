"""A recipe trained as this process's rank: ranks joined, the run put together, shown, recorded, trained to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barlowctl.assemble import own_parts
from barlowctl.assemble.job import Job, prepare
from barlowctl.assemble.launch import launch
from barlowctl.assemble.machine import Runtime, choose_device
from barlowctl.cores import threads_noted
from barlowctl.distributed import joined
from barlowctl.recipe.schema import Recipe
from barlowctl.train.events import Sink
from barlowctl.train.monitors import Monitor, TensorBoard, Wandb

RANK_TIMEOUT = 900.0
"""Seconds that a rank which does not answer is waited for."""


@dataclass(frozen=True)
class Trained:
    """What became of a run.

    Attributes:
        run: its directory. result: the values of result.json, on rank 0. job: the run as it was put together.
        first: whether this is rank 0.
    """

    run: Path
    result: dict[str, Any]
    job: Job
    first: bool


def train(
    recipe: Recipe,
    runtime: Runtime,
    data: str | None,
    directory: Path | None,
    *,
    show: Callable[[bool], AbstractContextManager[Sink]],
    resume: bool = False,
    rank_timeout: float = RANK_TIMEOUT,
    monitors: Sequence[str] = (),
    stop: Callable[[], bool] = lambda: False,
    notes: Sequence[str] = (),
) -> Trained:
    """Train a recipe: a new run, or one that goes on.

    Args:
        data: the images in place of the recipe's. directory: of the run; None: a new one, named by recipe and date.
        show: whether this is rank 0 -> what shows the events while the run goes on.
        monitors: what else records the run: "tensorboard", "wandb".
        stop: see `launch`. notes: see `Job`.

    Raises:
        UserError, RunStopped, RankLost: see `prepare` and `launch`.
    """
    cuda = choose_device(runtime.device).type == "cuda"
    if resume and directory is not None:
        own_parts.check(directory)
    with joined(cuda=cuda, time_limit=rank_timeout) as ranks:
        job = prepare(recipe, runtime, data, ranks, resume=directory if resume else None)
        job.notes = notes
        with show(ranks.first) as display:
            result = launch(
                job, directory, display, resume=resume, monitors=_monitors(monitors, job.recipe), stop=stop,
                flags=_flags(runtime, job, rank_timeout, monitors),
            )  # fmt: skip
    return Trained(Path(result["run"]), result, job, ranks.first)


def _flags(runtime: Runtime, job: Job, rank_timeout: float, monitors: Sequence[str]) -> dict[str, object]:
    """What `pretrain` was started with beside recipe and images, where it is not the default.

    A number of threads that the environment says is noted as if it had been typed: results on a CPU depend on it, and
    who continues the run has another environment.
    """
    by_environment = job.device.type == "cpu" and not job.recipe.train.cpu_threads
    return {
        "--device": None if runtime.device == "auto" else runtime.device,
        "--threads": runtime.threads or (threads_noted() if by_environment else None),
        "--workers": runtime.workers,
        "--loader": None if runtime.loader == "auto" else runtime.loader,
        "--rank-timeout": None if rank_timeout == RANK_TIMEOUT else f"{rank_timeout:g}",
        **{f"--{name}": True for name in monitors},
    }


def _monitors(names: Sequence[str], recipe: Recipe) -> list[Monitor]:
    """What records a run beside its own files, by name."""
    kinds: dict[str, Callable[[], Monitor]] = {
        "tensorboard": TensorBoard,
        "wandb": lambda: Wandb(recipe.model_dump(mode="json")),
    }
    return [kinds[name]() for name in names]
