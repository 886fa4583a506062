"""One or more runs as one HTML page: plain values in, text out. Everything is inside the page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from barlowctl.amounts import of_labels
from barlowctl.eval import svm
from barlowctl.eval.published import DETECTION, LINEAR, SEMI, TRANSFER, Table
from barlowctl.plots.style import css
from barlowctl.plots.svg import Line, line_chart, sample
from barlowctl.quantities import LOSS, QUANTITIES, loss_meaning, meanings_of
from barlowctl.report.blocks import figure, table

MEASURES = {
    "knn": "kNN, k 20",
    "linear": "linear (fast)",
    "linear_paper": "linear (paper's protocol)",
    "semi_1": "fine-tuned, 1 % labels",
    "semi_1_modern": "fine-tuned, 1 % labels, modern protocol",
    "semi_10": "fine-tuned, 10 % labels",
    "semi_10_modern": "fine-tuned, 10 % labels, modern protocol",
    "finetune": "fine-tuned, all labels",
    "finetune_modern": "fine-tuned, all labels, modern protocol",
}

WIDE = 720
"""Pixels of a picture with words that is not shown beside another."""


@dataclass(frozen=True)
class Picture:
    """An image with a heading and a line below. words: some stand in it, to be read where it is not reduced."""

    heading: str
    caption: str
    image: Image.Image
    words: bool = False


@dataclass(frozen=True)
class RunPage:
    """What the page says of one run.

    Attributes:
        metrics: name -> (steps, values). terms: of the loss, name -> what it says.
        metadata: label -> value. recipe: its TOML.
        singular_values, eigenvalues: of the last evaluation, descending.
        probes, transfers: result documents, as written by the commands.
    """

    name: str
    status: str
    summary: Mapping[str, Any]
    metadata: Mapping[str, str]
    recipe: str
    metrics: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    terms: Mapping[str, str] = field(default_factory=dict)
    singular_values: Sequence[float] = ()
    eigenvalues: Sequence[float] = ()
    probes: Sequence[Mapping[str, Any]] = ()
    transfers: Sequence[Mapping[str, Any]] = ()
    pictures: Sequence[Picture] = ()
    readings: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)


SPECTRA: tuple[tuple[str, str, Callable[[RunPage], Sequence[float]]], ...] = (
    (
        "Singular values of C",
        "of the embeddings; with Barlow Twins healthy: flat, near 1; collapsed: one large, then nothing",
        lambda run: run.singular_values,
    ),
    (
        "Eigenvalues of the covariance",
        "of the features, as shares; alpha is the slope",
        lambda run: run.eigenvalues,
    ),
)


def page(
    runs: Sequence[RunPage], *, title: str, made: str, differences: Sequence[tuple[str, Sequence[str]]] = ()
) -> str:
    """The whole page.

    Args:
        made: when and with what. differences: recipe keys that differ, with each run's value.
    """
    body = [
        _section("Summary", _summary(runs) + _readings(runs)),
        _section("Differences of the recipes", _differences(runs, differences)),
        _section("Curves", _curves(runs)),
        _section("Spectra", _spectra(runs)),
        _section("Probes", _probes(runs), "Percent on test images; nothing was chosen on them."),
        _section("Transfer", _transfers(runs), "Fixed features, or fine-tuned detectors, on other datasets; percent."),
        _section("Pictures", _pictures(runs)),
        _section("Recipe and environment", _details(runs)),
    ]
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    legend = "" if len(runs) == 1 else _legend(runs)
    values = {
        "style": css(),
        "title": html.escape(title),
        "made": html.escape(made),
        "legend": legend,
        "body": "".join(body),
    }
    for key, value in values.items():
        template = template.replace("{{" + key + "}}", value)
    return template


def _legend(runs: Sequence[RunPage]) -> str:
    items = (f"<li>{sample(index)}{html.escape(run.name)}</li>" for index, run in enumerate(runs))
    return f'<ul class="legend">{"".join(items)}</ul>'


def _section(heading: str, content: str, lead: str = "") -> str:
    if not content:
        return ""
    lead_html = f'<p class="lead">{html.escape(lead)}</p>' if lead else ""
    return f"<section><h2>{html.escape(heading)}</h2>{lead_html}{content}</section>"


def _summary(runs: Sequence[RunPage]) -> str:
    keys = list(dict.fromkeys(key for run in runs for key in run.summary))
    rows = [[run.name, run.status, *(run.summary.get(key) for key in keys)] for run in runs]
    return table(["run", "status", *keys], rows)


def _differences(runs: Sequence[RunPage], differences: Sequence[tuple[str, Sequence[str]]]) -> str:
    rows = [[key, *values] for key, values in differences]
    return table(["key", *(run.name for run in runs)], rows) if rows else ""


def _readings(runs: Sequence[RunPage]) -> str:
    items = [
        f"<li><b>{html.escape(run.name)}</b>: {html.escape(text)}</li>"
        for run in runs
        for text in (*run.readings, *run.notes)
    ]
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _curves(runs: Sequence[RunPage]) -> str:
    """A chart of each metric; of terms that have one name and several meanings, a chart of each meaning."""
    charts = []
    terms = [run.terms for run in runs]
    curves = [(LOSS, QUANTITIES[LOSS].title, loss_meaning(terms), True, runs)]
    for name, words in meanings_of(terms):
        runs_of_it = [run for run in runs if run.terms.get(name) == words]
        curves.append((name, name.capitalize(), words, True, runs_of_it))
    curves += [
        (name, quantity.title, quantity.meaning, quantity.by_decades, runs)
        for name, quantity in QUANTITIES.items()
        if name not in (LOSS, "data_wait")
    ]
    for key, heading, meaning, by_decades, having in curves:
        lines = [
            Line(run.name, *run.metrics[key], index)
            for index, run in enumerate(runs)
            if key in run.metrics and run in having
        ]
        if svg := line_chart(lines, x_label="step", log=None if by_decades else False):
            charts.append(figure(heading, meaning, svg))
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _spectra(runs: Sequence[RunPage]) -> str:
    parts = []
    for heading, meaning, spectrum_of in SPECTRA:
        lines = []
        for index, run in enumerate(runs):
            values = spectrum_of(run)
            lines.append(Line(run.name, range(1, len(values) + 1), values, index))
        if svg := line_chart(lines, x_label="rank", log=True, log_x=True):
            parts.append(figure(heading, meaning, svg))
    return f'<div class="charts">{"".join(parts)}</div>' if parts else ""


def _probes(runs: Sequence[RunPage]) -> str:
    rows = []
    for run in runs:
        for probe in run.probes:
            data = Path(str(probe.get("data", {}).get("test", {}).get("path", ""))).parent.name
            digest = probe.get("identity", {}).get("weights")
            state = f"step {probe['step']}" if "step" in probe else digest and digest[:8]
            subject = {**probe, "name": run.name}
            for measured in (subject, *probe.get("floors", ())):
                weights = state if measured is subject else None  # pixels and random networks have no step
                for key, label in MEASURES.items():
                    if key in measured:
                        measure = _fewer_neighbours(measured[key]) if key == "knn" else of_labels(label, measured[key])
                        values = [_spread(measured[key], "top1"), _spread(measured[key], "top5")]
                        rows.append([measured["name"], data, _prepared(measured), weights, measure, *values])
    if not rows:
        return ""
    own = table(["features of", "images", "resize / crop", "weights", "measure", "top-1", "top-5"], rows)
    return own + _published(LINEAR) + _published(SEMI)


def _prepared(measured: Mapping[str, Any]) -> str | None:
    """Resize and crop of the images; None where an earlier version did not note it."""
    return f"{measured['resize']} / {measured['crop']}" if "resize" in measured else None


def _fewer_neighbours(knn: Mapping[str, Any]) -> str:
    """What the kNN's number is: of k 20, or of as many as a smaller bank has."""
    voted = knn.get("neighbours", {}).get("k20", 20)
    return MEASURES["knn"] if voted >= 20 else f"kNN, k {voted} (all of the bank)"


