"""A job in its run directory: made or resumed, locked, recorded, trained, its result written."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from barlowctl.assemble import run_images
from barlowctl.assemble.job import Job, pretrain
from barlowctl.assemble.machine import memory_explained
from barlowctl.recipe import load
from barlowctl.recipe.schema import Train
from barlowctl.train import checkpoint, rundir, sinks
from barlowctl.train.events import Event, Notice, RunFinished, RunStarted, Sink, broadcast


def _less_memory(train: Train) -> str:
    """What to set where memory ran out: half as many images at a time, which leaves the gradient as it is."""
    at_a_time = (train.micro_batch or train.batch_size) // 2
    fewer = f"--set train.micro_batch={max(4, at_a_time)}" if at_a_time >= 4 else "--set train.batch_size=4"
    return fewer if train.activation_checkpointing else f"{fewer}\n--set train.activation_checkpointing=true"


def launch(
    job: Job,
    run: Path | None,
    show: Sink,
    *,
    resume: bool = False,
    record: Sequence[Callable[[Path], Sink]] = (),
) -> dict[str, Any]:
    """Train a job to its end and write the result.

    Args:
        run: the run directory: new (None: named by recipe and date), or the one to resume.
        show: shows events to whoever watches.
        record: further sinks, made for the run directory (TensorBoard, W&B).

    Over several ranks all of them make this call; rank 0 alone touches the directory and shows and records.

    Returns:
        The values of result.json (on rank 0).

    Raises:
        UserError: the directory exists already, or is in use, or holds a run of other images.
        RunStopped: interrupted, or the loss is not finite (RunDiverged); the state is saved.
        RankLost: another rank is gone.
    """
    facts = job.facts()  # what can be refused is refused before anything is written
    digest, ranks = load.digest(job.recipe), job.ranks
    with _stop_on_signals() as stop, ExitStack() as held:
        emit: Sink = _ignore
        start, found, known = 0, False, None
        if ranks.first:
            if resume:
                assert run is not None
                known = run_images.check(run, job.source, job.dataset)
            else:
                run = rundir.create(run, job.recipe.name, _first_files(job, facts))
            held.enter_context(rundir.lock(run))
            if resume:
                run_images.remember(run, job.source, job.dataset)
            found = bool(checkpoint.list_checkpoints(run / "checkpoints"))
            start = checkpoint.load_latest(run / "checkpoints", model_only=True).state.step if found else 0
            extra = [make(run) for make in record]
            emit = broadcast(show, sinks.json_lines(run / "metrics.jsonl", start_step=start), *extra)
            emit(RunStarted(run, facts, job.settings.epochs, job.settings.steps_per_epoch, start))
            if known:
                emit(Notice(known))
            if resume and not found:
                emit(Notice("the run was stopped before its first checkpoint: it starts from the beginning"))
        run, found = ranks.from_first((run, found))
        with memory_explained(_less_memory(job.recipe.train)):
            values = pretrain(job, run, emit, digest=digest, stop=stop, resume=found)
        if not ranks.first:
            return {}
        result = {"run": str(run), **values}
        rundir.write_json(run / "result.json", result)
        emit(RunFinished(run, result))
    return result


def _ignore(event: Event) -> None:
    """What ranks other than the first do with events."""


def _first_files(job: Job, facts: dict[str, str]) -> dict[str, str | bytes]:
    """What a run directory holds from its first moment: the recipe, and what explains the run."""
    length = {"epochs": job.settings.epochs, "steps_per_epoch": job.settings.steps_per_epoch}
    about = {
        **rundir.environment(),
        "recipe_digest": load.digest(job.recipe),
        "data": run_images.record(job.source, job.dataset),
        "length": length,
        "ranks": job.ranks.size,
        "facts": facts,
    }
    return {
        "recipe.toml": load.dump(job.recipe),
        "run.json": rundir.json_text(about),
        **run_images.listing(job.source),
    }


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    """SIGINT, SIGTERM and SIGUSR1 ask the run to stop after the step in progress; a second SIGINT aborts."""
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
