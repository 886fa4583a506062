"""`barlowctl runs`: list, show, compare and watch runs, from any terminal, while they train or after."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from barlowctl import criteria, shell
from barlowctl.amounts import rate
from barlowctl.cli import limits, options
from barlowctl.cli.chart import chart, legend
from barlowctl.cli.console import Console
from barlowctl.cli.help import Command, Group, examples
from barlowctl.cli.live import duration
from barlowctl.cli.runs_annotated import note, rename, restore
from barlowctl.cli.runs_best import best
from barlowctl.cli.runs_compared import (
    PICTURES,
    by_title,
    changes_of,
    curves_by_key,
    in_words,
    panels_of,
    write_picture,
)
from barlowctl.cli.runs_removed import remove
from barlowctl.cli.runs_table import table
from barlowctl.errors import UserError
from barlowctl.output_paths import check_new
from barlowctl.quantities import QUANTITIES, label_of

if TYPE_CHECKING:
    from barlowctl.runs.history import History

app = typer.Typer(
    cls=Group,
    help="List, show, compare and watch runs, and choose the best.",
    epilog=examples("barlowctl runs list", "barlowctl runs watch"),
    no_args_is_help=True,
)

Run = Annotated[str | None, options.run("A run's name or directory. Default: the newest run.")]
MEASURED = (
    "knn", "linear", "feature_spread", "embedding_spread", "effective_rank", "rankme", "lidar", "feature_lidar",
    "alpha", "lr_weights", "grad_norm", "images_per_second", "data_wait",
)  # fmt: skip


@app.command("list", cls=Command, epilog="barlowctl runs list")
def list_runs(json: options.Json = False, quiet: options.Quiet = False) -> None:
    """The runs in BARLOWCTL_RUNS (else ./runs), newest first: state, progress, loss, kNN."""
    from barlowctl.runs import history, rundir

    console = Console(json=json, quiet=quiet)
    runs, damaged = history.scan(rundir.runs_home())
    rows = [_summary(run) for run in runs]
    if runs:
        columns = ("name", "state", "step", "loss", "kNN", "best kNN", "last record")
        noted = any(row["note"] for row in rows)
        cells = [(*_cells(row), *([row["note"]] if noted else [])) for row in rows]
        console.table(f"Runs in {rundir.runs_home()}", [*columns, *(["note"] if noted else [])], cells)
        names = [run.name for run in runs[:2]]
        console.next(shell.line("barlowctl", "runs", "show", names[0]))
        if len(names) > 1:
            console.next(shell.line("barlowctl", "runs", "compare", names[0], names[1]))
    elif not damaged:
        console.say(f"no run in {rundir.runs_home()}")
        console.next("barlowctl pretrain --recipe quickstart")
    for _, error in damaged:
        console.say(f"note: {error.message}")
        console.next(*(error.next or "").splitlines())
    console.result({"runs": rows, "damaged": [{"path": str(path), "error": e.message} for path, e in damaged]})


@app.command("show", cls=Command, epilog="barlowctl runs show quickstart-20261125-101500")
def show(run: Run = None, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """One run: what it is, how far it is, its newest numbers and its curves."""
    from barlowctl.runs import history, rundir

    console = Console(json=json, quiet=quiet)
    opened = history.read(history.find(run))
    first_lines = opened.about.get("facts", {})
    rows = [("run", str(opened.path)), ("state", _state(opened)), *first_lines.items()]
    rows[2:2] = [("note", opened.note)] if opened.note else []
    keys = [key for key in _metrics(opened) if key in opened.last]
    rows += [(label_of(key), _reading(opened, key)) for key in keys]
    rows += [("since the start", opened.result["since_start"])] if "since_start" in opened.result else []
    rows += [("best state", criteria.described(opened.result["best"]))] if "best" in opened.result else []
    rows += [("checkpoints", ", ".join(path.name for path in rundir.checkpoints_of(opened.path)) or "none yet")]
    console.table("", ("", "value"), rows)
    for key in ("loss", *opened.terms, "knn"):
        if points := opened.curve(key):
            for line in chart(
                key, {opened.name: points}, columns=console.rich.width, height=6 if key in opened.terms else 12
            ):
                console.say(line)
    for notice in [*opened.notices, *_damage([opened])]:
        console.say(f"note: {notice}")
    _say_how_to_go_on(console, opened)
    values = {key: opened.last[key] for key in keys}
    parts = {"facts": dict(first_lines), "values": values, "result": dict(opened.result), "notices": opened.notices}
    parts["damage"] = opened.damage
    console.result({**_summary(opened), **parts})


@app.command("compare", cls=Command, epilog="barlowctl runs compare quickstart-a quickstart-b --out curves.png")
def compare(
    names: Annotated[list[str], options.run("Names or directories of runs.")],
    out: Annotated[Path | None, options.out("Write the curves as a picture, e.g. curves.png or curves.pdf.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Loss, its terms and kNN of several runs: in the terminal, and as a picture with --out."""
    from barlowctl.runs import history

    console = Console(json=json, quiet=quiet)
    if out is not None and out.suffix.lower() not in PICTURES:
        allowed = "a name that ends in .png, .jpg, .webp, .pdf or .svg"
        raise UserError(f"--out is '{out}'", allowed=allowed, next="--out curves.png")
    if out is not None:
        check_new(out)
    runs, left_out = history.opened(names)
    titles = by_title(runs)
    panels, changes = panels_of(titles), changes_of(titles)
    columns = ("name", "state", "step", "loss", "kNN", "best kNN", "last record")
    console.table("", columns, [(title, *_cells(_summary(run))[1:]) for title, run in titles.items()])
    for title, different in list(changes.items())[1:]:
        console.say(f"{title} against {next(iter(titles))}: {in_words(different)}")
    for panel in panels:
        every = {title: panel.series.get(title, []) for title in titles}  # a run keeps its mark
        for line in ["", *chart(f"{panel.key}: {panel.meaning}", every, columns=console.rich.width)]:
            console.say(line)
    if not panels:
        console.say("nothing recorded yet")
    console.say(legend(list(titles)))
    for text in [*_damage(runs), *left_out]:
        console.say(f"note: {text}")
    if out is not None:
        write_picture(out, panels)
        console.say(f"curves: {out}")
    console.result(
        {
            "runs": [{**_summary(run), "title": title, "changes": changes[title]} for title, run in titles.items()],
            "curves": curves_by_key(panels),
            "picture": None if out is None else str(out),
        }
    )


