"""Tables of the report's page."""

from __future__ import annotations

import pytest

from barlowctl.plots.style import number
from barlowctl.quantities import QUANTITIES
from barlowctl.report.blocks import table
from barlowctl.report.page import RunPage, _curves


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
        (None, "–", False),
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
