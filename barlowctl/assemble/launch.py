"""A job in its run directory: made or resumed, locked, recorded, trained, its result written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from barlowctl.amounts import counted, megabytes
from barlowctl.assemble import own_parts, precision, restored, run_images
from barlowctl.assemble.changed_since import changed_since, decoded_otherwise
from barlowctl.assemble.gain import since_start
from barlowctl.assemble.job import Job, pretrain
from barlowctl.assemble.machine import compiling_explained, memory_explained
from barlowctl.assemble.memory import less_memory
from barlowctl.assemble.optimizers import checkpoint_bytes
from barlowctl.assemble.plan import check_memory
from barlowctl.assemble.run_recipe import recipe_of
from barlowctl.distributed import RankLost
from barlowctl.errors import RunStopped, UserError
from barlowctl.files import remove_partial
from barlowctl.output_paths import check_folder, free_bytes, whole
from barlowctl.recipe import load, saving
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import history, records, rundir
from barlowctl.runs.environment import environment
from barlowctl.runs.resumption import Launch, launch_of
from barlowctl.signals import stop_requests
from barlowctl.train import checkpoint, sinks
from barlowctl.train.events import Event, Notice, RunFinished, RunStarted, Sink, broadcast
from barlowctl.train.monitors import Monitor, guarded


def launch(
    job: Job,
    run: Path | None,
    show: Sink,
    *,
    resume: bool = False,
    monitors: Sequence[Monitor] = (),
    stop: Callable[[], bool] = lambda: False,
    flags: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Train a job to its end and write the result.

    Args:
        run: the run directory: new (None: named by recipe and date), or the one to resume.
        show: shows events to whoever watches.
        monitors: what else records the run (TensorBoard, W&B).
        stop: asked before every step whether to end here, with the state saved; so do signals (see `signals`).
        flags: of `pretrain`, for whoever continues the run (see `resumption`); None: another command trains it.

    Over several ranks all of them make this call; rank 0 alone touches the directory and shows and records.

    Returns:
        The values of result.json; on ranks other than 0 the run alone.

    Raises:
        UserError: the directory exists already, or is in use, or holds a run of other images; a monitor cannot work;
            an error ended the training (the message says what became of the state).
        RunStopped: interrupted, with the state saved; or loss, gradient or weights are not finite (RunDiverged).
        RankLost: another rank is gone.
    """
    for monitor in monitors:
        monitor.check()
    if job.ranks.first and not resume:
        check_folder(rundir.runs_home() if run is None else run.parent, named=run)
    if resume and run is not None and job.ranks.first:
        job.earlier_precision = precision.recorded_by(run) or job.earlier_precision
    check_memory(job.resolved, job.method, job.precision.used, job.ranks.local_size)
    first_lines = job.first_lines()  # what can be refused is refused before anything is written
    if job.ranks.first:
        _check_room(job, run, resume=resume)
    digest, ranks = load.digest(recipe_of(run) if resume and run is not None else job.recipe), job.ranks
    with stop_requests() as signalled, ExitStack() as held:
        emit: Sink = _ignore
        has_checkpoint, evaluated = False, None
        if ranks.first:
            launched = None if flags is None else launch_of(flags, on_gpus=job.device.type == "cuda")
            run, emit, start, evaluated = _begin(job, run, show, first_lines, monitors, held, launched, resume=resume)
            has_checkpoint = start is not None
        run, has_checkpoint = ranks.from_first((run, has_checkpoint))
        with memory_explained(less_memory(job.recipe)), compiling_explained():
            values = pretrain(
                job, run, emit, digest=digest, stop=lambda: signalled() or stop(), resume=has_checkpoint,
                evaluated=evaluated,
            )  # fmt: skip
        if not ranks.first:
            return {"run": str(run)}
        result = {"run": str(run), "finished": rundir.now(), **values, **since_start(run)}
        rundir.write_json(run / "result.json", whole(result))
        emit(RunFinished(run, result))
    return result


