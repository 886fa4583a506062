"""Resizing and flipping images with their objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from barlowctl.detect.annotations import Annotation
from barlowctl.detect.augment import (
    Distortion,
    distort_image,
    distort_objects,
    draw_distortion,
    image_key,
    resized_size,
)


def annotation(
    *boxes: tuple[float, float, float, float],
    polygons: list[list[list[float]]] | None = None,
    crowd: tuple[bool, ...] | None = None,
) -> Annotation:
    outlines = None
    if polygons is not None:
        outlines = tuple(tuple(np.array(part, np.float32).reshape(-1, 2) for part in parts) for parts in polygons)
    count = len(boxes)
    return Annotation(
        image_id=1,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.arange(count),
        polygons=outlines,
        areas=np.ones(count),
        difficult=np.zeros(count, dtype=bool),
        crowd=np.array(crowd or (False,) * count, dtype=bool),
        rles=(None,) * count,
    )


@pytest.mark.parametrize(
    ("size", "short", "longest", "expected"),
    [
        ((375, 500), 800, 1333, (800, 1067)),
        ((500, 375), 800, 1333, (1067, 800)),
        ((333, 500), 800, 1333, (800, 1201)),
        ((200, 1000), 800, 1333, (267, 1333)),
        ((480, 640), 480, 1333, (480, 640)),
        ((2, 5), 3, 1333, (3, 8)),  # 7.5 is rounded up, as 8.5 is to 9 below: not to even
        ((2, 17), 1, 1333, (1, 9)),
        ((17, 2), 1, 1333, (9, 1)),
        ((1, 3000), 800, 1333, (1, 1333)),
    ],
)
def test_the_short_side_is_as_drawn_and_the_long_one_has_a_limit(
    size: tuple[int, int], short: int, longest: int, expected: tuple[int, int]
) -> None:
    assert resized_size(*size, short, longest) == expected


def test_a_shrunk_image_is_averaged_and_an_equal_one_is_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    same = distort_image(pixels, Distortion(64, 80, False))
    np.testing.assert_array_equal(same.permute(1, 2, 0).numpy(), pixels)
    shrunk = distort_image(pixels, Distortion(16, 20, False))
    assert (shrunk.dtype, tuple(shrunk.shape)) == (torch.uint8, (3, 16, 20))
    expected = functional.resize(torch.from_numpy(pixels).permute(2, 0, 1), [16, 20], antialias=True)
    assert (shrunk.int() - expected.int()).abs().max() <= 1
    assert shrunk.float().std() < 0.4 * torch.from_numpy(pixels).float().std()  # without averaging it would be as noisy


def test_a_flip_mirrors_pixels_boxes_and_outlines_alike() -> None:
    pixels = np.zeros((6, 10, 3), dtype=np.uint8)
    pixels[1:4, 2:5] = 255
    outline = [[2, 1, 5, 1, 5, 4, 2, 4]]
    objects = annotation((2, 1, 5, 4), polygons=[outline])
    flipped = distort_image(pixels, Distortion(6, 10, True))
    boxes, labels, polygons = distort_objects(objects, (6, 10), Distortion(6, 10, True))
    assert boxes.tolist() == [[5, 1, 8, 4]]
    assert boxes.dtype == np.float32
    assert labels.tolist() == [0]
    left, top, right, bottom = boxes[0].astype(int)
    inside = torch.zeros(6, 10, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert (flipped[0] == 255).equal(inside)
    assert polygons is not None
    assert polygons[0][0].tolist() == [[8, 1], [5, 1], [5, 4], [8, 4]]


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_are_scaled_by_what_the_rounded_size_comes_to(flip: bool) -> None:
    """333 x 500 becomes 480 x 720.72..., which is 721: the two sides have factors of their own."""
    objects = annotation((10.5, 20, 100, 50.25), polygons=[[[10.5, 20, 100, 20, 50, 50.25]]])
    boxes, _, polygons = distort_objects(objects, (333, 500), Distortion(*resized_size(333, 500, 480, 1333), flip))
    x = np.array([10.5, 100, 50]) * 721 / 500
    x = 721 - x if flip else x
    y = np.array([20, 50.25]) * 480 / 333
    np.testing.assert_allclose(boxes, [[x[:2].min(), y[0], x[:2].max(), y[1]]], rtol=1e-6)
    assert polygons is not None
    np.testing.assert_allclose(polygons[0][0], np.stack([x, y[[0, 0, 1]]], axis=1), rtol=1e-6)
    assert objects.boxes.tolist() == [[10.5, 20, 100, 50.25]]  # the annotation stays


def test_crowds_and_what_lies_outside_are_not_trained_on_and_boxes_are_cut_off() -> None:
    objects = annotation(
        (-3, -2, 5, 6), (1, 1, 3, 3), (9.999999, 1, 12, 3), (8, 5, 30, 40),
        polygons=[[[-3, -2, 5, -2, 5, 6]], [[1, 1, 3, 1, 3, 3]], [[9, 1, 12, 1, 12, 3]], [[8, 5, 30, 5, 30, 40]]],
        crowd=(False, True, False, False),
    )  # fmt: skip
    boxes, labels, polygons = distort_objects(objects, (8, 10), Distortion(16, 20, False))
    assert boxes.tolist() == [[0, 0, 10, 12], [16, 10, 20, 16]]
    assert labels.tolist() == [0, 3]
    assert polygons is not None
    assert [outline[0][0].tolist() for outline in polygons] == [[-6, -4], [16, 10]]  # outlines reach beyond


def test_without_outlines_there_are_none() -> None:
    boxes, labels, polygons = distort_objects(annotation(), (8, 10), Distortion(16, 20, True))
    assert (boxes.shape, labels.shape, polygons) == ((0, 4), (0,), None)


def test_sizes_and_flips_are_drawn_by_key_and_uniformly() -> None:
    sides = tuple(range(480, 801, 32))
    drawn = [
        draw_distortion(image_key(5, iteration, position), (100, 120), sides, 1333, 0.5)
        for iteration in range(30)
        for position in range(60)
    ]
    counts = np.unique([distortion.height for distortion in drawn], return_counts=True)
    assert counts[0].tolist() == list(sides)
    assert np.abs(counts[1] / 1800 - 1 / 11).max() < 0.03
    assert abs(np.mean([distortion.flip for distortion in drawn]) - 0.5) < 0.03
    assert abs(np.corrcoef([d.height for d in drawn], [d.flip for d in drawn])[0, 1]) < 0.06
    again = draw_distortion(image_key(5, 3, 7), (100, 120), sides, 1333, 0.5)
    assert again == drawn[3 * 60 + 7]
    assert not any(draw_distortion(image_key(5, i, 0), (100, 120), sides, 1333, 0.0).flip for i in range(50))
    assert len({image_key(5, 0, 0), image_key(5, 0, 0, 1), image_key(5, 1, 0), image_key(6, 0, 0)}) == 4