@app.command("watch", cls=Command, epilog="barlowctl runs watch")
def watch(
    run: Run = None,
    every: Annotated[
        float,
        typer.Option("--every", metavar="SECONDS", min=0.1, max=limits.SECONDS, help="How long to wait between looks."),
    ] = 2.0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Follow a run that another process trains, until it is finished or stopped. Ctrl-C stops watching only."""
    from barlowctl.runs import history

    console = Console(json=json, quiet=quiet)
    if run is not None and _is_submitted(Path(run)):
        console.say(f"{run} has not begun yet: waiting for the job that was submitted")
        while _is_submitted(Path(run)):
            time.sleep(every)
    path = history.find(run)
    opened = history.read(path)
    if console.live:
        from rich.live import Live

        with Live(console=console.rich, auto_refresh=False) as live:
            while True:
                opened = history.read(path)
                live.update(console.plain("\n".join(_screen(opened, console.rich.width))), refresh=True)
                if opened.state != "running":
                    break
                time.sleep(every)
    else:
        records_shown = 0
        while True:
            opened = history.read(path)
            for record in opened.records[records_shown:]:
                console.say(_line(record, _metrics(opened)))
            records_shown = len(opened.records)
            if opened.state != "running":
                break
            time.sleep(every)
    console.say(f"{opened.name}: {_state(opened)}")
    for text in _damage([opened]):
        console.say(f"note: {text}")
    _say_how_to_go_on(console, opened)
    console.result(_summary(opened))


app.command("best", cls=Command, epilog="barlowctl runs best --by rankme")(best)
app.command("table", cls=Command, epilog="barlowctl runs table --out table.tex")(table)
app.command("note", cls=Command, epilog='barlowctl runs note quickstart-a "seed 3 collapsed"')(note)
app.command("rename", cls=Command, epilog="barlowctl runs rename quickstart-20261125-101500 baseline")(rename)
app.command("restore", cls=Command, epilog="barlowctl runs restore runs/NAME")(restore)
app.command("remove", cls=Command, epilog="barlowctl runs remove quickstart-20261125-101500 --dry-run")(remove)


def _damage(runs: Iterable[History]) -> list[str]:
    """What the records of runs have lost, a line for each: curves and newest numbers are without them."""
    return [f"{run.name}: {run.damage}" for run in runs if run.damage]


def _is_submitted(run: Path) -> bool:
    """Whether `pretrain --slurm` has submitted a run that has not begun: its script is there, and nothing else."""
    return run.with_name(f"{run.name}.sbatch").is_file() and not (run / "run.json").is_file()


def _say_how_to_go_on(console: Console, run: History) -> None:
    from barlowctl.runs.resumption import resume_line

    if run.state not in ("running", "finished"):
        console.next(resume_line(run.path))


def _metrics(run: History) -> tuple[str, ...]:
    """The metrics that are shown of a run."""
    return ("loss", *run.terms, *MEASURED)


def _reading(run: History, key: str) -> str:
    """The newest value, and what it says: terms are of the step that was logged last, the loss may be an epoch's."""
    value = f"{run.last[key]:.5g}"
    if key == "loss" and next(record for record in reversed(run.records) if key in record)["event"] == "epoch":
        return f"{value} (mean of an epoch)"
    meaning = run.terms.get(key) or (QUANTITIES[key].meaning if key in QUANTITIES else "")
    return f"{value} ({meaning})" if meaning else value


def _screen(run: History, columns: int) -> list[str]:
    """What `watch` redraws on a terminal of so many columns."""
    values = "  ".join(f"{label_of(key)} {run.last[key]:.4g}" for key in _metrics(run) if key in run.last)
    lines = [f"{run.name}: {_state(run)}", values, ""]
    for key in ("loss", "knn"):
        if len(points := run.curve(key)) > 1:
            lines += chart(key, {run.name: points}, columns=columns, height=8)
    return lines


def _line(record: Any, keys: Collection[str]) -> str:
    values = "  ".join(f"{label_of(key)} {value:.4g}" for key, value in record.items() if key in keys)
    return f"{record['event']:<10} step {record['step']:<8} {values}"


def _summary(run: History) -> dict[str, Any]:
    return {
        "name": run.name,
        "path": str(run.path),
        "state": run.state,
        "step": run.step,
        "total_steps": run.total_steps,
        "loss": run.last.get("loss"),
        "knn": run.last.get("knn"),
        "best_knn": run.best("knn"),
        "note": run.note,
        "seconds_since_record": round(run.seen, 1),
    }


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    progress = f"{row['step']:,}" + (f" of {row['total_steps']:,}" if row["total_steps"] else "")
    ago = f"{duration(row['seconds_since_record'])} ago"
    numbers = tuple("-" if row[key] is None else f"{row[key]:.4g}" for key in ("loss", "knn", "best_knn"))
    return (row["name"], row["state"], progress, *numbers, ago)


def _state(run: History) -> str:
    of = f" of {run.total_steps:,}" if run.total_steps else ""
    where = f"step {run.step:,}{of}"
    match run.state:
        case "running":
            images_per_second = run.last.get("images_per_second")
            speed = f", {rate(images_per_second)} images/s" if images_per_second else ""
            return f"running, {where}{speed}, last record {duration(run.seen)} ago"
        case "finished":
            early = run.result.get("stopped_early")
            return f"finished early, {where}: {early}" if early else f"finished, {where}"
        case _:
            return f"stopped at {where}"
