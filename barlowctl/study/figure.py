"""A study's figure in the paper's form, ours with its spread and the published points where the paper prints numbers.

Drawn with matplotlib (extra `plots`), without its global state. What the paper shows only as a curve is not drawn.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barlowctl.files import atomic_write
from barlowctl.packages import required
from barlowctl.plots import style
from barlowctl.plots.lettering import lettering
from barlowctl.plots.style import hexadecimal
from barlowctl.study.study import Study
from barlowctl.study.table import Row, seeds_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, KNN, PAPER = (hexadecimal(color) for color in (style.BLUE, style.SKY, style.VERMILION))
OTHERS = tuple(hexadecimal(color) for color in (style.GREEN, style.PURPLE))
APART = 0.05
TITLE_LETTERS = 84
"""In a line of a title as wide as the figure."""
ROOM = 0.03  # of an axis's length, beyond its outermost points
PAPER_LABEL = "paper (ImageNet, ResNet-50)"


def save(study: Study, table: Sequence[Row], recipe: str, stem: Path) -> list[Path]:
    """Draw into `<stem>.png`, `.svg` and `.pdf`; returns the files, none as long as nothing was measured.

    Raises:
        UserError: matplotlib is not installed, or does not work.
    """
    if not any("linear_top1" in row for row in table):
        return []
    (matplotlib,) = required("figures need matplotlib", "matplotlib", extra="plots")
    settings: Any = style.matplotlib_settings()  # its stubs name every key
    settings["font.family"] = lettering([_title(study, table, recipe)]).families
    with matplotlib.rc_context(settings):
        figure = plot(study, table, recipe)
        without_time: dict[str, dict[str, Any]] = {
            "png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None},
        }  # fmt: skip
        files = [Path(f"{stem}.{ending}") for ending in without_time]
        for file, metadata in zip(files, without_time.values(), strict=True):
            with atomic_write(file, durable=False) as temporary:
                figure.savefig(temporary, format=file.suffix[1:], dpi=160, metadata=metadata)
    return files


def plot(study: Study, table: Sequence[Row], recipe: str) -> Figure:
    """The figure of a study of which something was measured."""
    from matplotlib.figure import Figure

    height = 1.6 + 0.42 * len(table) if study.form == "rows" else 4.2
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    match study.form:
        case "rows":
            _rows(axes, study, table)
        case "steps":
            _steps(axes, study, table)
        case "curve":
            _curve(axes, study, table)
    title = _title(study, table, recipe)
    names = max(len(row["variant"]) for row in table) if study.form == "rows" else 0  # left of the title
    axes.set_title(textwrap.fill(lettering([title]).written(title), max(TITLE_LETTERS - names, TITLE_LETTERS // 3)))
    return figure


def _title(study: Study, table: Sequence[Row], recipe: str) -> str:
    """What is drawn, as it was typed."""
    incomplete = ", incomplete" if any(row["missing"] or row["failed"] for row in table) else ""
    return f"{study.title} ({study.source}): recipe {recipe}, {seeds_text(table)}{incomplete}"


def groups(table: Sequence[Row]) -> dict[str | None, list[Row]]:
    """The rows of each method; of a study of one method: None."""
    by_method: dict[str | None, list[Row]] = {}
    for row in table:
        by_method.setdefault(row["group"], []).append(row)
    return by_method


def colors_of(study: Study, table: Sequence[Row]) -> dict[str | None, str]:
    """A color for each method that was trained; the paper's series of a method has the same."""
    own = list(groups(table))
    colors = dict(zip(own, itertools.cycle(map(hexadecimal, style.SERIES)), strict=False))
    unused = [color for color in (*OTHERS, *map(hexadecimal, style.SERIES)) if color not in colors.values()]
    others = itertools.cycle(unused or OTHERS)
    for series in study.series:
        colors[series.label] = colors[series.method] if series.method in colors else next(others)
    return colors


def _rows(axes: Axes, study: Study, table: Sequence[Row]) -> None:
    """Dots: every variant's difference to the baseline."""
    spread = _spread(table, "linear_top1_margin", "95 % interval")
    for position, row in enumerate(table):
        if row.get("linear_top1_difference") is not None:
            axes.errorbar(
                row["linear_top1_difference"], position - 0.1, xerr=row["linear_top1_margin"] or None, color=OURS,
                fmt="o", capsize=3, label=f"linear top-1{spread}",
            )  # fmt: skip
        if row["published_difference"] is not None:
            axes.plot(row["published_difference"], position + 0.15, "D", color=PAPER, mfc="none", label=PAPER_LABEL)
    axes.axvline(0.0, color=hexadecimal(style.FAINT), linewidth=0.8)
    axes.set_yticks(range(len(table)), [row["variant"] for row in table])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel(f"points of top-1 against '{study.baseline}'")
    low = min((v for row in table for v in (row.get("linear_top1_difference"), row["published_difference"]) if v),
              default=0.0)  # fmt: skip
    if low < -25.0:  # a collapsed row: the others would lie on one another
        axes.set_xscale("symlog", linthresh=5.0)
        axes.set_xticks(
            [-100, -50, -20, -10, -5, -2, 0, 2, 5], ["-100", "-50", "-20", "-10", "-5", "-2", "0", "2", "5"]
        )
        ends = [row["linear_top1_difference"] + (row["linear_top1_margin"] or 0.0)
                for row in table if row.get("linear_top1_difference") is not None]  # fmt: skip
        axes.set_xlim(min(-100.0, low * 1.2), max(6.0, *(1.2 * end for end in ends)))
    _legend(axes)


