"""`barlowctl bench profile`: where the time of a training step goes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from barlowctl.amounts import counted
from barlowctl.cli import options
from barlowctl.cli.bench.step_recipe import Backbone, Batch, Method, Precision, Size, StepRecipe, Widths, step_recipe
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.output_paths import Outputs, check_new

EPILOG = examples(
    "barlowctl bench profile --recipe cifar10-resnet18 --precision bf16",
    "barlowctl bench profile --device cuda --set train.compile=true",
    "barlowctl bench profile --backbone resnet18 --size 64 --trace step.json",
)
PROFILE = "Profile"  # a panel of the help
QUIET = ("KINETO_LOG_LEVEL", "99")
"""Keeps torch's profiler from writing its own log on standard error, an ERROR where there is no GPU."""


def profile(
    recipe: StepRecipe = "resnet50",
    overrides: options.Overrides = None,
    method: Method = None,
    backbone: Backbone = None,
    batch: Batch = 256,
    size: Size = None,
    widths: Widths = None,
    precision: Precision = "fp32",
    steps: Annotated[int, options.steps("Steps to profile.", PROFILE)] = 3,
    warmup: Annotated[int, options.warmup("Steps before them.", PROFILE)] = 6,
    top: Annotated[int, options.top("How many kernels or operations.", PROFILE)] = 20,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="All events, for Perfetto or chrome://tracing.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    device: options.Device = "cpu",
    threads: Annotated[int, options.threads("Threads for the mathematics on a CPU.")] = 1,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show where a training step's time goes: by kind of work, and kernel by kernel.

    It is the step that `bench step` measures, on pixels that lie ready: normalisation, gradient, checks, optimizer.
    On a GPU kernels are listed, on a CPU operations, each with its own time alone, so that all of them add up.
    """
    console, outputs = Console(json=json, quiet=quiet), Outputs()
    if trace is not None:
        check_new(trace, "--trace")
    os.environ.setdefault(*QUIET)  # read when torch is imported

    from barlowctl.assemble.machine import choose_device, memory_explained
    from barlowctl.bench.step_profile import profile_step

    where = choose_device(device)
    changed = step_recipe(
        recipe,
        overrides or (),
        method=method,
        backbone=backbone,
        batch=batch,
        size=size,
        widths=widths,
        precision=precision,
        device=where,
        say=console.say,
    )
    with memory_explained(f"--batch {max(16, changed.train.batch_size // 2)}"):
        result = profile_step(
            changed,
            device=where,
            steps=steps,
            warmup=warmup,
            threads=threads,
            trace=trace,
            outputs=outputs,
            progress=console.say,
        )
    for note in result["notes"]:
        console.say(note)
    _show(console, result, top)
    console.conclude(result, outputs)


def _show(console: Console, result: dict[str, Any], top: int) -> None:
    measured, machine, parts = result["step"], result["machine"], result["parts"]
    where = (
        machine["device"]
        if machine["device"] != "cpu"
        else f"{machine['processor']}, {counted(machine['threads'], 'thread')}"
    )
    compiled = ", compiled" if result["compiled"] else ""
    console.table(
        f"{measured['backbone']}, projector {'-'.join(map(str, measured['projector']))}, batch {measured['batch']}, "
        f"{measured['size']} pixels, {result['precision']} {result['memory_format']}{compiled}; {where}, torch "
        f"{machine['torch']}, load {machine['load_before']} before; {result['ms']:,.1f} ms a step by the clock, the "
        f"profiler's own work included; {result['busy_ms']:,.1f} ms of these",
        ("kind of work", "ms", "share", "calls"),
        [_cells(group) for group in result["groups"]],
    )
    what = "kernels" if machine["device"] != "cpu" else "operations"
    rest = f", the first {top} of {len(parts)}" if len(parts) > top else ""
    console.table(
        f"{what}{rest}",
        ("name", "kind of work", "ms", "share", "calls"),
        [(part["name"], part["group"], *_cells(part)[1:]) for part in parts[:top]],
    )


def _cells(part: dict[str, Any]) -> tuple[str, ...]:
    return part["name"], f"{part['ms']:,.3f}", f"{100 * part['share']:.1f} %", f"{part['calls']:,.4g}"
