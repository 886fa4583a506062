"""`barlowctl ablate`: the paper's studies, or one's own, as one command that can be stopped and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from barlowctl.cli import options
from barlowctl.cli.console import Console
from barlowctl.cli.live import duration, show
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.ablate.studies import Study
    from barlowctl.recipe.schema import Recipe

EPILOG = (
    "Examples: barlowctl ablate --drop-aug --dry-run | "
    "barlowctl ablate --loss --recipe quickstart --seeds 3 --out studies/loss"
)


def ablate(
    loss: Annotated[bool, typer.Option("--loss", help="Table 5: terms and normalisations of the loss.")] = False,
    asymmetry: Annotated[bool, typer.Option("--asymmetry", help="Table 6: stop-gradient and predictor.")] = False,
    drop_aug: Annotated[
        bool, typer.Option("--drop-aug", help="Figure 3: distortions removed one after another.")
    ] = False,
    batch_size: Annotated[bool, typer.Option("--batch-size", help="Figure 2: batch sizes.")] = False,
    projector: Annotated[bool, typer.Option("--projector", help="Figure 4: projector width.")] = False,
    depth: Annotated[bool, typer.Option("--depth", help="Projector depth, one to four layers.")] = False,
    lambd: Annotated[bool, typer.Option("--lambd", help="Figure 5: weight of the redundancy term.")] = False,
    grid: Annotated[Path | None, typer.Option("--grid", help="Your own variants, a TOML file.")] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="The base recipe. Default: resnet50-300ep.")
    ] = None,
    overrides: options.Overrides = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each variant, with seeds 0, 1, ...")] = 1,
    data: options.Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="Directory of the study; the same one resumes it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; train nothing.")] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train and probe variants of a recipe, and tabulate them beside the paper's numbers.

    Finished cells are kept: run the same command again to continue a study that was stopped.
    """
    from barlowctl.ablate import studies
    from barlowctl.recipe import load

    console = Console(json=json, quiet=quiet)
    flags = {
        "loss": loss,
        "asymmetry": asymmetry,
        "drop-aug": drop_aug,
        "batch-size": batch_size,
        "projector": projector,
        "depth": depth,
        "lambd": lambd,
    }
    chosen = [name for name, given in flags.items() if given]
    if len(chosen) + (grid is not None) != 1:
        missing = UserError(
            "no study was named" if not chosen and grid is None else "name one study at a time",
            allowed=", ".join(f"--{name}" for name in flags) + ", --grid FILE",
            next="barlowctl ablate --drop-aug --dry-run",
        )
        if chosen or grid is not None:
            raise missing
        chosen = [console.choose("Which study?", list(flags), missing=missing)]
    base = load.load(recipe or "resnet50-300ep", overrides or ())
    match chosen:
        case ["asymmetry"]:
            study = studies.asymmetry(base.model.projector)
        case ["batch-size"]:
            study = studies.batch_size(base.optimizer.name)
        case ["projector"]:
            study = studies.projector(len(base.model.projector))
        case ["depth"]:
            study = studies.depth(base.model.projector[-1])
        case [name]:
            study = studies.SHIPPED[name]()
        case _:
            assert grid is not None
            study = studies.grid(grid)
    variants = {variant.name: load.override(base, variant.overrides) for variant in study.variants}
    if dry_run:
        _plan(console, study, base, variants, seeds, device, threads, data)
        return
    _run(console, study, base, seeds, out, data, device, threads, workers)


def _plan(
    console: Console,
    study: Study,
    base: Recipe,
    variants: dict[str, Recipe],
    seeds: int,
    device: str,
    threads: int | None,
    data: str | None,
) -> None:
    from barlowctl.assemble.machine import Runtime
    from barlowctl.assemble.plan import plan

    one = plan(base, Runtime(device=device, threads=threads), data)
    total = one["rate"]["seconds"] * seeds * len(study.variants)
    rows = [
        (variant.name, " ".join(variant.overrides) or "(the recipe as it is)", variant.published[0])
        for variant in study.variants
    ]
    console.table(
        f"{study.title} ({study.source}) on recipe {base.name}", ("variant", "overrides", "paper top-1"), rows
    )
    for label in ("data", "device", "length"):
        console.say(f"{label}: {one['facts'][label]}")
    console.say(
        f"{len(rows)} variants x {seeds} seeds; about {duration(total)} at the base recipe's rate "
        f"({one['rate']['source']})"
    )
    console.result(
        {
            "study": study.name,
            "recipe": base.name,
            "seeds": seeds,
            "variants": [
                {"name": v.name, "overrides": v.overrides, "published_top1": v.published[0]} for v in study.variants
            ],
            "seconds": total,
        }
    )


def _run(
    console: Console,
    study: Study,
    base: Recipe,
    seeds: int,
    out: Path | None,
    data: str | None,
    device: str,
    threads: int | None,
    workers: int | None,
) -> None:
    from barlowctl.ablate import runner
    from barlowctl.assemble.machine import Runtime
    from barlowctl.assemble.study import cell_runner
    from barlowctl.recipe import load

    out = out or Path("studies") / f"{base.name}-{study.name}"
    run_cell = cell_runner(base, Runtime(device, threads, workers), data, lambda: show(console))
    runner.check_same_study(study, load.digest(base), out)
    cells = runner.cells(study, range(seeds), out)
    for number, cell in enumerate(cells, start=1):
        state = "already measured" if cell.measures else " ".join(cell.variant.overrides) or "the recipe as it is"
        console.say(f"[{number}/{len(cells)}] {cell.variant.name}, seed {cell.seed}: {state}")
        runner.run_once(cell, run_cell)
    rows = runner.table(study, cells)
    columns = ("variant", "kNN", "linear top-1", "difference", "rank", "spread", "paper top-1")
    console.table(
        f"{study.title} ({study.source}) on recipe {base.name}, {seeds} seeds", columns, [_row(row) for row in rows]
    )
    file = out / "table.json"
    runner.write_table(file, study, base.name, rows)
    console.say(f"written to {file}")
    console.result({"study": study.name, "recipe": base.name, "seeds": seeds, "out": str(out), "rows": rows})


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    def cell(column: str) -> str:
        if column not in row:
            return "-"
        spread = row.get(f"{column}_std")
        return f"{row[column]:.2f}" + (f" ± {spread:.2f}" if spread is not None else "")

    difference = row.get("linear_top1_difference")
    return (
        row["variant"],
        cell("knn"),
        cell("linear_top1"),
        "-" if difference is None else f"{difference:+.2f}",
        cell("effective_rank"),
        cell("feature_spread"),
        row["published_top1"],
    )
