"""Maps: a mark for each class, names among the points of many, nothing that is not explained."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from barlowctl.plots import marks, style
from barlowctl.plots.scatter import scatter
from tests.plots.test_style import DEUTERANOPIA, PROTANOPIA, colors_of, lab

ROW = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])


def names_of(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["usual", "deuteranopia", "protanopia"])
@pytest.mark.parametrize("count", [11, 20, 30, 45, 60])
def test_up_to_sixty_classes_are_told_apart_by_their_colour_or_their_shape(count: int, vision: np.ndarray) -> None:
    looks = [marks.look(label, count) for label in range(count)]
    assert len(set(looks)) == count
    assert marks.look(-1, count) == (style.UNLABELLED, 0)
    for shape in range(len(marks.CORNERS)):
        seen = lab([color for color, own in looks if own == shape] or [style.PAPER], vision)
        distances = np.linalg.norm(seen[:, None] - seen[None], axis=2)[np.triu_indices(len(seen), 1)]
        assert distances.min(initial=100) > 14
    assert marks.look(60, 61) == marks.look(0, 61)  # here names tell them apart


@pytest.mark.parametrize("count", [10, 11, 30, 60])
def test_a_shape_is_drawn_and_is_no_other(count: int) -> None:
    """Marks of about one area, none of which is drawn as another one is."""
    shapes = set()
    for label in range(0, count, 10):
        picture = scatter(ROW, np.array([label, -1, label]), names_of(count) if count <= 30 else [""] * count, "")
        mark = np.asarray(picture.crop((22, 472, 38, 488)).convert("L"), dtype=np.int64) < 250
        assert 30 < mark.sum() < 100
        shapes.add(mark.tobytes())
    assert len(shapes) == -(-count // 10)


def test_names_of_many_classes_are_among_their_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each at the median of its class; of those that have no room it is said how many they are."""
    drawn: dict[str, tuple[float, float]] = {}
    monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda _, place, text, *args, **kw: drawn.update({text: place}))
    points = np.array([[x, y] for x in range(8) for y in range(5)], dtype=float)
    labels = np.arange(40)
    picture = scatter(points, labels, names_of(40), "map")
    assert picture.size == (900, 930)  # no legend
    left, right = drawn["class 2"], drawn["class 37"]
    assert right[0] - left[0] == pytest.approx(2 * 840)
    assert left[1] == pytest.approx(right[1]) == pytest.approx(2 * 480)
    assert "" in drawn  # no note
    drawn.clear()
    scatter(np.vstack([np.zeros((40, 2)), [[1.0, 1.0]]]), np.append(labels, -1), names_of(40), "map")
    assert sum(text.startswith("class ") for text in drawn) == 7
    assert "names of 7 of 40 classes: others have no room; small and grey: 1 unlabelled image" in drawn


def test_no_name_lies_on_another_or_beyond_the_picture() -> None:
    generator = np.random.default_rng(0)
    middles = [((float(x), float(y)), 80.0) for x, y in generator.uniform(0, 400, size=(60, 2))]
    boxes = marks.places(middles, 13, (400, 400))
    placed = [box for box in boxes if box is not None]
    assert len(placed) > 30
    assert not any(marks.overlap(*pair) for pair in itertools.combinations(placed, 2))
    assert all(box[0] >= 0 and box[2] <= 400 and box[1] >= 0 and box[3] <= 400 for box in placed)
    assert boxes[0] is not None  # the first one has the first choice


def test_middles_are_medians_the_largest_class_first() -> None:
    points = np.array([[0, 0], [2, 0], [50, 9], [7, 7], [1, 1], [8, 8]], dtype=float)
    assert marks.middles(points, np.array([3, 3, 3, 1, -1, -1])) == {3: (2.0, 0.0), 1: (7.0, 7.0)}


def test_the_legend_says_what_is_grey_and_both_ends_of_a_long_name(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda _, place, text, *args, **kw: texts.append(text))
    names = ["Phalaenopsis amabilis in the greenhouse, 1", "Phalaenopsis amabilis in the greenhouse, 2"]
    scatter(ROW, np.array([0, 1, -1]), names, "map")
    first, second, last = texts[1:]
    assert (first[:12], first[-8:]) == ("Phalaenopsis", "house, 1")
    assert "…" in first
    assert second.endswith("house, 2")
    assert last == "unlabelled"
    texts.clear()
    scatter(ROW, np.array([0, 1, 1]), ["cat", "dog"], "map")
    assert texts == ["map", "cat", "dog"]


def test_classes_of_one_picture_have_colours_of_their_own() -> None:
    """As far as there are ten; a class has the same in all pictures where no other takes it."""
    assert marks.unique_colors([1, 3], 5) == {1: style.VERMILION, 3: style.PURPLE}
    colors = marks.unique_colors([4, 14, 2, 14, 24], 80)
    assert colors[2] == style.CLASSES[2]
    assert colors[4] == style.CLASSES[4]
    assert len(set(colors.values())) == 4
    assert len(set(marks.unique_colors(range(0, 100, 10), 100).values())) == 10
    assert set(marks.unique_colors(range(13), 80)) == set(range(13))


def test_a_map_of_two_classes_has_the_colours_of_lines() -> None:
    points = scatter(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([0, 1]), ["cat", "dog"], "map")
    assert {style.PAPER, style.series_color(0), style.series_color(1)} <= colors_of(points)
