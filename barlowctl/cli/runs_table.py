"""`barlowctl runs table`: runs as the table of a paper, with mean and spread over seeds, in Markdown, LaTeX or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from barlowctl import shell, tables
from barlowctl.cli import options
from barlowctl.cli.console import Console
from barlowctl.cli.probe_result import TRAINED
from barlowctl.datasets import DETECTION
from barlowctl.errors import UserError, did_you_mean, nearest
from barlowctl.files import folder_made, write_text
from barlowctl.output_paths import check_file, check_new, why_not_written
from barlowctl.quantities import QUANTITIES

if TYPE_CHECKING:
    from barlowctl.study.seed_groups import Group, Measure

ENDINGS = (".md", ".tex", ".csv")
SETTINGS = 4
"""Columns of settings that a table has unless others are asked for: more do not fit a page."""
TITLES = {"knn": "kNN", "linear": "linear", **TRAINED, **{task: f"{task} AP" for task in DETECTION}}


def table(
    names: Annotated[
        list[str] | None, options.run("Names or directories of runs. Default: all of BARLOWCTL_RUNS (else ./runs).")
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option(
            "--measures",
            metavar="NAMES",
            help="Columns of numbers, e.g. knn,effective_rank. Default: every accuracy that was measured.",
        ),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            "--settings",
            metavar="KEYS",
            help=f"Columns of settings, e.g. objective.name,train.epochs. Default: the first {SETTINGS} that differ.",
        ),
    ] = None,
    out: Annotated[Path | None, options.out("Write the table: a name in .md, .tex (booktabs) or .csv.")] = None,
    overwrite: Annotated[bool, options.overwrite("Replace the file that is there.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Finished runs as a table: a row for those that differ in their seed alone, with mean and spread over the seeds.

    Columns are the settings in which the rows differ, and accuracies: of the last online evaluation, and of what
    `probe` and `transfer` measured of each run. Nothing is measured anew.
    """
    from barlowctl.runs import history
    from barlowctl.study import seed_groups

    console = Console(json=json, quiet=quiet)
    if out is not None:
        _check_out(out, overwrite)
    runs, left_out = history.opened(names or [])
    groups, notes = seed_groups.grouped(runs if names else sorted(runs, key=history.begun))
    columns = _measures(groups, options.comma_separated("--measures", measures))
    keys, others = _settings(groups, options.comma_separated("--settings", settings))
    header, rows = _cells(groups, keys, columns)
    notes = [*_about(groups, columns), *notes, *left_out]
    notes += [f"also differ: {', '.join(others)} (--settings)"] if others else []
    console.table("", header, rows)
    for note in notes:
        console.say(f"note: {note}")
    records = [_record(group, columns) for group in groups]
    if out is not None:
        _write(out, _text(out.suffix.lower(), header, rows, records, notes))
        console.say(f"table: {out}")
    else:
        typed = names or []
        console.next(shell.line("barlowctl", "runs", "table", *typed, "--out", "table.tex"))
    console.result({"rows": records, "notes": notes, "file": None if out is None else str(out)})


def _check_out(out: Path, overwrite: bool) -> None:
    if out.suffix.lower() not in ENDINGS:
        raise UserError(f"--out is '{out}'", allowed="a name that ends in .md, .tex or .csv", next="--out table.tex")
    if overwrite:
        check_file(out)
    else:
        check_new(out)


def _measures(groups: Sequence[Group], names: Sequence[str]) -> list[Measure]:
    """The columns of numbers.

    Raises:
        UserError: a name that is no measure of these runs, or none has an accuracy.
    """
    from barlowctl.study import seed_groups

    there = seed_groups.measures_of(groups)
    keys = list(dict.fromkeys(measure.key for measure in there))
    for name in names:
        if name not in keys:
            near = nearest(name, keys) or next(iter(keys), None)
            raise UserError(
                f"--measures has '{name}', which none of these runs has{did_you_mean(name, keys)}",
                allowed=", ".join(keys) or "nothing: no run has recorded a number",
                next=shell.line("--measures", near) if near else "barlowctl runs list",
            )
    if names:
        return [measure for name in names for measure in there if measure.key == name]
    return [measure for measure in there if measure.source != "online" or measure.name in seed_groups.ONLINE]


