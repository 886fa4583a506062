"""A run from Python: trained where it is called, or in a thread whose events somebody reads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from os import PathLike, fspath
from pathlib import Path
from typing import Unpack

import torch

from barlowctl import launcher
from barlowctl.api.arguments import checked
from barlowctl.api.initial import weights_named
from barlowctl.api.network import OnEvent
from barlowctl.api.options import Training
from barlowctl.api.packing import standing_in
from barlowctl.api.process import as_a_command, memory_returned
from barlowctl.api.recipes import RecipeLike, open_recipe, override_texts
from barlowctl.api.run import Run
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.resumed import run_to_resume
from barlowctl.assemble.training import train
from barlowctl.errors import RunDiverged, RunStopped, UserError
from barlowctl.recipe import saving
from barlowctl.train.events import Event, Sink

WAITING = 1000
"""Events that a training may be ahead of whoever reads them; then it waits."""


@checked
def pretrain(
    recipe: RecipeLike | None = None,
    *,
    on_event: OnEvent | None = None,
    stop: Callable[[], bool] | None = None,
    handle_signals: bool = False,
    **options: Unpack[Training],
) -> Run:
    """Train a recipe, as `barlowctl pretrain` does: the same numbers, and the same run directory.

    Nothing is printed; `run.notices` has what should be known of it. Ctrl-C (KeyboardInterrupt) ends it after the step
    in progress with the state saved; so does an error that `on_event` or `stop` raises, sys.exit() among them.
    `pretrain(resume=run)` goes on.

    Args:
        recipe: a shipped recipe's name, a TOML file, a `Recipe`, or its tables as a dictionary.
        on_event: called with every event (`barlowctl.events`), in this thread, between steps: be quick.
        stop: asked before every step; True ends the run with its state saved, and returns it.
        handle_signals: let SIGINT, SIGTERM, SIGUSR1 and SIGHUP stop the run after a step, as in a command (main
            thread only). False: signals are the program's own.
        options: see `Training`.

    Returns:
        The run: finished, or stopped where `stop` said so.

    Raises:
        UserError: a recipe, images or a machine with which there is no run; nothing is left behind. An argument that
            there is not, such as a key of the recipe, is one that is a TypeError too.
        RunStopped: a signal came; the state is saved.
        RunDiverged: loss, gradient or weights are not finite.
        KeyboardInterrupt: says what became of the state; a note has the call that goes on.
    """
    watch = _Watch(on_event, stop)
    try:
        with memory_returned(), as_a_command(handle_signals=handle_signals):
            run = Run(_train(recipe, watch, **options))
    except RunStopped as stopped:
        if isinstance(stopped, RunDiverged):
            raise
        if watch.error is not None:
            watch.error.add_note(str(stopped))
            raise watch.error from None
        if watch.stopped and watch.run is not None:
            return Run(watch.run)
        if handle_signals:
            raise
        interrupt = KeyboardInterrupt(str(stopped))
        for note in getattr(stopped, "__notes__", ()):
            interrupt.add_note(note)
        raise interrupt from None  # where in the engine it was is a page of a notebook, and of no use
    if watch.error is not None:  # of the last event
        raise watch.error
    return run


@checked
def pretrain_events(
    recipe: RecipeLike | None = None, *, stop: Callable[[], bool] | None = None, **options: Unpack[Training]
) -> Iterator[Event]:
    """As `pretrain`, as an iterator over the events of the run, which trains in a thread of its own.

    `events.RunStarted` names the run first, `events.RunFinished` last. Leaving the loop stops the run after the step
    in progress, and waits until its state is saved; so does the end of the program. A training waits for a reader who
    is 1000 events behind.

    Args:
        recipe, options: as of `pretrain`. stop: asked before each step; True ends the run there, its state saved.

    Raises:
        UserError, RunDiverged: as `pretrain`, where the next event is asked for.
    """
    events: queue.Queue[Event | None] = queue.Queue(WAITING)
    left, errors = threading.Event(), list[BaseException]()

    def leaving() -> bool:  # at its end the interpreter waits for threads before it closes a generator
        return left.is_set() or not threading.main_thread().is_alive()

    def put(event: Event | None) -> None:
        while not leaving():
            try:
                events.put(event, timeout=0.1)
            except queue.Full:
                continue
            return

    gpu = torch.cuda.current_device() if torch.cuda.is_initialized() else None

    def work() -> None:
        try:
            if gpu is not None:  # each thread has a current GPU of its own
                torch.cuda.set_device(gpu)
            pretrain(recipe, on_event=put, stop=lambda: leaving() or (stop is not None and stop()), **options)
        except BaseException as error:
            errors.append(error)
        finally:
            put(None)

    thread = threading.Thread(target=work, name="barlowctl pretrain")
    thread.start()
    try:
        while (event := events.get()) is not None:
            yield event
    finally:
        left.set()
        thread.join()
    if errors:
        raise errors[0]


class _Watch:
    """Who looks on: told of events, and asked whether to stop. What the caller's functions raise ends the run.

    sys.exit() in them too, which is raised again once the state is saved: the program is theirs.
    """

    def __init__(self, on_event: OnEvent | None, stop: Callable[[], bool] | None) -> None:
        self._on_event, self._stop = on_event, stop
        self.error: Exception | SystemExit | None = None
        self.stopped = False
        self.run: Path | None = None

    def __call__(self, event: Event) -> None:
        self.run = self.run or getattr(event, "run", None)
        if self._on_event is None or self.error is not None:
            return
        try:
            self._on_event(event)
        except (Exception, SystemExit) as error:
            self.error = error

    def stop(self) -> bool:
        """Whether the run is to end."""
        if self._stop is not None and not self.stopped and self.error is None:
            try:
                self.stopped = self._stop()
            except (Exception, SystemExit) as error:
                self.error = error
        return self.stopped or self.error is not None


def _train(recipe: RecipeLike | None, watch: _Watch, **options: Unpack[Training]) -> Path:
    """Train as this process's rank, from the weights of a module too; returns the run's directory."""
    if (init := options.get("init")) is None or init == "":
        return _train_recipe(recipe, watch, **options)
    with weights_named(init, lambda: watch.run is not None or launcher.started()) as weights:
        options["overrides"] = {**(options.get("overrides") or {}), "init.weights": weights}
        return _train_recipe(recipe, watch, **options)


def _train_recipe(recipe: RecipeLike | None, watch: _Watch, **options: Unpack[Training]) -> Path:
    """Train as this process's rank; returns the run's directory.

    Raises:
        UserError: also, what only a new run takes, beside `resume`.
    """
    out, resume = options.get("out"), options.get("resume")
    data, overrides = options.get("data"), dict(options.get("overrides") or {})
    directory = None if out is None else Path(out)
    if resume is None:
        chosen = open_recipe(recipe, overrides)
    else:
        if recipe is not None or set(overrides) - set(saving.KEYS):
            raise UserError(
                "a run that goes on keeps its recipe, and another one is named beside `resume`",
                allowed=f"resume alone, or overrides of {', '.join(saving.KEYS)}; a new run: recipe, overrides, init",
                next="without recipe, other overrides and init",
            )
        name = resume.path if isinstance(resume, Run) else fspath(resume)
        resumed = run_to_resume(name, overrides=override_texts(overrides), out=directory)
        chosen, directory = resumed.recipe, resumed.directory
        data = resumed.dataset() if data is None else data
    notes: Sequence[str] = ()
    with ExitStack() as held:
        if isinstance(data, str | PathLike):
            data = fspath(data)
        elif data is not None:
            data, notes = held.enter_context(standing_in(data, chosen, lambda: watch.run is not None))
        trained = train(
            chosen,
            Runtime(
                options.get("device", "auto"),
                options.get("threads"),
                options.get("workers"),
                options.get("loader", "auto"),
            ),
            data,
            directory,
            show=lambda first: _watching(watch),
            resume=resume is not None,
            monitors=[name for name in ("tensorboard", "wandb") if options.get(name)],
            stop=watch.stop,
            notes=notes,
        )
    return trained.run


def _watching(watch: _Watch) -> AbstractContextManager[Sink]:
    return nullcontext(watch)
