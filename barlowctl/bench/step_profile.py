"""Where our training step's time goes, kernel by kernel on a GPU and operation by operation on a CPU.

What is profiled is the engine as `bench step` measures it. Only a kernel's or an operation's own time counts, so that
the parts of a step add up to it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from barlowctl.assemble.machine import Runtime, set_threads
from barlowctl.assemble.synthetic_steps import training_flops
from barlowctl.bench.room import check_step
from barlowctl.bench.step import base_recipe, describe, machine
from barlowctl.bench.step_ours import OurStep
from barlowctl.bench.step_settings import OURS, StepSettings
from barlowctl.bench.stopwatch import Over
from barlowctl.files import atomic_write
from barlowctl.output_paths import Outputs
from barlowctl.recipe.schema import Recipe

GROUPS: tuple[tuple[str, str], ...] = (
    (
        "convolutions",
        r"fprop|dgrad|wgrad|convolution|winograd|^product(backward)?$|(_branch(inrows)?|_beside|_tileproducts)(backward)?$"
        r"|_foreachpixel|_depthwise|conv2d|im2col|implicit_gemm",
    ),
    ("norms", r"batch_?norm|layer_?norm|group_?norm|_normalize|native_norm|bn_fw|bn_bw|welford|_standardize"),
    ("attention", r"flash|attention|attend|sdpa|softmax|fmha"),
    ("optimizer", r"multi_tensor|foreach|fused_adam|vector_norm|lpnorm"),
    (
        "matrix products",
        r"gemm|nvjet|cutlass|splitk|^_(biased)?rows(backward)?$|aten::(mm|bmm|addmm_?|baddbmm|matmul|linear|dot)$",
    ),
    (
        "copies",
        r"memcpy|memset|copy|catarray|fillfunctor|nchwtonhwc|nhwctonchw|aten::(cat|clone|contiguous|zeros?_?|fill_)$",
    ),
)
"""The first pattern that a name has, whatever its case, says its group; what has none is OTHER."""
OTHER = "element by element, sums, the rest"
FUSED = "triton_"
"""Of inductor's kernels the name lists all operations: those with a norm are "norms", the others OTHER."""
TEMPLATE = "_tem_"
"""In the name of a product or a convolution that inductor has written itself."""
CONVOLVING = (
    "Product", "_Convolution", "_ForEachPixel", "_Winograd", "_TileProducts", "_Branch", "_Beside", "_Depthwise",
)  # fmt: skip
"""Our functions of autograd that convolve, and that give a shortcut's convolution the pixels that it sees."""
CALLERS = {"Optimizer.step#": "optimizer", **dict.fromkeys(CONVOLVING, "convolutions")}
"""What is called from within these is of their group, whatever its name; of our convolutions most is products."""


def group_of(name: str) -> str:
    """The group of a kernel or an operation, by its name."""
    groups = [group for group, pattern in GROUPS if re.search(pattern, name, re.IGNORECASE)]
    if name.startswith(FUSED) and TEMPLATE not in name:
        return "norms" if "norms" in groups else OTHER
    return groups[0] if groups else OTHER