def _begin(
    job: Job,
    run: Path | None,
    show: Sink,
    first_lines: dict[str, str],
    monitors: Sequence[Monitor],
    held: ExitStack,
    launched: Launch | None,
    *,
    resume: bool,
) -> tuple[Path, Sink, int | None, Mapping[str, float] | None]:
    """Rank 0's run directory, made or checked, locked until `held` is closed; the run's start is shown and recorded.

    Returns:
        The directory, the sink of all that records the run, the step of the checkpoint to go on from (None: there is
        none) and what was measured at it.
    """
    show = guarded(show, "the display", lambda text: None)  # who shows has said what it could
    images_note = None
    if resume:
        assert run is not None
        images_note = run_images.check(run, job.source, job.dataset)
    else:
        run = rundir.create(run, job.recipe.name, _first_files(job, first_lines, launched))
        held.enter_context(_nothing_left_of_nothing(run))
    held.enter_context(rundir.lock(run))
    if resume:
        _clear_up(run)
        run_images.remember(run, job.source, job.dataset, job.resolved.held_out)
        precision.keep(run, job.precision, job.device)
        begun = recipe_of(run)
        if launched is not None:
            launched["flags"] += saving.flags(begun, job.recipe)
        if made_anew := restored.complete(run, _about(job, begun, first_lines, launched)):
            images_note = made_anew
        _remember_launch(run, launched)
    has_checkpoint = bool(checkpoint.list_checkpoints(run / "checkpoints"))
    start = checkpoint.load_latest(run / "checkpoints").state.step if has_checkpoint else 0
    emit, notes = _recorded(run, start, show, monitors, job.recipe.train.log_every_steps if resume else None)
    evaluated = sinks.evaluation_at(run / "metrics.jsonl", start)
    settings = job.settings
    lengths = (settings.epochs, settings.steps_per_epoch, settings.total_steps)
    emit(RunStarted(run, first_lines, *lengths, start, tuple(job.method.terms)))
    if resume:
        about = rundir.read_json(run / "run.json")
        notes += [note for note in (changed_since(about, first_lines), decoded_otherwise(about)) if note]
        notes += [*own_parts.note_changed(run), *saving.changed(begun, job.recipe)]
    for note in ([images_note] if images_note else []) + notes + [*job.notes]:
        emit(Notice(note))
    return run, emit, start if has_checkpoint else None, evaluated


def _remember_launch(run: Path, launched: Launch | None) -> None:
    """Note how a run is started now, where it was started in another way before."""
    about = rundir.read_json(run / "run.json")
    if launched is not None and about.get("launch") != launched:
        rundir.write_json(run / "run.json", {**about, "launch": launched})


def _clear_up(run: Path) -> None:
    """Remove what a process that was killed left half-written or half-removed; nobody else writes there now."""
    for folder in (run, run / "checkpoints", run / "diagnostics"):
        with suppress(OSError):
            remove_partial(folder)


def _recorded(
    run: Path, start: int, show: Sink, monitors: Sequence[Monitor], log_every: int | None
) -> tuple[Sink, list[str]]:
    """The sink of all that records a run from a step on, and what is to be said of its records until there.

    Args:
        log_every: of a run that is resumed: after how many steps it records one. None: a new run.
    """

    def tell(text: str) -> None:
        show(Notice(text))

    watching = [guarded(monitor.open(run, start), monitor.name, tell) for monitor in monitors]
    notes = []
    if log_every is not None:
        notes = _of_records(run, start, log_every) if start else [_start_over(run)]
    recorded = sinks.json_lines(run / "metrics.jsonl", start_step=start)
    return broadcast(show, recorded, sinks.notice_lines(run / history.NOTICES), *watching), notes


def _start_over(run: Path) -> str:
    """Prepare a run that has no checkpoint to begin again; returns what that costs, in words.

    Its records go aside: a run whose checkpoints were deleted has more of them than one that was killed early.
    """
    metrics = run / "metrics.jsonl"
    reached = max((record["step"] for record in records.read(metrics)), default=0)
    if not reached:
        metrics.unlink(missing_ok=True)
        return "the run was stopped before its first checkpoint: it starts from the beginning"
    aside = sinks.put_aside(metrics)
    if (run / "diagnostics").is_dir():
        sinks.put_aside(run / "diagnostics")
    return (
        f"there is no checkpoint in '{run / 'checkpoints'}', though the run had come to step {reached:,}: none was "
        f"written by then, or they were deleted. It starts from the beginning; its records are kept in '{aside.name}'"
    )


