"""`barlowctl ablate`: the paper's studies, or one's own, as one command that can be stopped and goes on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.cli import completion, limits, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cli.init_weights import from_anywhere
from barlowctl.cli.study_budget import limit_studies
from barlowctl.cli.study_chosen import ALL_METHODS, choose_studies, selection
from barlowctl.cli.study_command import StudyCommand, slot_arguments
from barlowctl.cli.study_plan import print_array_script, show_plan
from barlowctl.cli.study_recipe import base_recipe, check_to_train
from barlowctl.cli.study_results import say_other_code, show_results
from barlowctl.cli.study_run import run_cells
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.recipe.schema import Recipe
    from barlowctl.study.directory import StudyDirectory
    from barlowctl.study.study import Study

EPILOG = examples(
    "barlowctl ablate drop-aug --dry-run",
    "barlowctl ablate loss asymmetry --recipe quickstart --seeds 3 --parallel 2",
    "barlowctl ablate drop-aug --methods byol,simclr --recipe quickstart",
    "barlowctl ablate --methods all --recipe quickstart --budget cpu-seconds=120",
    "barlowctl ablate projector --only last-64,last-256 --recipe quickstart",
    "barlowctl ablate --grid mine.toml --recipe adapt --init runs/mine",
    "barlowctl ablate --loss --data IMAGENET --print-sbatch > array.sh",
)

DEFAULT_RECIPE = "resnet50-300ep"
STUDIES, CELLS = "Studies", "Cells"  # panels of the help


def _study(flag: str, help: str) -> Any:
    """A study of the paper as an option."""
    return typer.Option(flag, help=help, rich_help_panel=STUDIES)


def ablate(
    named: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY",
            help="The paper's studies, by the names of the options below without the dashes: loss asymmetry.",
            autocompletion=completion.studies,
        ),
    ] = None,
    loss: Annotated[bool, _study("--loss", "Table 5: terms and normalisations of the loss.")] = False,
    asymmetry: Annotated[bool, _study("--asymmetry", "Table 6: stop-gradient and predictor.")] = False,
    drop_aug: Annotated[bool, _study("--drop-aug", "Figure 3: distortions removed one after another.")] = False,
    batch_size: Annotated[bool, _study("--batch-size", "Figure 2: batch sizes.")] = False,
    projector: Annotated[bool, _study("--projector", "Figure 4: dimension of the projector's last layer.")] = False,
    projector_width: Annotated[
        bool,
        _study("--projector-width", "Beside figure 4: width of all projector layers alike, and its depth."),
    ] = False,
    lambd: Annotated[bool, _study("--lambd", "Figure 5: weight of the redundancy term.")] = False,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="NAMES",
            help="Table 1: these methods (barlow-twins,byol,simclr, or all). "
            "With --drop-aug, --batch-size or --projector: that figure, a line a method.",
            autocompletion=completion.methods,
            rich_help_panel=STUDIES,
        ),
    ] = None,
    settings_of: Annotated[
        str | None,
        typer.Option(
            "--settings-of",
            metavar="RECIPE",
            help="Where methods have their settings from: RECIPE-NAME of each, shipped or your own "
            "(./mine: ./mine-simclr.toml), or a folder of them. "
            "Default: fashion-mnist for views of up to 64 pixels, else resnet50.",
            autocompletion=completion.families,
            rich_help_panel=STUDIES,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="UNIT=N",
            help="Train each variant for as much: steps=N, images=N or cpu-seconds=N.",
            rich_help_panel=STUDIES,
        ),
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option("--grid", help="Your own variants, a TOML file.", rich_help_panel=STUDIES),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="NAMES",
            help="These variants alone (a,b), with their baselines.",
            rich_help_panel=STUDIES,
        ),
    ] = None,
    without: Annotated[
        str | None,
        typer.Option("--without", metavar="NAMES", help="All variants except these (a,b).", rich_help_panel=STUDIES),
    ] = None,
    seeds: Annotated[int, options.seeds("Runs of each variant, with seeds 0, 1, ...", STUDIES)] = 1,
    recipe: Annotated[str | None, options.recipe("The base recipe. Default: resnet50-300ep.")] = None,
    overrides: options.Overrides = None,
    init: Annotated[
        str | None,
        options.init("Weights that every variant starts from (see pretrain), with fresh heads."),
    ] = None,
    data: options.Data = None,
    dry_run: Annotated[bool, options.dry_run("Show the plan and what it costs; train nothing.", CELLS)] = False,
    show: Annotated[
        bool,
        typer.Option("--show", help="Tables and figures of what is finished; train nothing.", rich_help_panel=CELLS),
    ] = False,
    parallel: Annotated[
        int,
        typer.Option(
            "--parallel",
            min=1,
            max=limits.AT_ONCE,
            help="Cells at a time: on the GPUs in turn, or shares of the cores.",
            rich_help_panel=CELLS,
        ),
    ] = 1,
    cell: Annotated[
        int | None,
        typer.Option(
            "--cell",
            min=0,
            max=limits.STEPS,
            help="Run this cell of the plan alone, from 0 (for arrays of jobs).",
            rich_help_panel=CELLS,
        ),
    ] = None,
    out: Annotated[Path | None, options.out("Directory of the studies. Default: studies/RECIPE.")] = None,
    print_sbatch: Annotated[
        bool, options.print_sbatch("Print a Slurm array script, a task per open cell; run nothing.")
    ] = False,
    slurm_options: options.SlurmOptions = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    loader: options.Loader = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train and measure variants of a recipe, and tabulate and draw them beside the paper's numbers.

    Several studies at once share the cells that are the same. Finished cells are kept: run the same command again to
    go on with what was stopped, from as many terminals or jobs as you like. A study's directory gets a table (JSON,
    CSV, Markdown, LaTeX) and a figure (PNG, SVG, PDF) for each of its studies.
    """
    from barlowctl.assemble.machine import Runtime
    from barlowctl.study import studies
    from barlowctl.study.directory import StudyDirectory

    console = Console(json=json, quiet=quiet)
    flags = {
        "loss": loss,
        "asymmetry": asymmetry,
        "drop-aug": drop_aug,
        "batch-size": batch_size,
        "projector": projector,
        "projector-width": projector_width,
        "lambd": lambd,
    }
    if ALL_METHODS in (named or []):
        named, methods = [name for name in named or [] if name != ALL_METHODS], methods or "all"
    others = grid is not None or methods is not None
    chosen = choose_studies(console, flags, named or [], others=others, recipe=recipe, out=out, show=show)
    base = base_recipe(recipe or DEFAULT_RECIPE, overrides or [], init, out)
    whole = _studies(chosen, grid, base, recipe or DEFAULT_RECIPE, methods, settings_of)
    left_out = options.comma_separated("--without", without)
    selected = studies.select(whole, options.comma_separated("--only", only), left_out)
    if cell is None and not print_sbatch:  # said where the plan was made; a script holds nothing else
        _say_what_is_dropped(console, whole, selected, only)
    out = out or Path("studies") / base.name
    runtime = Runtime(device, threads, workers, loader)
    if budget is not None:
        selected, whole = limit_studies(console, budget, selected, whole, base, runtime, data, out, left_out)
    by_flag = {
        "--methods": methods,
        "--settings-of": settings_of,
        "--budget": budget,
        "--grid": str(grid) if grid else None,
        "--only": only,
        "--without": without,
        "--init": None if init is None else from_anywhere(init),
    }
    noted = selection(chosen, by_flag, from_anywhere=True)
    directory = StudyDirectory(out, base, tuple(selected), tuple(range(seeds)), selection=tuple(noted))
    command = StudyCommand(console, directory, tuple(whole), runtime, data or directory.dataset, parallel, left_out)
    _check_cell(cell, directory)
    again = command.arguments_of_a_cell(selection(chosen, by_flag), recipe, overrides or [])
    if cell is None and not show:
        check_to_train(directory, overrides or [])
    if dry_run:
        show_plan(command)
    elif print_sbatch:
        print_array_script(command, [*again, *slot_arguments(device, threads)], options.slurm_values(slurm_options))
    elif show:
        directory.check()
        say_other_code(command)
        show_results(command, elsewhere=True)
    elif cell is not None:
        run_cells(command, [cell])
    else:
        run_cells(command, range(len(directory.cells)), again if parallel > 1 else None)


