"""A run as it is shown: a live display on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barlowctl import shell
from barlowctl.amounts import rate
from barlowctl.cli.bars import bar_columns
from barlowctl.cli.console import Console, say_aside
from barlowctl.cli.streams import forget
from barlowctl.quantities import label_of
from barlowctl.train.events import (
    CheckpointSaved,
    EpochDone,
    Evaluated,
    Event,
    Measuring,
    Notice,
    RunFinished,
    RunStarted,
    Sink,
    StepDone,
)
from barlowctl.waits import Wait

if TYPE_CHECKING:
    from rich.progress import Progress

FIRST_STEP = 20.0  # seconds after which a first step that is not done is worth a line
PATIENCE = 60.0, 1800.0  # seconds without a line within an epoch: at first, doubled with every line, and at most
MEASURED = (
    "knn", "linear", "lidar", "feature_spread", "embedding_spread", "effective_rank", "AP", "AP50", "mask AP",
)  # fmt: skip
"""What is shown of an evaluation."""
FORMATS = {
    "knn": ".1f", "feature_spread": ".3f", "embedding_spread": ".3f", "data_wait": ".0%",
}  # fmt: skip
"""How values are written; others with four digits."""


@contextmanager
def show(console: Console) -> Iterator[Sink]:
    """A sink that shows a run's events, for as long as the context lasts, or somebody reads it.

    A run does not end because its reader did: what cannot be shown any more is said on standard error, once.
    """
    if console.quiet:
        yield lambda event: None
        return
    display = _Live(console) if console.live else _Lines(console)
    sink = _Unread(display, console)
    with _entered(display, sink):
        yield sink


@contextmanager
def _entered(display: _Live | _Lines, sink: _Unread) -> Iterator[None]:
    """The display's own context, whose end may fail as everything on a terminal that was closed."""
    if isinstance(display, _Lines):
        try:
            yield
        finally:
            display.until_a_step.close()
        return
    display.__enter__()
    try:
        yield
    finally:
        try:
            display.__exit__(None, None, None)
        except OSError as error:
            sink.give_up(error)


class _Unread:
    """A display until writing to it fails."""

    def __init__(self, display: Sink, console: Console) -> None:
        self.display, self.console = display, console
        self.run: Path | None = None
        self.broken = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.run = event.run
        if self.broken:
            if isinstance(event, Notice):
                say_aside(f"note: {event.text}")
            return
        try:
            self.display(event)
        except OSError as error:
            self.give_up(error)

    def give_up(self, error: OSError) -> None:
        """Show nothing from now on, and say so."""
        if not self.broken:
            self.broken = True
            forget(self.console.stream)
            watch = shell.line("barlowctl", "runs", "watch", *([self.run] if self.run else []))
            say_aside(f"note: nobody reads the output any more ({error.strerror}); training goes on: {watch}")


def duration(seconds: float) -> str:
    """`1 h 05 min`, `4 min 10 s`, `12 s`; years where it comes to that."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 72:
        return f"{hours} h {minutes:02d} min"
    days = hours / 24
    return f"{days:.1f} days" if days < 730 else f"{days / 365.25:.1f} years"


def binary_size(count: int) -> str:
    """`1.5 GiB`, `312 MiB`: bytes for people."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _say_start(console: Console, event: RunStarted) -> None:
    width = max(len(label) for label in event.first_lines)
    console.say(f"run {event.run}" + (f", resumed at step {event.start_step}" if event.start_step else ""))
    for label, value in event.first_lines.items():
        console.say(f"  {label:<{width}}  {value}")


def _text(values: Any, keys: tuple[str, ...]) -> str:
    parts = []
    for key in keys:
        if key in values:
            value = values[key]
            text = rate(value) if key == "images_per_second" else format(value, FORMATS.get(key, ".4g"))
            parts.append(f"{label_of(key)} {text}")
    return "  ".join(parts)


