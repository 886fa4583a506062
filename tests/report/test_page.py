"""Tables of the report's page."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from barlowctl.plots.style import number
from barlowctl.quantities import QUANTITIES
from barlowctl.report.blocks import table
from barlowctl.report.page import Picture, RunPage, _curves, page


@pytest.mark.parametrize(
    ("value", "text", "number"),
    [
        (88.38, "88.38", True),
        (1024, "1024", True),
        ("88.6 ± 0.2", "88.6 ± 0.2", True),
        ("10,000", "10,000", True),
        ("−1.4", "−1.4", True),
        ("12 %", "12 %", True),
        ("2026-11-25T15:02:11", "2026-11-25T15:02:11", False),
        ("20 of 31", "20 of 31", False),
        ("1.0.2", "1.0.2", False),
        ("resnet26", "resnet26", False),
        ("<b>", "&lt;b&gt;", False),
        (None, "–", True),
    ],
)
def test_numbers_stand_right_and_text_left(value: object, text: str, number: bool) -> None:
    cell = f'<td class="n">{text}</td>' if number else f"<td>{text}</td>"
    assert cell in table(["a"], [[value]])


def test_terms_of_one_name_and_several_meanings_have_a_chart_each() -> None:
    """BYOL's spread is of projections, SimCLR's of embeddings: no chart shows one under the other's words."""
    metrics = {"loss": ([1, 2], [3.0, 2.0]), "spread": ([1, 2], [0.9, 0.8])}
    runs = [
        RunPage(name, "finished", {}, {}, "", metrics, terms={"spread": meaning})
        for name, meaning in (("one", "of projections"), ("two", "of embeddings"), ("three", "of embeddings"))
    ]
    loss, first, second = _curves(runs).split("<figure")[1:]
    assert "losses of different methods are not on one scale" in loss
    assert [chart.count('class="line ') for chart in (loss, first, second)] == [3, 1, 2]
    assert "of projections" in first
    assert "of embeddings" in second
    assert "not on one scale" not in _curves(runs[1:])


def test_a_loss_below_zero_is_drawn() -> None:
    """SimSiam's is between -1 and 1: an axis by decades would show nothing of it."""
    simsiam = RunPage("a", "finished", {}, {}, "", {"loss": ([1, 2, 3], [-0.1, -0.5, -0.9])})
    barlow_twins = RunPage("b", "finished", {}, {}, "", {"loss": ([1, 2, 3], [9000.0, 200.0, 100.0])})
    assert _curves([simsiam]).count("<circle") == 3
    assert _curves([barlow_twins, simsiam]).count("<circle") == 6
    decades = [f">{number(tick)}</text>" in _curves([barlow_twins]) for tick in (100, 1000, 10_000, 4000)]
    assert decades == [True, True, True, False]  # where a loss spans them


def test_each_number_is_named_by_what_it_is_of() -> None:
    """RankMe is of the embeddings; the same formula of the features has another name."""
    titles = [quantity.title for quantity in QUANTITIES.values()]
    assert len(set(titles)) == len(titles)
    assert not any("RankMe" in title for name, (title, *_) in QUANTITIES.items() if name != "rankme")
    assert all(what in QUANTITIES[f"{what[:-1]}_spread"].meaning for what in ("features", "embeddings"))


def test_a_column_of_numbers_has_its_name_above_them_and_words_stay_whole() -> None:
    """On a phone `finished` was `finis` and `hed`."""
    path = "/a/long/path/of/images-of-2026"
    text = table(["run", "status", "steps", "kNN"], [["a", "finished", 20, 88.4], [path, "stopped", 3, None]])
    assert re.findall("<th[ >].*?</th>", text) == [
        "<th>run</th>", "<th>status</th>", '<th class="n">steps</th>', '<th class="n">kNN</th>',
    ]  # fmt: skip
    assert f'<td class="long">{path}</td>' in text
    assert "<td>finished</td>" in text
    style = page([], title="a", made="b").partition("</style>")[0]
    on_screen = style.partition("@media print")[0]
    assert re.findall(r"([^{}\n]+) {[^}]*anywhere", on_screen) == ["h1", "td.long"]


def test_a_baseline_has_no_step() -> None:
    scores = {"top1": 80.0, "top5": 99.0}
    probe = {"step": 120, "knn": scores, "floors": [{"name": "raw pixels", "knn": scores}]}
    text = page([RunPage("a", "finished", {}, {}, "", {}, probes=[probe])], title="a", made="b")
    rows = [re.findall("<td.*?>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", text)]
    assert [(row[0], row[3]) for row in rows if "kNN, k 20" in row] == [("a", "step 120"), ("raw pixels", "–")]


def test_a_wide_picture_has_a_row_for_itself() -> None:
    """Captions of nine neighbours were five pixels high beside another picture."""
    large, small = Image.new("RGB", (1088, 688)), Image.new("RGB", (700, 400))
    pictures = [Picture("n", "", large, words=True), Picture("v", "", small, words=True), Picture("c", "", large)]
    text = page([RunPage("a", "finished", {}, {}, "", {}, pictures=pictures)], title="a", made="b")
    assert re.findall(r"(<figure[^>]*>)<figcaption><b>(\w)", text) == [
        ('<figure class="wide">', "n"), ("<figure>", "v"), ("<figure>", "c"),
    ]  # fmt: skip


def test_a_page_is_printed_on_paper() -> None:
    """No figure and no row over two sheets, no table behind a scroll bar, no dark ground, nothing folded."""
    style = page([], title="a", made="b").partition("</style>")[0]
    on_paper = style.partition("@media print {")[2]
    assert "@page { size: A4;" in style
    assert re.search("figure, tr[^{]*{ break-inside: avoid; }", on_paper)
    assert re.search("[.]scroll[^{]*{ overflow: visible; }", on_paper)
    assert "details::details-content { content-visibility: visible;" in on_paper
    assert re.findall(r"@media[^{]*prefers-color-scheme", style) == ["@media screen and (prefers-color-scheme"]
