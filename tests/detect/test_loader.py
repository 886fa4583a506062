"""Batches for detection: what is where in them."""

from __future__ import annotations

import numpy as np
import torch

from barlowctl.detect.loader import DetectionBatch, DetectionTarget


def a_batch(count: int) -> DetectionBatch:
    targets = [
        DetectionTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), None, number, (5, 6))
        for number in range(count)
    ]
    images = [torch.full((3, 5, 6), number, dtype=torch.uint8) for number in range(count)]
    return DetectionBatch(images, targets, torch.arange(count), torch.arange(count) + 10, (5, 6))


def test_parts_are_contiguous_and_none_is_empty() -> None:
    parts = a_batch(5).parts(3)
    assert [part.indices.tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert [part.keys.tolist() for part in parts] == [[10, 11], [12, 13], [14]]
    assert [[target.image_id for target in part.targets] for part in parts] == [[0, 1], [2, 3], [4]]
    assert [[int(image[0, 0, 0]) for image in part.images] for part in parts] == [[0, 1], [2, 3], [4]]
    assert {part.canvas for part in parts} == {(5, 6)}
    assert [len(part) for part in a_batch(2).parts(8)] == [1, 1]


def test_no_image_has_a_label_of_its_own() -> None:
    assert a_batch(3).labels.tolist() == [-1, -1, -1]


def test_a_batch_moves_its_images_boxes_and_labels_and_nothing_else() -> None:
    outline = ((np.array([[0, 0], [4, 0], [4, 3]], np.float32),),)
    target = DetectionTarget(torch.tensor([[0.0, 0, 4, 3]]), torch.tensor([1]), outline, 7, (10, 20))
    batch = DetectionBatch(
        [torch.zeros(3, 5, 6, dtype=torch.uint8)], [target], torch.tensor([3]), torch.tensor([9]), (5, 6)
    )
    moved = batch.to(torch.device("meta"))
    assert len(moved) == 1
    assert moved.images[0].device.type == moved.targets[0].boxes.device.type == "meta"
    assert moved.targets[0].labels.device.type == "meta"
    assert moved.indices.tolist() == [3]
    assert moved.keys.tolist() == [9]
    assert moved.targets[0].polygons is outline
    assert (moved.targets[0].image_id, moved.targets[0].original_size, moved.canvas) == (7, (10, 20), (5, 6))
