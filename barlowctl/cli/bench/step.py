"""`barlowctl bench step`: the training step against the alternatives, and an ablation of our own settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from barlowctl.amounts import counted, rate
from barlowctl.cli import limits, options
from barlowctl.cli.bench.step_recipe import Backbone, Batch, Method, Precision, Size, StepRecipe, Widths, step_recipe
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.errors import UserError

EPILOG = examples(
    "barlowctl bench step --recipe cifar10-resnet18 --precision bf16",
    "barlowctl bench step --device cuda --precision bf16 --json > step.json",
    "barlowctl bench step --method byol --backbone resnet18 --size 64 --batch 64",
    "barlowctl bench step --rows ours --threads 2 --backbone resnet18 --size 32",
    "barlowctl bench step --ladder --backbone resnet18 --size 32 --widths 2048x3",
)
COMPARISON = "Comparison"  # a panel of the help

COLUMNS = ("step", "in", "images/s", "ms (range)", "CPU s", "peak MB", "wait", "of peak", "ratio (range)")


def step(
    recipe: StepRecipe = "resnet50",
    overrides: options.Overrides = None,
    method: Method = None,
    backbone: Backbone = None,
    batch: Batch = 256,
    size: Size = None,
    widths: Widths = None,
    precision: Precision = "fp32",
    rows: Annotated[
        str,
        options.rows(
            "Some of ours, authors, lightly, solo-learn, stable-pretraining, joined by commas, and of the others "
            "with -same: at our precision and memory format.",
            COMPARISON,
        ),
    ] = "",
    ladder: Annotated[
        bool,
        typer.Option("--ladder", help="Our own settings instead, one after another.", rich_help_panel=COMPARISON),
    ] = False,
    loading: Annotated[
        bool,
        typer.Option("--loading", help="Each with its own loader; else pixels lie ready.", rich_help_panel=COMPARISON),
    ] = False,
    rounds: Annotated[int, options.rounds(COMPARISON)] = 6,
    steps: Annotated[int, options.steps("Steps of a round that count.", COMPARISON)] = 10,
    warmup: Annotated[int, options.warmup("Steps before them in every round.", COMPARISON)] = 3,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            min=0.0,
            max=limits.SECONDS,
            help="Begin no other round after these minutes.",
            rich_help_panel=COMPARISON,
        ),
    ] = None,
    data: Annotated[
        str | None,
        options.data("A folder of JPEGs, with --loading. Default: crops of scikit-image's photographs.", named=False),
    ] = None,
    samples: Annotated[
        int, options.samples("JPEGs to draw from --data, or to make.", options.IMAGES, min=16, max=limits.IMAGES)
    ] = 2048,
    device: options.Device = "cpu",
    threads: Annotated[int, options.threads("Threads for the mathematics on a CPU.")] = 1,
    workers: Annotated[int | None, options.workers("Of each loader. Default: 1 on a CPU, else the cores.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a training step against the authors' and other libraries', in turns, or our settings one after another.

    All have the same backbone, projector, weights and images, and their losses are compared before anything is timed.
    Of methods beside Barlow Twins ours stands beside lightly's documented step.
    Ours is the whole engine: normalisation, gradient, checks, optimizer. Ratios say how many times faster ours
    is; with --ladder, how many times faster the setting made the row that it changes. They are taken round by round, of
    CPU time on a CPU, and what is reported is the mean of both orders' medians: a machine may favour a place in the
    turns. What a training step is of the machine's peak: three forward passes' operations against a matrix
    product and a convolution timed between the rounds.
    """
    console = Console(json=json, quiet=quiet)
    if ladder and rows:
        raise UserError(
            "--ladder has its own rows, and --rows are of the comparison", next="barlowctl bench step --ladder"
        )
    images = None if data is None else Path(data)
    if images is not None and not images.is_dir():
        raise UserError(f"{images} is not a folder", next="give a folder with JPEGs in it, or below it")
    if images is not None and not loading:
        raise UserError("--data is what --loading loads", next="--loading")

    from barlowctl.assemble.machine import choose_device
    from barlowctl.bench.step import compare
    from barlowctl.cores import usable_cores

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
    result = compare(
        changed,
        options.comma_separated("--rows", rows),
        device=where,
        ablation=ladder,
        loading=loading,
        images=images,
        count=samples,
        workers=workers or (1 if where.type == "cpu" else usable_cores()),
        rounds=rounds,
        steps=steps,
        warmup=warmup,
        threads=threads,
        minutes=math.inf if minutes is None else minutes,
        progress=console.say,
    )
    for name, reason in result["left_out"].items():
        console.say(f"{name} was left out: {reason}")
    for row in result.get("rows") or result["ladder"]:
        for note in row["notes"]:
            console.say(f"{row['name']}: {note}")
    _show(console, result)
    console.result(result)


def _show(console: Console, result: dict[str, Any]) -> None:
    from barlowctl.recipe.objectives import DEFAULT

    measured, machine = result["step"], result["machine"]
    widths = "-".join(map(str, measured["projector"]))
    loading = f"loading by {counted(measured['workers'], 'worker')}" if measured["loading"] else "loading excluded"
    whose = "" if measured["method"] == DEFAULT else f"{measured['method']}, "
    console.table(
        f"{whose}{measured['backbone']}, projector {widths}, batch {measured['batch']}, {measured['size']} pixels, "
        f"{loading}; "
        f"{machine['device'] if machine['device'] != 'cpu' else machine['processor']}, {machine['threads']} thread(s), "
        f"torch {machine['torch']}, load {machine['load_before']} before; "
        f"{measured['model_gflops_per_image']:,.2f} GFLOP an image; median of both orders (range)",
        COLUMNS,
        [_cells(row) for row in result.get("rows") or result["ladder"]],
    )
    for precision, rates in result["peak"].items():
        console.say(
            f"peak in {precision}: matrix product {rates['product'] / 1e12:,.2f}, convolution "
            f"{rates['convolution'] / 1e12:,.2f} TFLOP/s"
        )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    def cell(key: str, digits: int) -> str:
        if row[key] is None:
            return "-"
        low, high = row[f"{key}_range"]
        return f"{row[key]:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f} %"

    computed = f"{row['precision']} {row['memory_format']}"
    times = (rate(row["images_per_second"]), cell("ms", 1), f"{row['cpu_seconds']:,.3f}")
    return (
        row["name"], computed, *times, f"{row['peak_mb']:,.0f}",
        share(row["data_wait"]), share(row["peak_share"]), cell("ratio", 2),
    )  # fmt: skip