def _settings(groups: Sequence[Group], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns of settings, and those that differ too and are not shown.

    Raises:
        UserError: a key that no recipe has.
    """
    from barlowctl.recipe import load

    differing = list(dict.fromkeys(key for group in groups for key in group.settings))
    every = [load.flatten(group.recipe) for group in groups]
    known = dict.fromkeys([*differing, *(key for values in every for key in values)])
    for name in names:
        if name not in known:
            raise UserError(
                f"--settings has '{name}', which no recipe of these runs has{did_you_mean(name, known)}",
                allowed="keys of a recipe, which `recipes show` lists",
                next=shell.line("--settings", nearest(name, known) or next(iter(known))),
            )
    for group, values in zip(groups, every, strict=True):
        group.settings |= {name: values[name] for name in names if name in values}
    return (list(names), []) if names else (differing[:SETTINGS], differing[SETTINGS:])


def _cells(
    groups: Sequence[Group], keys: Sequence[str], columns: Sequence[Measure]
) -> tuple[list[str], list[list[str]]]:
    header = ["runs", *keys, "seeds", *_headings(columns)]
    rows = []
    for group in groups:
        own = [_setting(group.settings.get(key)) for key in keys]
        rows.append([group.label, *own, str(len(group.runs)), *(_number(group, measure) for measure in columns)])
    return header, rows


def _headings(columns: Sequence[Measure]) -> list[str]:
    """What each column is called; the labelled images are named where there are several."""
    headings: list[str] = []
    plain = _titles(columns)
    for number, heading in enumerate(plain):
        again = plain[:number].count(heading)
        headings.append(heading if not again else f"{heading} ({again + 1})")
    return headings


def _titles(columns: Sequence[Measure]) -> list[str]:
    """The same, where columns of other protocols are called alike."""
    several = len({measure.data for measure in columns if measure.data}) > 1
    titles: list[str] = []
    for measure in columns:
        if measure.source == "online":
            title = QUANTITIES[measure.name].title if measure.name in QUANTITIES else measure.name
            titles.append(title[:1].lower() + title[1:] if title.startswith("Online") else title)
        else:
            titles.append(TITLES.get(measure.name, measure.name) + (f", {measure.data}" if several else ""))
    return titles


def _setting(value: Any) -> str:
    if value is None:
        return tables.MISSING
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(group: Group, measure: Measure) -> str:
    """`85.51 ± 0.30`; with the number of runs that have it, where that is not all of them."""
    mean, deviation = group.mean(measure), group.deviation(measure)
    if mean is None:
        return tables.MISSING
    decimals = 2 if _is_percent(measure) or abs(mean) >= 1.0 else 4
    text = f"{mean:z.{decimals}f}" + ("" if deviation is None else f" ± {deviation:.{decimals}f}")
    number = len(group.values[measure])
    return text if number == len(group.runs) else f"{text} (of {number})"


def _is_percent(measure: Measure) -> bool:
    return measure.source != "online" or measure.key in ("knn", "linear")


def _about(groups: Sequence[Group], columns: Sequence[Measure]) -> list[str]:
    """What the numbers are."""
    lines = ["accuracies are in percent"] if any(map(_is_percent, columns)) else []
    if any(group.deviation(measure) is not None for group in groups for measure in columns):
        lines.append("mean ± sample standard deviation over seeds")
    if any(measure.source == "online" for measure in columns):
        lines.append("online: of images that are not trained on, at the end of the run")
    lines += _called_alike(columns)
    if len(groups) > 1 and all(len(group.runs) == 1 for group in groups):
        lines.append("one seed each: a difference may be chance")
    return lines


def _called_alike(columns: Sequence[Measure]) -> list[str]:
    """Of columns that only a number tells apart, what each of them is of."""
    from barlowctl.study.measure_differences import differences

    titles, headings = _titles(columns), _headings(columns)
    lines = []
    for title in dict.fromkeys(titles):
        alike = [number for number, other in enumerate(titles) if other == title]
        if len(alike) > 1:
            words = differences([columns[number] for number in alike])
            lines += [f"{headings[number]}: {of}" for number, of in zip(alike, words, strict=True) if of]
    return lines


def _record(group: Group, columns: Sequence[Measure]) -> dict[str, Any]:
    """A row unrounded, with every setting in which it may differ."""
    values: dict[str, Any] = {"runs": [run.name for run in group.runs], "label": group.label, **group.settings}
    for heading, measure in zip(_headings(columns), columns, strict=True):
        values[heading] = group.mean(measure)
        values[f"{heading} sd"] = group.deviation(measure)
        values[f"{heading} n"] = len(group.values.get(measure, []))
    return values


def _text(
    ending: str, header: Sequence[str], rows: Sequence[Sequence[str]], records: list[dict[str, Any]], notes: list[str]
) -> str:
    if ending == ".csv":
        columns = list(dict.fromkeys(key for record in records for key in record))
        return tables.as_csv(columns, [{**record, "runs": " ".join(record["runs"])} for record in records])
    if ending == ".md":
        below = tables.markdown_notes(f"{note}." for note in notes)
        return f"{tables.markdown(header, rows)}\n\n{below}".rstrip("\n") + "\n"
    return tables.latex_comments(["needs \\usepackage{booktabs}", *notes]) + tables.latex(header, rows) + "\n"


def _write(out: Path, text: str) -> None:
    try:
        with folder_made(out.parent):
            write_text(out, text, durable=False)
    except OSError as error:
        why = why_not_written(error, out.parent)
        raise UserError(f"'{out}' cannot be written: {why}", next="name another place with --out") from error
