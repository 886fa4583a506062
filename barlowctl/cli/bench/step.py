"""`barlowctl bench step`: the training step against the alternatives, and an ablation of our own settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from barlowctl.cli import options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.errors import UserError

EPILOG = examples(
    "barlowctl bench step --recipe cifar10-resnet18 --precision bf16",
    "barlowctl bench step --device cuda --precision bf16 --json > step.json",
    "barlowctl bench step --method byol --backbone resnet18 --size 64 --batch 64",
    "barlowctl bench step --ladder --backbone resnet18 --size 32 --widths 2048x3",
)
STEP, COMPARISON = "Step", "Comparison"  # panels of the help

COLUMNS = ("step", "in", "images/s", "ms (range)", "CPU s", "peak MB", "wait", "of peak", "ratio (range)")


def step(
    recipe: Annotated[
        str, options.recipe("Network, objective and optimizer: a shipped recipe's name, or a TOML file.")
    ] = "resnet50",
    overrides: options.Overrides = None,
    method: Annotated[
        str | None,
        options.method(
            "Its heads, loss and optimizer instead, as in that method's own recipe: vicreg, simclr, moco, "
            "moco-v2, byol, simsiam or swav. Default: the recipe's.",
            STEP,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", metavar="NAME", help="A timm model, instead of its.", rich_help_panel=STEP),
    ] = None,
    batch: Annotated[int, options.batch("Images of a batch.", STEP, min=16)] = 256,
    size: Annotated[
        int | None,
        options.size("Side of a view, in pixels. Default: the recipe's.", STEP),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(
            "--widths",
            metavar="WIDTHxLAYERS",
            help="Of the projector; or one by one: 8192,8192,8192. Default: the recipe's.",
            rich_help_panel=STEP,
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"],
        typer.Option("--precision", help="What it computes in.", rich_help_panel=STEP),
    ] = "fp32",
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
    rounds: Annotated[int, options.rounds(COMPARISON)] = 5,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Steps of a round that count.", rich_help_panel=COMPARISON)
    ] = 10,
    warmup: Annotated[
        int,
        typer.Option("--warmup", min=0, help="Steps before them in every round.", rich_help_panel=COMPARISON),
    ] = 3,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", min=0.0, help="Begin no other round after these minutes.", rich_help_panel=COMPARISON
        ),
    ] = None,
    data: Annotated[
        str | None,
        options.data("A folder of JPEGs, with --loading. Default: crops of scikit-image's photographs."),
    ] = None,
    samples: Annotated[int, options.samples("JPEGs to draw from --data, or to make.", options.IMAGES, min=16)] = 2048,
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
    CPU time on a CPU. What a training step is of the machine's peak: three forward passes' operations against a matrix
    product and a convolution timed between the rounds.
    """
    console = Console(json=json, quiet=quiet)
    if ladder and rows:
        raise UserError(
            "--ladder has its own rows, and --rows are of the comparison", next="barlowctl bench step --ladder"
        )
    images = None if data is None else Path(data)
    if images is not None and not loading:
        raise UserError("--data is what --loading loads", next="--loading")
    if images is not None and not images.is_dir():
        raise UserError(f"{images} is not a folder", next="give a folder with JPEGs in it, or below it")

    from barlowctl.assemble.machine import choose_device
    from barlowctl.bench.step import compare
    from barlowctl.cores import usable_cores
    from barlowctl.recipe import load

    changes = [f"train.batch_size={batch}", f"train.precision={precision}"]
    changes += [f"model.backbone={backbone}"] if backbone else []
    changes += [f"views.size={size}"] if size else []
    changes += [f"model.projector=[{_widths(widths)}]"] if widths else []
    changes += overrides or ()  # last, so that advice to set a value is followed
    where = choose_device(device)
    if precision == "fp16" and where.type == "cpu":
        raise UserError("a CPU's fp16 is about a hundred times slower than its fp32", allowed="fp32, bf16")
    result = compare(
        load.load(recipe, [*_of_method(method, recipe), *changes]),
        [name.strip() for name in rows.split(",") if name.strip()],
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


def _of_method(method: str | None, recipe: str) -> list[str]:
    """What turns the recipe into one of that method: the settings of the method's own recipe."""
    if method is None:
        return []
    from barlowctl.bench.compared import check_method
    from barlowctl.recipe import load
    from barlowctl.study.family import fitting
    from barlowctl.study.methods import settings_of

    base = load.load(recipe)
    settings = settings_of(check_method(method), base, fitting(base))
    return list(settings.overrides) if settings else []


def _widths(text: str) -> str:
    """`8192x3` or `8192,8192,8192` as a list's inside."""
    width, cross, layers = text.partition("x")
    widths = [width] * int(layers) if cross and layers.isdigit() else text.split(",")
    if not widths or not all(width.strip().isdigit() for width in widths):
        raise UserError(f"--widths is '{text}'", allowed="WIDTHxLAYERS, or widths", next="--widths 8192x3")
    return ",".join(widths)


def _show(console: Console, result: dict[str, Any]) -> None:
    from barlowctl.recipe.objectives import DEFAULT

    measured, machine = result["step"], result["machine"]
    widths = "-".join(map(str, measured["projector"]))
    loading = f"loading by {measured['workers']} workers" if measured["loading"] else "loading excluded"
    whose = "" if measured["method"] == DEFAULT else f"{measured['method']}, "
    console.table(
        f"{whose}{measured['backbone']}, projector {widths}, batch {measured['batch']}, {measured['size']} pixels, "
        f"{loading}; "
        f"{machine['device'] if machine['device'] != 'cpu' else machine['processor']}, {machine['threads']} thread(s), "
        f"torch {machine['torch']}, load {machine['load_before']} before; "
        f"{measured['model_gflops_per_image']:,.2f} GFLOP an image; median (range)",
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
    times = (f"{row['images_per_second']:,.1f}", cell("ms", 1), f"{row['cpu_seconds']:,.3f}")
    return (
        row["name"], computed, *times, f"{row['peak_mb']:,.0f}",
        share(row["data_wait"]), share(row["peak_share"]), cell("ratio", 2),
    )  # fmt: skip
