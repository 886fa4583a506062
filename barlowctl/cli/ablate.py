"""`barlowctl ablate`: the paper's studies, or one's own, as one command that can be stopped and goes on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from barlowctl import shell
from barlowctl.cli import completion, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cli.live import duration
from barlowctl.cli.study_live import show_study
from barlowctl.errors import RunStopped, UserError, did_you_mean

if TYPE_CHECKING:
    from barlowctl.assemble.machine import Runtime
    from barlowctl.launchers.pool import Slot
    from barlowctl.study.directory import Cell, StudyDirectory
    from barlowctl.study.studies import Study

EPILOG = examples(
    "barlowctl ablate drop-aug --dry-run",
    "barlowctl ablate loss asymmetry --recipe quickstart --seeds 3 --parallel 2",
    "barlowctl ablate projector --only last-64,last-256 --recipe quickstart",
    "barlowctl ablate --loss --data IMAGENET --print-sbatch > array.sh",
)

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
            help="Cells at a time: on the GPUs in turn, or shares of the cores.",
            rich_help_panel=CELLS,
        ),
    ] = 1,
    cell: Annotated[
        int | None,
        typer.Option(
            "--cell",
            min=0,
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
    CSV, Markdown) and a figure (PNG, SVG) for each of its studies.
    """
    from barlowctl.assemble.machine import Runtime
    from barlowctl.recipe import load
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
    _check_names(named or [], list(flags))
    chosen = [name for name, given in flags.items() if given or name in (named or [])]
    if not chosen and grid is None:
        missing = UserError(
            "no study was named",
            allowed=f"{', '.join(flags)}, --grid FILE",
            next="barlowctl ablate drop-aug --recipe quickstart --dry-run",
        )
        chosen = [console.choose("Which study?", list(flags), missing=missing)]
    base = load.load(recipe or "resnet50-300ep", overrides or ())
    names = [part for name in chosen for part in ((name, "depth") if name == "projector-width" else (name,))]
    found = [studies.build(name, base) for name in names] + ([studies.grid(grid)] if grid else [])
    kept = studies.select(found, _names(only), _names(without))
    if base.seed != load.load(recipe or "resnet50-300ep").seed:
        raise UserError(
            "--set seed is not for studies",
            allowed="--seeds N: seeds 0 to N - 1",
            next=f"without --set=seed={base.seed}",
        )
    directory = StudyDirectory(out or Path("studies") / base.name, base, tuple(kept), tuple(range(seeds)))
    data = data or directory.dataset
    command = _Command(
        console, directory, tuple(found), Runtime(device, threads, workers, loader), data, parallel, _names(without)
    )
    if cell is not None and cell >= len(directory.cells):
        raise UserError(
            f"--cell is {cell}, but the plan has {len(directory.cells)} cells", allowed="0 and on", next="--cell 0"
        )
    flags_given = [*chosen, *(["--grid", str(grid)] if grid else [])]
    flags_given += (["--only", only] if only else []) + (["--without", without] if without else [])
    again = _again(flags_given, recipe, overrides or [], seeds, data, directory.out, workers, loader)
    if dry_run:
        command.plan()
    elif print_sbatch:
        command.sbatch([*again, *_slot_arguments(device, threads)], slurm_options or [])
    elif show:
        directory.check()
        command.results()
    elif cell is not None:
        command.run([cell])
    else:
        command.run(range(len(directory.cells)), again if parallel > 1 else None)


def _check_names(named: Sequence[str], known: Sequence[str]) -> None:
    """Refuse what is no study, with the nearest one."""
    for name in named:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise UserError(
                f"there is no study '{name}'{did_you_mean(name, known)}",
                allowed=f"{', '.join(known)}, --grid FILE",
                next=shell.line("barlowctl", "ablate", near[0], "--dry-run") if near else None,
            )


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _again(
    flags: list[str], recipe: str | None, overrides: list[str], seeds: int, data: str | None, out: Path,
    workers: int | None, loader: str,
) -> list[str]:  # fmt: skip
    """The command's own arguments, for processes that do one of its cells."""
    from barlowctl.data import home

    arguments = [*flags, "--seeds", str(seeds), "--out", str(out), "--quiet"]
    arguments += ["--recipe", recipe] if recipe else []
    arguments += ["--data", home.anywhere(data)] if data else []
    arguments += ["--workers", str(workers)] if workers else []
    arguments += ["--loader", loader] if loader != "auto" else []
    return arguments + [part for override in overrides for part in ("--set", override)]


