"""Batches for detection: what is where in them."""

from __future__ import annotations

import numpy as np
import torch

from barlowctl.detect.loader import DetectionBatch, DetectionTarget


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
