"""What `train.compile` asks for: networks compiled at their first call, and a word on how long that took."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

from barlowctl import compiled_code
from barlowctl.methods import Method
from barlowctl.methods.momentum import MovingAverage
from barlowctl.train.events import Event, Notice, Sink, StepDone


def arrange_compiling(method: Method, device: torch.device, *, compiles: bool) -> None:
    """The networks are compiled if `compiles`; of a GPU Triton's kernels of the views are kept in any case."""
    if compiles:
        compile_networks(method)
    elif device.type == "cuda":
        compiled_code.keep()


def compile_networks(method: Method) -> None:
    """Backbone, heads and copies that follow them are compiled at their first call, or taken from what is kept."""
    logging.getLogger("torch.utils.cpp_extension").addFilter(_is_of_use)
    compiled_code.keep()
    copies = [copy for part in method.modules() if isinstance(part, MovingAverage) for copy in part.networks]
    for part in (method.backbone, *method.heads().values(), *copies):
        part.compile()


def _is_of_use(record: logging.LogRecord) -> bool:
    """torch's compiler looks for CUDA's tools where there is no GPU too, and warns that it found some: no fault."""
    return not str(record.msg).startswith("No CUDA runtime is found")


@contextmanager
def compiling_timed(emit: Sink, *, compiles: bool) -> Iterator[Sink]:
    """A sink before `emit` that says, once the first step is done, how long compiling took; else `emit` itself."""
    if not compiles:
        yield emit
        return
    from torch._dynamo.callback import callback_handler
    from torch._dynamo.utils import counters

    seconds, begun, first = 0.0, 0.0, True
    before = _from_cache(counters["inductor"])

    def start(_: object) -> None:
        nonlocal begun
        begun = perf_counter()

    def end(_: object) -> None:
        nonlocal seconds
        seconds += perf_counter() - begun

    def passed_on(event: Event) -> None:
        nonlocal first
        emit(event)
        if first and isinstance(event, StepDone):
            first = False
            hits, graphs = (now - then for now, then in zip(_from_cache(counters["inductor"]), before, strict=True))
            emit(Notice(describe(seconds, hits, graphs, survives=compiled_code.place().survives)))

    callback_handler.register_start_callback(start)
    callback_handler.register_end_callback(end)
    try:
        yield passed_on
    finally:
        callback_handler.remove_start_callback(start)
        callback_handler.remove_end_callback(end)


def _from_cache(counts: dict[str, int]) -> tuple[int, int]:
    """Graphs taken from what was kept, and all of them, as inductor counts."""
    hits = counts["fxgraph_cache_hit"]
    return hits, hits + counts["fxgraph_cache_miss"] + counts["fxgraph_cache_bypass"]


def describe(seconds: float, hits: int, graphs: int, *, survives: bool) -> str:
    """How long compiling took, for people, and why; `survives`: a later run finds the code."""
    if graphs and hits == graphs:
        source = "all of it from what earlier runs compiled"
    elif hits:
        source = f"{hits} of {graphs} parts from what earlier runs compiled"
    else:
        source = "kept for later runs" if survives else "not kept for later runs"
    return f"compiled in {seconds:.0f} s, {source}"