def _slot_arguments(device: str, threads: int | None) -> list[str]:
    return ["--device", device, *(["--threads", str(threads)] if threads else [])]


@dataclass
class _Command:
    """What was asked for, and what the command does with it."""

    console: Console
    directory: StudyDirectory
    whole: tuple[Study, ...]  # the directory's studies with all their variants
    runtime: Runtime
    data: str | None
    parallel: int
    without: Sequence[str] = ()
    advised: dict[str, str] = field(default_factory=dict)  # of the cells that could not be run: what to type next

    def run(self, numbers: Sequence[int], again: list[str] | None = None) -> None:
        """Run the open cells among these: here, one after another, or in processes of the command `again`."""
        from barlowctl.assemble.machine import pool_slots
        from barlowctl.launchers import pool
        from barlowctl.study.cells import open_images, write_results

        images = open_images(self.directory.base, self.data)
        self.directory.open(images.digests, dataset=images.dataset, earlier=images.earlier)
        cells = [(number, self.directory.cells[number]) for number in numbers]
        todo = [(number, cell) for number, cell in cells if cell.record is None]
        done = len(cells) - len(todo)
        said = f" ({done} finished before)" if done else ""
        self.console.say(f"{len(cells)} cells{said}, in {self.directory.out}")
        wrong: dict[str, str] = {}
        with show_study(self.console, self.directory, self.parallel) as display:

            def tell(cell: Cell, what: str | None) -> None:
                display.tell(cell, what)
                if what != "started":
                    write_results(self.directory.with_finished(self.whole), figures=False)

            if again is not None:
                recipe_threads = self.directory.base.train.cpu_threads
                slots = pool_slots(min(self.parallel, max(len(todo), 1)), self.runtime, recipe_threads)
                number_of = {cell.path: number for number, cell in todo}

                def arguments(cell: Cell, slot: Slot) -> list[str]:
                    number = str(number_of[cell.path])
                    return ["ablate", *again, "--cell", number, *_slot_arguments(slot.device, slot.threads)]

                wrong = pool.run_all([cell for _, cell in todo], slots, arguments, tell)
            else:
                wrong = self._run_here([cell for _, cell in todo], images.labelled, display, tell)
        if not wrong or any(cell.record is not None for cell in self.directory.cells):
            self.results(quick=len(cells) == 1, last=not wrong)
        if wrong:
            first, reason = next(iter(wrong.items()))
            commands = [line for line in self.advised.get(first, "").splitlines() if not line.startswith("--")]
            mend = "mend that and run the same command, or leave the variant out with --without"
            raise UserError(
                f"{_count(len(wrong), 'cell')} could not be run; {first}: {reason}",
                next="\n".join([*commands, mend]),
            )

    def _run_here(self, cells: list[Cell], labelled: Any, display: Any, tell: Any) -> dict[str, str]:
        from barlowctl.study.cells import run_cell

        wrong: dict[str, str] = {}
        for cell in cells:
            if cell.record is not None:  # another process was quicker
                continue
            tell(cell, "started")
            what = None
            try:
                if not run_cell(cell, labelled, self.runtime, self.data, display.sink):
                    what = "another process has it"
            except RunStopped as stopped:
                raise RunStopped(f"{cell.label}: {stopped.message}", next="barlowctl ...") from None
            except UserError as error:
                what = wrong[cell.label] = error.message
                self.advised[cell.label] = error.next or ""
            tell(cell, what)
        return wrong

    def results(self, *, quick: bool = False, last: bool = True) -> None:
        """Tables and figures of what is finished.

        Args:
            quick: until all is finished, no figures, and no tables shown. last: what the command says in the end.
        """
        from barlowctl.study import table
        from barlowctl.study.cells import finished_of_all_layers, write_results

        console, cells, directory = self.console, self.directory.cells, self.directory.with_finished(self.whole)
        finished = sum(cell.record is not None for cell in cells)
        quick = quick and finished < len(cells)
        anything = any(row["finished"] for study in directory.studies for row in table.rows(directory, study))
        if not anything and not quick:
            raise UserError(
                f"nothing of this is finished in '{directory.out}' (another process may be at it)",
                next="without --show",
            )
        files, why = write_results(directory, figures=not quick)
        documents = []
        for study in directory.studies:
            rows = table.rows(directory, study)
            documents.append(table.document(directory, study, rows))
            if not quick:
                title = f"{study.title} ({study.source}) on recipe {directory.base.name}, {table.seeds_text(rows)}"
                console.table(title, *table.formatted(rows, table.ACCURACY))
                console.table("", *table.formatted(rows, table.EMBEDDINGS))
                for line in table.notes(study, rows):
                    console.say(line)
        for text in (why, finished_of_all_layers(directory)):
            if text:
                console.say(text)
        console.say(f"{finished} of {len(cells)} cells are finished; written into {directory.out}:")
        console.say("  " + ", ".join(file.name for file in files))
        summary = {
            "recipe_name": directory.base.name,
            "seeds": list(directory.seeds),
            "out": str(directory.out),
            "cells": len(cells),
            "finished": finished,
            "studies": documents,
            "files": [str(file) for file in files],
        }
        if last:
            console.result(summary)

    def sbatch(self, arguments: list[str], given: list[str]) -> None:
        """The array script, on standard output."""
        from barlowctl.launchers import slurm
        from barlowctl.study.cells import open_images

        for option in given:
            if "=" not in option:
                raise UserError(f"--slurm-option '{option}' is not NAME=VALUE", next="--slurm-option partition=gpu")
        images = open_images(self.directory.base, self.data)
        self.directory.open(images.digests, dataset=images.dataset, earlier=images.earlier)
        cells = [number for number, cell in enumerate(self.directory.cells) if cell.record is None]
        if not cells:
            raise UserError(f"all cells in '{self.directory.out}' are finished", next="--show without --print-sbatch")
        text = slurm.study_script(
            cells,
            arguments,
            out=self.directory.out,
            at_once=self.parallel if self.parallel > 1 else None,
            gpu=self.runtime.device != "cpu",
            options=dict(option.split("=", 1) for option in given),
        )
        if self.console.json:
            self.console.result({"script": text, "open_cells": cells})
        else:
            self.console.document(text)

    def plan(self) -> None:
        """What would be run, and what it would cost."""
        from barlowctl.assemble.machine import pool_speed_up
        from barlowctl.study.estimate import estimate

        directory, console = self.directory, self.console
        estimated = estimate(directory.base, directory.cells, self.runtime, self.data, self.without)
        open_cells = [cell for cell in directory.cells if cell.record is None]
        seconds = sum(estimated.of(cell).total for cell in open_cells)
        documents = []
        for study in directory.studies:
            rows, variants = [], []
            for variant in study.variants:
                cost = estimated.of(directory.cell(study, variant, directory.seeds[0]))
                same = directory.same_as(study, variant)
                does = " ".join(variant.overrides) or "(the recipe as it is)"
                rows.append((variant.name, does + (f"   = {same}" if same else ""),
                             duration(cost.train), duration(cost.measure), variant.published[0]))  # fmt: skip
                variants.append(
                    {
                        "name": variant.name,
                        "overrides": variant.overrides,
                        "same_as": same,
                        "published_top1": variant.published[0],
                        "seconds": {"train": cost.train, "measure": cost.measure, "source": cost.source},
                    }
                )
            title = f"{study.title} ({study.source}) on recipe {directory.base.name}"
            console.table(title, ("variant", "overrides", "training", "measuring", "paper top-1"), rows)
            documents.append({"study": study.name, "variants": variants})
        for source in dict.fromkeys(cost.source for cost in estimated.costs.values()):
            console.say(f"estimate: {source}")
        finished = len(directory.cells) - len(open_cells)
        speedup = pool_speed_up(self.parallel, self.runtime, directory.base.train.cpu_threads)
        at_once = f", {duration(seconds / speedup)} with {self.parallel} at a time" if self.parallel > 1 else ""
        said = f", {finished} of them finished" if finished else ""
        console.say(
            f"{len(directory.cells)} cells ({_count(len(directory.seeds), 'seed')}; equal recipes once){said}: "
            f"about {duration(seconds)} one after another{at_once}, on this machine as busy as it is; "
            f"{duration(seconds * estimated.cpu_share)} of a CPU's time"
        )
        console.result(
            {
                "recipe_name": directory.base.name,
                "seeds": list(directory.seeds),
                "studies": documents,
                "cells": len(directory.cells),
                "finished": finished,
                "seconds": seconds,
                "cpu_seconds": seconds * estimated.cpu_share,
                "parallel": self.parallel,
                "wall_seconds": seconds / speedup,
            }
        )
