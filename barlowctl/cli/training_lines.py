"""What a measurement is at: a line for every epoch of a classifier that is trained, and for what else takes a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from barlowctl.amounts import rate
from barlowctl.cli.console import Console

if TYPE_CHECKING:
    from barlowctl.train.events import Event, Sink


def report_training(console: Console) -> Callable[[str], Sink]:
    """Task -> a sink that says a line per epoch, and per part of what is not trained."""

    def of(task: str) -> Sink:
        from barlowctl.train.events import EpochDone, Measuring, Notice, StepDone

        last: dict[str, float] = {}

        def report(event: Event) -> None:
            match event:
                case StepDone(logged=True):
                    last.update(event.values)
                case EpochDone():
                    accuracy = f"  batch accuracy {last['accuracy']:.1%}" if "accuracy" in last else ""
                    loss, speed = event.values["loss"], event.values["images_per_second"]
                    console.say(f"{task}: epoch {event.epoch + 1}  loss {loss:.4f}{accuracy}  {rate(speed)} images/s")
                case Measuring():
                    console.say(f"{task}: {event.part}")
                case Notice():
                    console.say(f"note: {event.text}")

        return report

    return of