def _check_cell(cell: int | None, directory: StudyDirectory) -> None:
    """Refuse a cell that the plan has not.

    Raises:
        UserError: says which it has.
    """
    if cell is None or cell < len(directory.cells):
        return
    raise UserError(
        f"--cell is {cell}, but the plan has {counted(len(directory.cells), 'cell')}",
        allowed=f"0 to {len(directory.cells) - 1}" if len(directory.cells) > 1 else "0",
        next="--cell 0",
    )


def _say_what_is_dropped(console: Console, whole: Sequence[Study], selected: Sequence[Study], only: str | None) -> None:
    """Name studies that were asked for, and of which no variant is to be trained."""
    flag, left = "--without" if only is None else "--only", {study.name for study in selected}
    for study in whole:
        if study.name not in left:
            console.say(f"note: the study {study.name} is left out: {flag} leaves none of its variants")


def _studies(
    chosen: Sequence[str], grid: Path | None, base: Recipe, recipe: str, methods: str | None, settings_of: str | None
) -> list[Study]:
    """The studies with all their variants: those of the paper, then the grid.

    Raises:
        UserError: methods of a study that has one, or settings without methods.
    """
    from barlowctl.study import studies
    from barlowctl.study.grid import read_grid

    names = [part for name in chosen for part in ((name, "depth") if name == "projector-width" else (name,))]
    own = [read_grid(grid)] if grid else []
    if methods is None:
        if settings_of is not None:
            raise UserError("--settings-of is of --methods", next=f"--methods all --settings-of {settings_of}")
        return [studies.build(name, base) for name in names] + own
    from barlowctl.study import methods as compared
    from barlowctl.study.family import Family, fitting

    family = Family(settings_of) if settings_of is not None else fitting(base)
    of_methods = compared.parse(methods, family)
    if not names:
        return [compared.compare(of_methods, base, family), *own]
    if alone := [name for name in names if name not in compared.STUDIES]:
        raise UserError(
            f"study '{alone[0]}' changes Barlow Twins itself and has no other methods",
            allowed=f"--methods with {', '.join(compared.STUDIES)}, or alone: Table 1",
            next=shell.line("barlowctl", "ablate", "drop-aug", "--methods", methods, "--recipe", recipe, "--dry-run"),
        )
    return [compared.across(partial(studies.build, name), of_methods, base, family) for name in names] + own