class _Lines:
    """Plain lines: one per epoch, and one per evaluation; within an epoch that lasts, ever more seldom."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.epochs = 0
        self.steps = 0
        self.begun: tuple[int, float] | None = None  # the first step, and when it was done
        self.iterations = False
        self.terms: tuple[str, ...] = ()
        self.last: dict[str, float] = {}
        self.spoke_at, self.patience = time.monotonic(), PATIENCE[0]
        self.until_a_step = ExitStack()

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                _say_start(self.console, event)
                self.epochs, self.steps = math.ceil(event.steps / event.steps_per_epoch), event.steps
                self.begun, self.terms = None, event.terms
                self.iterations = event.iterations
                self.spoke_at, self.patience = time.monotonic(), PATIENCE[0]
                if event.start_step < event.steps:
                    self.until_a_step.enter_context(Wait("no step is done yet ...", FIRST_STEP))
            case StepDone():
                self.until_a_step.close()
                self.begun = self.begun or (event.step, time.monotonic())
                if len(event.values) > 1:  # a logged one, or an epoch's last
                    self.last = dict(event.values)
                if time.monotonic() - self.spoke_at >= self.patience and event.step < self.steps:
                    self._say_where(f"step {event.step:,}/{self.steps:,}", _text(event.values, ("loss",)), event.step)
                    self.patience = min(2.0 * self.patience, PATIENCE[1])
            case EpochDone():
                text = _text(event.values, ("loss", "images_per_second"))
                if of_step := _text(self.last, (*self.terms, "lr_weights")):
                    text = f"mean {text}  last step: {of_step}"
                where = f"epoch {event.epoch + 1}/{self.epochs}"
                if self.iterations:
                    where = f"iteration {event.step:,}/{self.steps:,}"
                self._say_where(where, text, event.step)
            case Evaluated():
                what = "evaluation" if {"knn", "AP"} & event.values.keys() else "diagnostics"
                when = " of the start" if event.epoch < 0 else ""
                self.console.say(f"  {what}{when}  " + _text(event.values, MEASURED))
            case Measuring():
                self.console.say(f"{event.part} ...")
            case Notice():
                self.console.say(f"note: {event.text}")

    def _say_where(self, where: str, text: str, step: int) -> None:
        self.spoke_at = time.monotonic()
        first, then = self.begun or (step, self.spoke_at)
        if step > first or step == self.steps:  # the first step compiles
            left = (self.spoke_at - then) / max(step - first, 1) * (self.steps - step)
            text += f"  left {duration(left)}"
        self.console.say(f"{where}  {text}")


class _Live:
    """Two bars (run, epoch) over one line of metrics, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.terms: tuple[str, ...] = ()
        self.metrics: dict[str, float] = {}
        self.start: dict[str, float] = {}  # what was measured before the first step

    def __enter__(self) -> _Live:
        from rich.live import Live
        from rich.progress import Progress

        self.bars: Progress = Progress(*bar_columns("{task.description:<6}"))
        self.live = Live(console=self.console.rich, refresh_per_second=4, get_renderable=self._draw, transient=False)
        self.live.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.live.__exit__(*exception)

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                _say_start(self.console, event)
                self.steps_per_epoch, self.terms = event.steps_per_epoch, event.terms
                total = event.steps
                for finished in self.bars.task_ids:  # of a training before this one
                    self.bars.remove_task(finished)
                self.run = self.bars.add_task("run", total=total, completed=event.start_step)
                done = event.start_step % event.steps_per_epoch
                self.number = event.start_step // event.steps_per_epoch
                self.epoch = self.bars.add_task(
                    "epoch", total=event.steps_per_epoch, completed=done, visible=not event.iterations
                )
            case StepDone():
                self.bars.update(self.run, completed=event.step)
                within = event.step - event.epoch * self.steps_per_epoch
                if event.epoch != self.number:  # a bar that was full stays finished, with no time left
                    self.number = event.epoch
                    self.bars.reset(self.epoch)
                self.bars.update(self.epoch, completed=within, description=f"epoch {event.epoch + 1}")
                self.metrics.update(event.values)
            case EpochDone():
                self.metrics.update(event.values)
            case Evaluated():
                self.metrics.update(event.values)
                if event.epoch < 0:
                    self.start = dict(event.values)
            case Measuring():
                self.console.say(f"{event.part} ...")
            case Notice():
                self.console.say(f"note: {event.text}")
            case CheckpointSaved() | RunFinished():
                pass

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        training = ("loss", *self.terms, "lr_weights", "images_per_second", "data_wait")
        first = _text(self.metrics, training)
        second = _text(self.metrics, MEASURED)
        start = _text(self.start, MEASURED)
        third = f"at the start: {start}" if start else ""
        return Group(self.bars, *(Text(line) for line in (first, second, third) if line))
