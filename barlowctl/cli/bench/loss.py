"""`barlowctl bench loss`: time and memory of a method's loss against the alternatives, and bytes on the wire."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from barlowctl.cli import limits, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.errors import UserError

EPILOG = examples(
    "barlowctl bench loss",
    "barlowctl bench loss --sizes 256x8192,1024x8192 --rows ours --rounds 7",
    "barlowctl bench loss --method simclr",
    "barlowctl bench loss --json > loss.json",
)

MEASURED = "What is measured"  # panel of the help
COLUMNS = ("N", "D", "loss", "ms (range)", "peak MB", "times faster (range)", "times less memory")


def loss(
    method: Annotated[
        str,
        options.method(
            "Whose loss: barlow-twins, vicreg, simclr, moco, moco-v2, byol, simsiam or swav.",
            MEASURED,
        ),
    ] = "barlow-twins",
    sizes: Annotated[
        str,
        typer.Option(
            "--sizes",
            metavar="NxD,NxD",
            help="Images of a batch, and width of an embedding (swav: prototypes). Default: some of the method.",
            rich_help_panel=MEASURED,
        ),
    ] = "",
    rows: Annotated[
        str,
        options.rows(
            "Some of ours, lightly, solo-learn; of barlow-twins and vicreg also ours-gram, ours-primal; authors "
            "always. Default: all.",
            MEASURED,
        ),
    ] = "",
    rounds: Annotated[int, options.rounds(MEASURED)] = 6,
    device: options.Device = "cpu",
    threads: Annotated[int, options.threads("Threads for the mathematics on a CPU.")] = 1,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a method's loss, forward and backward, against the authors' formulation and others, in turns.

    Every implementation has its own process per size. Times are of the CPU, so that other work on the machine
    matters less; peak memory is what a pass adds to its inputs. Ratios are to the authors' formulation, round
    by round: above 1 is better; a median is the mean of those of
    both orders of the turns. lightly and solo-learn are measured when installed. Before anything is timed each one's
    value is compared with the authors' formulation's in float64, and one that differs is left out with both. Of
    barlow-twins the second table is what one of W ranks receives per step for the loss.
    """
    console = Console(json=json, quiet=quiet)
    requested = [_size(text) for text in options.comma_separated("--sizes", sizes)]

    from barlowctl.assemble.machine import choose_device
    from barlowctl.bench.loss import compare
    from barlowctl.bench.loss_contests import contest_of
    from barlowctl.recipe.objectives import DEFAULT

    contest = contest_of(method)
    result = compare(
        requested,
        options.comma_separated("--rows", rows),
        rounds=rounds,
        threads=threads,
        device=str(choose_device(device)),
        progress=console.say,
        method=method,
    )
    for name, reason in result["left_out"].items():
        console.say(f"{name} was left out: {reason}")
    machine = result["machine"]
    whose = "" if method == DEFAULT else f" of {contest.title}"
    console.table(
        f"Loss{whose}, forward and backward, on {machine['device']}: torch {machine['torch']}, {threads} thread(s), "
        f"n = {rounds}, medians of both orders, load {machine['load_before']} before",
        tuple(contest.across if column == "D" else column for column in COLUMNS),
        [_cells(row) for row in result["rows"]],
    )
    if result["wire"]:
        _show_wire(console, result["wire"])
    console.result(result)


def _show_wire(console: Console, wire: list[dict[str, Any]]) -> None:
    console.table(
        "What one of W ranks receives per step, MB",
        ("W", "N", "D", "gram", "primal", "authors' C", "chosen"),
        [
            (
                row["w"],
                row["n"],
                row["d"],
                *(f"{row[key] / 1e6:,.1f}" for key in ("gram_bytes", "primal_bytes", "authors_bytes")),
                row["form"],
            )
            for row in wire
        ],
    )


def _size(text: str) -> tuple[int, int]:
    """N and D of `NxD`."""
    n, _, d = text.partition("x")
    if not all(size.isdecimal() and len(size) < 9 and 2 <= int(size) <= limits.IMAGES for size in (n, d)):
        allowed = f"NxD, both from 2 to {limits.IMAGES:,}"
        raise UserError(f"--sizes has '{text}'", allowed=allowed, next="--sizes 256x8192")
    return int(n), int(d)


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    name = f"{row['name']} ({row['form']})" if row["form"] else row["name"]
    low, high = row["ms_range"]
    slow, fast = row["ratio_time_range"]
    memory = "-" if row["ratio_memory"] is None else f"{row['ratio_memory']:.1f}"
    ms = f"{row['ms']:,.1f} ({low:,.1f}-{high:,.1f})"
    return (
        row["n"],
        row["d"],
        name,
        ms,
        f"{row['peak_mb']:,.0f}",
        f"{row['ratio_time']:.1f} ({slow:.1f}-{fast:.1f})",
        memory,
    )
