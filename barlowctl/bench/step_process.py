"""`python -m barlowctl.bench.step_process`: one row of the step's benchmark in its own process."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

import torch

from barlowctl.assemble.machine import Runtime, set_threads
from barlowctl.bench import machine_peak
from barlowctl.bench.channel import Channel
from barlowctl.bench.step_settings import StepSettings
from barlowctl.bench.stopwatch import Conversation, Over, Stopwatch


class StepImplementation(Protocol):
    """Whoever wrote the step: a network that can take steps."""

    def check(self) -> float: ...

    def run(self, watch: Stopwatch) -> None: ...


def build(settings: StepSettings) -> StepImplementation:
    """Ours or another, on its device."""
    if settings.kind == "ours":
        from barlowctl.bench.step_ours import OurStep

        set_threads(Runtime(threads=settings.threads))  # as a run does, freed memory included
        return OurStep(settings)
    from barlowctl.bench.step_lightly import EXAMPLES, LightlyStep
    from barlowctl.bench.step_others import OtherStep

    torch.set_num_threads(settings.threads)
    return LightlyStep(settings) if settings.recipe.objective.name in EXAMPLES else OtherStep(settings)


def serve(channel: Conversation) -> None:
    """Be built, say what the loss is, then take steps in rounds as asked, until there are no more."""
    question = channel.ask()
    if question is None:
        return
    settings = StepSettings.from_json(question)
    if settings.kind == "peak":
        measure_machine(settings, channel)
        return
    implementation = build(settings)
    channel.answer({"ready": True, "loss": exact(implementation)})
    watch = Stopwatch(
        channel,
        settings.device,
        images=settings.recipe.train.batch_size,
        warmup=settings.warmup,
        steps=settings.steps,
        children=settings.loading is not None,
    )
    with suppress(Over):
        implementation.run(watch)


def exact(implementation: StepImplementation) -> float:
    """The implementation's check, without the rounding of a GPU's TF32."""
    convolutions = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        return implementation.check()
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
    parent = Channel()
    try:
        serve(parent)
    except Exception as error:
        parent.fail(error)
