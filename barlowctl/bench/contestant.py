"""`python -m barlowctl.bench.contestant`: one row of the step's benchmark in its own process (see `turns`)."""

from __future__ import annotations

import signal
from typing import Any, Protocol

import torch

from barlowctl.assemble.machine import Runtime, set_threads
from barlowctl.bench import machine_peak
from barlowctl.bench.step_settings import StepSettings
from barlowctl.bench.stopwatch import Conversation, Stopwatch
from barlowctl.bench.turns import Channel


class Contestant(Protocol):
    """A network that can take steps."""

    def check(self) -> float: ...

    def run(self, watch: Stopwatch) -> None: ...


def build(settings: StepSettings) -> Contestant:
    """Ours or a rival's, on its device."""
    if settings.kind == "ours":
        from barlowctl.bench.step_ours import Ours

        set_threads(Runtime(threads=settings.threads))  # as a run does, freed memory included
        return Ours(settings)
    from barlowctl.bench.step_rivals import Rival

    torch.set_num_threads(settings.threads)
    return Rival(settings)


def serve(channel: Conversation) -> None:
    """Be built, say what the loss is, then take steps in rounds as asked.

    Raises:
        SystemExit: there are no more rounds.
    """
    told = channel.ask()
    if told is None:
        return
    settings = StepSettings.from_json(told)
    if settings.kind == "peak":
        measure_machine(settings, channel)
        return
    contestant = build(settings)
    channel.answer({"ready": True, "loss": exact(contestant)})
    watch = Stopwatch(
        channel,
        settings.device,
        images=settings.recipe.train.batch_size,
        warmup=settings.warmup,
        steps=settings.steps,
        children=settings.loading is not None,
    )
    contestant.run(watch)


def exact(contestant: Contestant) -> float:
    """The contestant's check, without the rounding of a GPU's TF32."""
    convolutions = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        return contestant.check()
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions


def measure_machine(settings: StepSettings, channel: Conversation) -> None:
    """Answers are `machine_peak.rates`."""
    torch.set_num_threads(settings.threads)
    answer: dict[str, Any] = {"ready": True}
    while True:
        channel.answer(answer)
        if channel.ask() is None:
            return
        answer = dict(machine_peak.rates(settings.device, settings.recipe.train.precision))
        if settings.device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks ends this process by asking no more
    spoken = Channel()
    try:
        serve(spoken)
    except Exception as error:
        spoken.fail(error)