def _transfers(runs: Sequence[RunPage]) -> str:
    rows, detected = [], False
    for run in runs:
        for transfer in run.transfers:
            if "scores" in transfer:
                rows += _detected(run.name, transfer)
                detected = True
                continue
            value = "not reported" if transfer["value"] is None else f"{transfer['value']:.2f}"
            value += f" ± {transfer['sd']:.2f}" if "sd" in transfer else ""
            rows.append([run.name, transfer["task"], transfer["metric"], value, transfer["protocol"]])
            for key, metric in (("map_area", svm.AREA), ("map_11_points", svm.ELEVEN_POINTS)):
                if key in transfer and metric != transfer["metric"]:  # until 2026-11 the value was that of 11 points
                    rows.append([run.name, transfer["task"], metric, f"{transfer[key]:.2f}", "the same scores"])
    own = table(["features of", "task", "metric", "value", "protocol"], rows)
    return own + _published(TRANSFER) + (_published(DETECTION) if detected else "") if rows else ""


def _detected(name: str, transfer: Mapping[str, Any]) -> list[list[str | None]]:
    """Every score of a detector that was fine-tuned from a network, then of those from its baselines."""
    rows: list[list[str | None]] = []
    for measured in ({**transfer, "name": name}, *transfer.get("floors", ())):
        protocol = f"{transfer.get('head', 'c4')} head; {transfer['protocol']}"
        spread = measured.get("scores_sd", {})
        for metric, score in measured["scores"].items():
            value = "not reported" if score is None else f"{score:.2f}"
            value += f" ± {spread[metric]:.2f}" if spread.get(metric) is not None else ""
            rows.append([measured["name"], transfer["task"], metric, value, protocol])
            protocol = "the same detector"
    return rows


