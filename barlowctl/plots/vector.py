"""Curves as PDF or SVG, to be put into a paper: the panels of `panels`, drawn with matplotlib (extra `plots`)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barlowctl.files import atomic_write
from barlowctl.packages import required
from barlowctl.plots import style
from barlowctl.plots.axis import Axis
from barlowctl.plots.lettering import Lettering, lettering
from barlowctl.plots.panels import DOTS, Panel, sound

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL_INCHES = (3.5, 2.6)
"""Two beside one another are as wide as a page's text."""
NAME_LETTERS = 44
"""In a line of the legend, for each panel above it."""


def save_panels(panels: Sequence[Panel], path: Path) -> None:
    """Draw panels into a file that ends in .pdf or .svg; the same panels give the same bytes.

    Raises:
        UserError: matplotlib is not installed, or does not work.
        OSError: the file cannot be written.
    """
    (matplotlib,) = required("curves as PDF or SVG need matplotlib", "matplotlib", extra="plots")
    names = dict.fromkeys(name for panel in panels for name in panel.series)
    letters = lettering([*names, *(panel.title for panel in panels)])
    settings: Any = style.matplotlib_settings()  # its stubs name every key
    settings["font.family"] = letters.families
    ending = path.suffix.lower()
    with matplotlib.rc_context(settings):
        figure = panels_figure(panels, letters)
        without_time: Any = {"CreationDate": None} if ending == ".pdf" else {"Date": None}
        with atomic_write(path, durable=False) as temporary:
            figure.savefig(temporary, format=ending[1:], metadata=without_time)


def panels_figure(panels: Sequence[Panel], letters: Lettering) -> Figure:
    """The figure: a series keeps its colour in all panels, and one legend names them. letters: of its texts."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows + 0.2 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    entries: dict[str, Any] = {}
    for axes, panel in zip(grid, panels, strict=False):
        lines = {name: sound(points, panel) for name, points in panel.series.items()}
        for number, (name, points) in enumerate(lines.items()):
            width = 1.4 + min(len(lines) - 1 - number, 3)  # what another line lies on shows behind it
            color = style.hexadecimal(style.series_color(names.index(name)))
            dashes = style.series_dash(names.index(name))
            marker = "o" if len(points) < DOTS else None
            (line,) = axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=color,
                linestyle=(0, dashes) if dashes else "-",
                marker=marker,
                markersize=3,
                linewidth=width,
            )
            entries.setdefault(name, line)
        axes.set_title(letters.written(panel.title))
        axes.set_xlabel(panel.x_label)
        heights = [y for points in lines.values() for _, y in points]
        if heights and Axis.around(heights, logarithmic=panel.log_y).logarithmic:
            axes.set_yscale("log")
        if panel.log_x:
            axes.set_xscale("log")
    for axes in grid[len(panels) :]:
        axes.remove()
    words = [textwrap.fill(letters.written(name), NAME_LETTERS * columns) for name in entries]
    figure.legend(entries.values(), words, loc="outside lower left", ncols=1)
    return figure
