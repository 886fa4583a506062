"""`barlowctl bench loader`: the two-view loader against the alternatives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from barlowctl.amounts import counted
from barlowctl.cli import limits, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cores import usable_cores
from barlowctl.errors import UserError

EPILOG = examples(
    "barlowctl bench loader",
    "barlowctl bench loader --rows authors,ours --rounds 3",
    "barlowctl bench loader --data /data/imagenet/train --json > loader.json",
)

COMPARISON = "Comparison"  # a panel of the help
COLUMNS = ("pipeline", "images/s", "CPU ms/image", "CPU ratio", "wall ratio", "peak MB", "n")


def loader(
    data: Annotated[
        str | None, options.data("A folder of JPEGs. Default: crops of scikit-image's photographs.", named=False)
    ] = None,
    samples: Annotated[
        int, options.samples("JPEGs to draw from --data, or to make.", options.IMAGES, min=8, max=limits.IMAGES)
    ] = 2048,
    rows: Annotated[
        str,
        options.rows(
            "Some of authors, torchvision-v2, ffcv-stock, ours, ours-simplejpeg, ours-geometric, ours-multi-crop, "
            "lightly, dali; joined by commas.",
            COMPARISON,
        ),
    ] = "",
    rounds: Annotated[int, options.rounds(COMPARISON)] = 6,
    per_round: Annotated[
        int,
        typer.Option(
            "--per-round",
            min=8,
            max=limits.IMAGES,
            help="Images each pipeline reads in a round.",
            rich_help_panel=COMPARISON,
        ),
    ] = 512,
    batch: Annotated[int, options.batch("Images of a batch.", COMPARISON, min=1)] = 256,
    size: Annotated[
        int,
        options.size("Side of a view, in pixels.", COMPARISON, min=8, max=1024),
    ] = 224,
    workers: Annotated[
        int | None, options.workers("Threads or processes of each pipeline. Default: the cores.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the two-view loader against the authors' pipeline and others, in turns on the same JPEGs.

    Every pipeline makes two views of each image with the paper's distortions, in its own process; the processes
    take turns in both orders, so that whatever else the machine does is spread over all; a median is the mean of both
    orders'. Ratios are to the authors' pipeline
    (PIL, ImageFolder, DataLoader), round by round: above 1 is better. lightly and DALI are measured when installed.
    ours-simplejpeg decodes JPEGs as it is done without ffcv, which ours uses where it is installed;
    ours-geometric is what is left to the CPU when a GPU applies the photometric chain; ours-multi-crop makes six
    small views beside the two, 55 % more pixels.
    """
    from barlowctl.bench.loader import compare

    images = None if data is None else Path(data)
    if images is not None and not images.is_dir():
        raise UserError(f"{images} is not a folder", next="give a folder with JPEGs in it, or below it")
    console = Console(json=json, quiet=quiet)
    result = compare(
        images,
        names=options.comma_separated("--rows", rows),
        count=samples,
        images=per_round,
        rounds=rounds,
        batch=batch,
        size=size,
        workers=workers or usable_cores(),
        progress=console.say,
    )
    for name, reason in result["left_out"].items():
        console.say(f"{name} was left out: {reason}")
    machine, jpegs = result["machine"], result["set"]
    console.table(
        f"{counted(jpegs['images'], 'JPEG')} of {jpegs['mean_pixels']:,} pixels and {jpegs['mean_bytes']:,} bytes, "
        f"two views of {size}; "
        f"{machine['processor']}, {counted(machine['cores'], 'core')}, load {machine['load_before']} before; "
        "median of both orders (range)",
        COLUMNS,
        [_cells(row) for row in result["rows"]],
    )
    console.result(result)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    def cell(key: str, digits: int) -> str:
        if row[key] is None:
            return "-"
        low, high = row[f"{key}_range"]
        return f"{row[key]:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"

    parts = (cell("images_per_second", 0), cell("cpu_ms_per_image", 2), cell("ratio_cpu", 1), cell("ratio_wall", 1))
    return (row["name"], *parts, str(row["peak_mb"]), str(row["n"]))