def _published(published: Table) -> str:
    rows = [
        [row.method, *(None if value is None else f"{value:.1f}" for value in row.values)] for row in published.rows
    ]
    summary = f"<summary>The paper's {html.escape(published.title[0].lower() + published.title[1:])}</summary>"
    return f"<details>{summary}{table(['method', *published.columns], rows)}</details>"


def _spread(measured: Mapping[str, Any], key: str) -> str | None:
    if measured.get(key) is None:
        return None
    deviation = measured.get(f"{key}_sd")
    return f"{measured[key]:.2f}" if deviation is None else f"{measured[key]:.2f} ± {deviation:.2f}"


def _pictures(runs: Sequence[RunPage]) -> str:
    figures = []
    for run in runs:
        for picture in run.pictures:
            heading = picture.heading if len(runs) == 1 else f"{run.name}: {picture.heading}"
            size = f'width="{picture.image.width}" height="{picture.image.height}"'
            tag = f'<img alt="{html.escape(heading)}" {size} src="{data_uri(picture.image)}">'
            figures.append(figure(heading, picture.caption, tag, wide=picture.words and picture.image.width > WIDE))
    return f'<div class="pictures">{"".join(figures)}</div>' if figures else ""


def _details(runs: Sequence[RunPage]) -> str:
    parts = []
    for run in runs:
        metadata = table(["", ""], list(run.metadata.items()))
        text = f"<pre>{html.escape(run.recipe)}</pre>"
        opened = " open" if len(runs) == 1 else ""
        parts.append(f"<details{opened}><summary>{html.escape(run.name)}: metadata</summary>{metadata}</details>")
        parts.append(f"<details><summary>{html.escape(run.name)}: recipe</summary>{text}</details>")
    return "".join(parts)


def data_uri(image: Image.Image) -> str:
    """A picture inside the page."""
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