@dataclass
class ProfilingWatch:
    """Sits where the loader's batches come from, as `Stopwatch` does: profiles `steps` steps after `warmup` others.

    device: synchronised before the first and after the last. batches ahead of time are of no interest here.
    """

    device: torch.device
    warmup: int
    steps: int
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    profiled: Any = None
    _taken: int = 0
    _begin: float = 0.0

    def next_batch(self, batches: Iterator[Any], ahead: int) -> Any:
        """The batch of the step that comes now.

        Raises:
            Over: all steps were taken.
        """
        if self._taken == self.warmup + self.steps:
            self._stop()
            raise Over
        if self._taken == self.warmup:
            self._start()
        self._taken += 1
        return next(batches)

    def note(self, text: str) -> None:
        """Something that who reads the numbers should know."""
        self.notes.append(text)

    def _start(self) -> None:
        on_a_gpu = [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
        self.profiled = profile(activities=[ProfilerActivity.CPU, *on_a_gpu], acc_events=True)  # else torch 2.11 warns
        self._wait()
        self.profiled.__enter__()
        self._begin = time.perf_counter()

    def _stop(self) -> None:
        self._wait()
        self.seconds = time.perf_counter() - self._begin
        self.profiled.__exit__(None, None, None)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def profile_step(
    recipe: Recipe,
    *,
    device: torch.device,
    steps: int = 3,
    warmup: int = 6,
    threads: int = 1,
    trace: Path | None = None,
    outputs: Outputs | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Profile some steps on pixels that lie ready; JSON values.

    Args:
        recipe: of two views, as `bench step` has them.
        warmup: steps before; a captured graph exists after four.
        trace: a file for all events, in the format that chrome://tracing and Perfetto read. outputs: is told of it.

    Returns:
        ms: of a step by the clock, the profiler's own work included. busy_ms: of it, the sum of all parts.
        groups, parts: {name, ms, share, calls}, of a step, most time first; share is of `busy_ms`.
    """
    recipe = base_recipe(recipe)
    check_step(recipe, device)
    settings = StepSettings(OURS, recipe, device, threads, warmup, steps)
    load_before = os.getloadavg()[0]
    set_threads(Runtime(threads=threads))
    ours, watch = OurStep(settings), ProfilingWatch(device, warmup, steps)
    progress(f"{warmup} steps of warm-up, then {steps} that are profiled")
    with suppress(Over):
        ours.run(watch)
    parts = parts_of(watch.profiled.events(), device, steps)
    if trace is not None:
        with (outputs or Outputs()).writing(trace, flag="--trace"), atomic_write(trace, durable=False) as unfinished:
            watch.profiled.export_chrome_trace(str(unfinished))
    busy = sum(part["ms"] for part in parts)
    return {
        "ms": round(1e3 * watch.seconds / steps, 3),
        "busy_ms": round(busy, 3),
        "groups": [_with_share(group, busy) for group in grouped(parts)],
        "parts": [_with_share(part, busy) for part in parts],
        "notes": watch.notes,
        "step": describe(settings, training_flops(recipe)),
        "precision": recipe.train.precision,
        "memory_format": "channels_last" if recipe.train.channels_last else "contiguous",
        "compiled": recipe.train.compile,
        "machine": machine(device, threads, load_before),
        "trace": None if trace is None else str(trace),
    }


def parts_of(events: Iterable[Any], device: torch.device, steps: int) -> list[dict[str, Any]]:
    """{name, group, ms, calls} of a step: kernels on a GPU, operations on a CPU. Most time first.

    Args:
        events: `torch.autograd.profiler_util.FunctionEvent` of all steps.
    """
    on_a_gpu = device.type == "cuda"
    parts: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        if on_a_gpu != (event.device_type.name == "CUDA") or (on_a_gpu and event.is_user_annotation):
            continue  # an annotation on a GPU, such as the optimizer's step, lasts as long as the kernels within it
        own = event.self_device_time_total if on_a_gpu else event.self_cpu_time_total
        if own <= 0:
            continue
        group = _group_of_caller(event) or group_of(event.name)
        part = parts.setdefault((event.name, group), {"name": event.name, "group": group, "ms": 0.0, "calls": 0.0})
        part["ms"] += own / 1e3 / steps
        part["calls"] += 1 / steps
    return sorted(parts.values(), key=lambda part: -part["ms"])


def _group_of_caller(event: Any) -> str | None:
    """The group of the nearest of `CALLERS` around it; None: of a GPU's kernels, say, the name alone is known."""
    while event is not None:
        for name, group in CALLERS.items():
            if event.name.startswith(name):
                return group
        event = event.cpu_parent
    return None


def grouped(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The sums of each group, most time first."""
    groups: dict[str, dict[str, Any]] = {}
    for part in parts:
        group = groups.setdefault(part["group"], {"name": part["group"], "ms": 0.0, "calls": 0.0})
        group["ms"] += part["ms"]
        group["calls"] += part["calls"]
    return sorted(groups.values(), key=lambda group: -group["ms"])


def _with_share(part: Mapping[str, Any], busy: float) -> dict[str, Any]:
    rounded = {"ms": round(part["ms"], 4), "calls": round(part["calls"], 2)}
    return {**part, **rounded, "share": round(part["ms"] / busy, 4) if busy else None}