def _of_records(run: Path, start: int, log_every: int) -> list[str]:
    """What a run resumed at a step does a second time, and which records of steps before are lost, in words."""
    metrics = run / "metrics.jsonl"
    reached = max((record["step"] for record in records.read(metrics)), default=0)
    if lost := records.damage(metrics, running=True, made=start, log_every=log_every):
        return [f"{lost}: curves have a gap there; the state that the run goes on from is whole"]
    again = f"the newest checkpoint is of step {start:,}: steps {start + 1:,} to {reached:,} are made again"
    return [again] if reached > start else []


def _check_room(job: Job, run: Path | None, *, resume: bool) -> None:
    """Refuse a disk that cannot hold the checkpoints: a new one is written before the oldest goes.

    Raises:
        UserError: there is less room than they take at least.
    """
    folder = rundir.runs_home() if run is None else run
    existing = len(checkpoint.list_checkpoints(folder / "checkpoints")) if run is not None else 0
    size, keep = checkpoint_bytes(job.recipe, job.method, job.resolved.rates), _checkpoints(job)
    needed, free = size * max(1, keep + 1 - existing), free_bytes(folder)
    if needed > free:
        raise UserError(
            f"the run keeps {counted(keep, 'checkpoint')} and writes another beside them, {megabytes(size)} each; "
            f"there is room for {megabytes(free)} in '{folder}'",
            allowed=f"{megabytes(needed)} or more" + ("" if resume else ", or a smaller train.keep_checkpoints"),
            next="free space or make it writable, then go on" if resume else "name another place with --out",
        )


def _checkpoints(job: Job) -> int:
    """How many checkpoints a run keeps at most: not more than it writes, so that a huge number says all of them."""
    train, steps = job.recipe.train, job.resolved.total_steps
    written = -(-steps // (job.resolved.steps_per_epoch * train.checkpoint_every_epochs)) + 1
    written += steps // train.checkpoint_every_steps if train.checkpoint_every_steps else 0
    return min(train.keep_checkpoints, written) + (train.keep_best != "off")


def _ignore(event: Event) -> None:
    """What ranks other than the first do with events."""


def _first_files(job: Job, first_lines: dict[str, str], launched: Launch | None) -> dict[str, str | bytes]:
    """What a run directory holds from its first moment: the recipe, and what explains the run."""
    return {
        "recipe.toml": load.dump(job.recipe),
        "run.json": rundir.json_text(_about(job, job.recipe, first_lines, launched)),
        **run_images.listing(job.source),
    }


def _about(job: Job, begun: Recipe, first_lines: dict[str, str], launched: Launch | None) -> dict[str, Any]:
    """What run.json holds. begun: the recipe that the run began with."""
    settings = job.settings
    length = {"epochs": settings.epochs, "steps_per_epoch": settings.steps_per_epoch, "steps": settings.total_steps}
    return {
        **environment(),
        "recipe_digest": load.digest(begun),
        "recipe": begun.model_dump(mode="json"),
        "data": run_images.record(job.source, job.dataset, job.resolved.held_out),
        "length": length,
        "terms": dict(job.method.terms),
        "context": job.context.as_dict(),
        "ranks": job.ranks.size,
        "preprocessing": job.resolved.preprocessing.as_dict(),
        "precision": precision.record(job.precision, job.device),
        **({"start": job.start.record()} if job.start else {}),
        **own_parts.record(job.recipe),
        **({"launch": launched} if launched else {}),
        "facts": first_lines,
    }


@contextmanager
def _nothing_left_of_nothing(run: Path) -> Iterator[None]:
    """A new run that ends before its first step leaves no directory: a second try finds its name free."""
    try:
        yield
    except RunStopped:
        raise
    except BaseException as error:
        has_steps = any(record["step"] for record in records.read(run / "metrics.jsonl"))  # more than its start
        if run.is_dir() and not (checkpoint.list_checkpoints(run / "checkpoints") or has_steps):
            shutil.rmtree(run, ignore_errors=True)
            _advise_to_begin_again(error)
        raise


def _advise_to_begin_again(error: BaseException) -> None:
    """Of an error whose run is not there any more: what was typed, instead of the run's resumption or of nothing."""
    lines = (getattr(error, "next", None) or "").splitlines()
    is_lost = isinstance(error, RankLost) and not lines
    if isinstance(error, UserError) and (is_lost or any("--resume" in line for line in lines)):
        error.next = "\n".join([*(line for line in lines if "--resume" not in line), "barlowctl ..."])