def _spread(rows: Sequence[Row], column: str, words: str) -> str:
    """What bars are, in brackets; empty where no row has any, as of one seed each."""
    return f" ({words})" if any(row.get(column) is not None for row in rows) else ""


def _steps(axes: Axes, study: Study, table: Sequence[Row]) -> None:
    """Figure 3: difference to the own baseline while one distortion after another is removed, a line a method."""
    names = list(dict.fromkeys(row["label"] for row in table))
    colors = colors_of(study, table)
    by_method = groups(table)
    for number, (method, rows) in enumerate(by_method.items()):
        aside = APART * (number - (len(by_method) - 1) / 2)  # intervals of several methods beside one another
        ours = [
            (names.index(row["label"]) + aside, row) for row in rows if row.get("linear_top1_difference") is not None
        ]
        if ours:
            axes.errorbar(
                [place for place, _ in ours],
                [row["linear_top1_difference"] for _, row in ours],
                yerr=[row["linear_top1_margin"] or 0.0 for _, row in ours], color=colors[method], marker="o",
                capsize=3, linewidth=2,
                label=f"{method or 'ours'}, linear top-1{_spread(rows, 'linear_top1_margin', '95 % interval')}",
            )  # fmt: skip
    for series in study.series:
        points = [(names.index(name), value) for name, value in series.points.items() if name in names]
        start = series.points[names[0]]
        axes.plot([x for x, _ in points], [y - start for _, y in points], "s--", color=colors[series.label], mfc="none",
                  label=f"{series.label}, paper (ImageNet)")  # fmt: skip
    axes.set_xticks(range(len(names)), names, rotation=15)
    axes.set_ylabel("points of top-1 against the baseline")
    _legend(axes)


def _curve(axes: Axes, study: Study, table: Sequence[Row]) -> None:
    """Accuracy over a value; the paper's numbers on an axis of their own, as long as ours and level at the baseline."""
    by_method, colors = groups(table), colors_of(study, table)
    lines = [(name, "linear_top1", colors[name], f"{name or 'ours'}, linear top-1") for name in by_method]
    if len(lines) == 1:
        lines.append((lines[0][0], "knn", KNN, f"{lines[0][0] or 'ours'}, kNN"))
    for name, column, color, label in lines:
        points = [row for row in by_method[name] if column in row]
        axes.errorbar(
            [row["x"] for row in points], [row[column] for row in points],
            yerr=[row[f"{column}_sd"] or 0.0 for row in points], color=color, marker="o", capsize=3,
            linewidth=2 if column == "linear_top1" else 1.2, label=f"{label}{_spread(points, f'{column}_sd', '± sd')}",
        )  # fmt: skip
    _value_axis(axes, sorted({row["x"] for row in table}), study.axis or "")
    axes.set_ylabel("top-1 on the recipe's test images (%)")
    papers = by_method.get("barlow-twins", by_method.get(None, []))
    published = [row for row in papers if row["published_top1"] is not None]
    if not published:
        _legend(axes)
        return
    right = axes.twinx()
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    of_one = None in by_method
    right.plot([row["x"] for row in published], [row["published_top1"] for row in published], "D--",
               color=PAPER if of_one else colors[published[0]["group"]], mfc="none",
               label=f"{PAPER_LABEL if of_one else 'Barlow Twins, paper'}, right axis")  # fmt: skip
    where = {row["variant"]: row["x"] for row in papers}
    for series in study.series:
        names = [name for name in series.points if name in where]
        x, y = [where[name] for name in names], [series.points[name] for name in names]
        if names:  # else it has its numbers at sizes that are not in this study
            right.plot(x, y, "s", color=colors[series.label], mfc="none",
                       label=f"{series.label}, paper, right axis")  # fmt: skip
    right.set_ylabel("ImageNet top-1 in the paper (%)")
    _level(axes, right, study, table)
    _legend(axes, right)


def _value_axis(axes: Axes, values: Sequence[float], label: str) -> None:
    axes.set_xlabel(label)
    if max(values) / min(values) > 4.5:
        axes.set_xscale("log", base=2)
    axes.set_xticks(values, [style.number(value) for value in values], rotation=0 if len(values) < 9 else 30)
    axes.minorticks_off()


def _level(axes: Axes, right: Axes, study: Study, table: Sequence[Row]) -> None:
    """One length of a point on both axes, with the baselines at one height."""
    base = next(row for row in table if row["variant"] == study.baseline)
    if "linear_top1" not in base or base["published_top1"] is None:
        return
    offset = base["linear_top1"] - base["published_top1"]
    (low, high), (right_low, right_high) = axes.get_ylim(), right.get_ylim()
    low, high = min(low, right_low + offset), max(high, right_high + offset)
    low, high = low - ROOM * (high - low), high + ROOM * (high - low)  # for the points at either end
    axes.set_ylim(low, high)
    right.set_ylim(low - offset, high - offset)


def _legend(*axes: Axes) -> None:
    """One entry per label, over the entries of all axes, below the plot."""
    entries: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure = axes[0].get_figure()
    assert figure is not None
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=2)
