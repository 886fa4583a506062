"""The page of a map: what its script reads."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from barlowctl.plots import style
from barlowctl.plots.marks import CORNERS
from barlowctl.report.map_page import map_page


def page_of(count: int, *, unlabelled: int = 0) -> tuple[str, dict[str, Any]]:
    """A page of two images of each class, a step apart, and what stands in it for its script."""
    labels = np.array([*range(count), *range(count), *[-1] * unlabelled])
    points = np.stack([np.arange(len(labels)) % max(count, 1), np.arange(len(labels)) // max(count, 1)], axis=1)
    names = [f"class {number}" for number in range(count)]
    pictures = [Image.new("RGB", (8, 8))] * len(labels)
    page = map_page(points.astype(float), labels, names, [str(n) for n in labels], pictures, "a map")
    data = re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    return page, json.loads(data[1])


def test_a_class_has_the_mark_that_it_has_in_a_picture() -> None:
    data = page_of(25)[1]
    assert data["colors"][3] == data["colors"][13] == data["colors"][23] == style.hexadecimal(style.CLASSES[3])
    shapes = [tuple(map(tuple, corners)) for corners in data["corners"]]
    assert shapes == [CORNERS[0]] * 10 + [CORNERS[1]] * 10 + [CORNERS[2]] * 5
    assert len(set(zip(data["colors"], shapes, strict=True))) == 25
    few = page_of(5)[1]
    assert few["corners"] == [[]] * 5
    assert few["smallest"] < data["smallest"]


def test_names_of_many_classes_are_on_the_map_at_once() -> None:
    assert [page_of(count)[1]["named"] for count in (5, 30, 31, 100)] == [False, False, True, True]
    data = page_of(31)[1]
    places = dict(zip(data["label"], zip(data["x"], data["y"], strict=True), strict=False))
    for label, x, y in data["middles"]:  # between the two images of the class
        assert x == pytest.approx(places[label][0], abs=1e-4)
        assert y == pytest.approx(0.0, abs=1e-4)
    assert [label for label, _, _ in data["middles"]] == list(range(31))


def test_the_page_says_what_a_class_in_the_list_does_where_there_is_one() -> None:
    labelled, plain = page_of(3, unlabelled=1)[0], page_of(0, unlabelled=4)[0]
    assert labelled.count("click a class to hide it") == 2
    assert labelled.count("point at it to single it out") == 1  # a finger cannot
    assert "click a class" not in plain
    assert "point at it" not in plain
    assert "{{" not in labelled + plain
