"""Batches for detection: what is where in them, on any number of ranks and from any iteration on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from barlowctl.detect.batch import DetectionBatch, DetectionTarget
from barlowctl.detect.coco import open_coco
from barlowctl.detect.loader import DetectionLoader, undistorted_images
from barlowctl.errors import UserError
from tests.detect.conftest import Shapes


def a_batch(count: int) -> DetectionBatch:
    targets = [
        DetectionTarget(torch.full((1, 4), float(number)), torch.tensor([number]), None) for number in range(count)
    ]
    images = [torch.full((3, 5, 6), number, dtype=torch.uint8) for number in range(count)]
    return DetectionBatch(images, targets, torch.arange(count), torch.arange(count) + 10, (5, 6))


def test_parts_are_contiguous_and_none_is_empty() -> None:
    parts = a_batch(5).parts(3)
    assert [part.indices.tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert [part.keys.tolist() for part in parts] == [[10, 11], [12, 13], [14]]
    assert [[int(target.labels) for target in part.targets] for part in parts] == [[0, 1], [2, 3], [4]]
    assert [[int(image[0, 0, 0]) for image in part.images] for part in parts] == [[0, 1], [2, 3], [4]]
    assert {part.canvas for part in parts} == {(5, 6)}
    assert [len(part) for part in a_batch(2).parts(8)] == [1, 1]


def test_no_image_has_a_label_of_its_own() -> None:
    assert a_batch(3).labels.tolist() == [-1, -1, -1]


def test_a_batch_moves_its_images_boxes_and_labels_and_nothing_else() -> None:
    outline = ((np.array([[0, 0], [4, 0], [4, 3]], np.float32),),)
    target = DetectionTarget(torch.tensor([[0.0, 0, 4, 3]]), torch.tensor([1]), outline)
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
    assert moved.canvas == (5, 6)


SETTINGS: dict[str, Any] = {
    "batch_size": 4,
    "seed": 3,
    "interval": 5,
    "short_sides": (64, 72, 80),
    "longest": 120,
    "flip": 0.5,
}


def assert_same(first: DetectionBatch, second: DetectionBatch) -> None:
    assert first.indices.equal(second.indices)
    assert first.keys.equal(second.keys)
    assert first.canvas == second.canvas
    for image, other in zip(first.images, second.images, strict=True):
        assert image.equal(other)
    for target, other_target in zip(first.targets, second.targets, strict=True):
        assert target.boxes.equal(other_target.boxes)
        assert target.labels.equal(other_target.labels)
        for part, other_part in zip(sum(target.polygons, ()), sum(other_target.polygons, ()), strict=True):
            np.testing.assert_array_equal(part, other_part)


def test_a_batch_holds_what_its_images_have(shapes: Shapes) -> None:
    images = open_coco(shapes.coco, "train")
    with DetectionLoader(images, **SETTINGS) as loader:
        batches = [batch for epoch in range(3) for batch in loader.epoch(epoch)]
    assert (loader.batches_per_epoch, loader.samples_per_epoch) == (5, 20)
    assert len(batches) == 15
    flips, heights = [], set()
    for batch in batches:
        assert batch.canvas == tuple(max(image.shape[side] for image in batch.images) for side in (1, 2))
        assert batch.keys.min() >= 0
        for image, target, index in zip(batch.images, batch.targets, batch.indices.tolist(), strict=True):
            annotation = images.annotation(index)
            assert index in images.trainable
            height, width = image.shape[1:]
            heights.add(min(height, width))
            assert max(height, width) <= 120
            objects = ~annotation.crowd
            scale = np.array([width / images.size(index)[1], height / images.size(index)[0]] * 2)
            expected = annotation.boxes[objects] * scale
            mirrored = expected.copy()
            mirrored[:, [0, 2]] = width - expected[:, [2, 0]]
            is_flipped = not np.allclose(target.boxes, expected, atol=1e-3)
            flips.append(is_flipped)
            np.testing.assert_allclose(target.boxes, mirrored if is_flipped else expected, atol=1e-3)
            assert target.labels.tolist() == annotation.labels[objects].tolist()
    assert 0.2 < np.mean(flips) < 0.8
    assert {64, 72, 80} <= heights
    assert any(len({min(image.shape[1:]) for image in batch.images}) > 1 for batch in batches)  # drawn image by image


def test_ranks_share_what_one_rank_has(shapes: Shapes) -> None:
    images = open_coco(shapes.coco, "train")
    alone = list(DetectionLoader(images, **SETTINGS).epoch(1))
    for ranks in (2, 4):
        shares = [
            list(DetectionLoader(images, **SETTINGS, rank=rank, world_size=ranks).epoch(1)) for rank in range(ranks)
        ]
        assert DetectionLoader(images, **SETTINGS, rank=1, world_size=ranks).shares(0) == [
            len(share[0]) for share in shares
        ]
        for whole, *parts in zip(alone, *shares, strict=True):
            assert {part.canvas for part in parts} == {whole.canvas}
            joined = DetectionBatch(
                [image for part in parts for image in part.images],
                [target for part in parts for target in part.targets],
                torch.cat([part.indices for part in parts]),
                torch.cat([part.keys for part in parts]),
                whole.canvas,
            )
            assert_same(joined, whole)


def test_batches_are_the_same_from_any_iteration_on_and_with_threads(shapes: Shapes) -> None:
    images = open_coco(shapes.coco, "train")
    expected = [batch for epoch in range(3) for batch in DetectionLoader(images, **SETTINGS).epoch(epoch)]
    with DetectionLoader(images, **SETTINGS, workers=2) as loader:
        for number, batch in enumerate(loader.epoch(2, start_batch=1)):
            assert_same(batch, expected[11 + number])
        stopped = loader.epoch(1)
        assert_same(next(stopped), expected[5])
        stopped.close()
        assert_same(next(loader.epoch(0)), expected[0])
    loader.close()


def test_threads_work_with_the_gpu_of_who_starts_them(shapes: Shapes, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = list[int]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    with DetectionLoader(open_coco(shapes.coco, "train"), **SETTINGS, workers=1, pin_memory=True) as loader:
        next(loader.epoch(0))
    assert chosen == [3]


def test_an_image_that_is_twice_in_an_iteration_is_drawn_twice(shapes: Shapes) -> None:
    images = open_coco(shapes.coco, "train")
    batch = next(DetectionLoader(images, **{**SETTINGS, "batch_size": 32}).epoch(0))
    assert len(set(batch.indices.tolist())) < 32
    assert len(set(batch.keys.tolist())) == 32


@pytest.fixture
def damaged(shapes: Shapes, tmp_path: Path) -> Path:
    """The set with half of the images damaged."""
    folder = tmp_path / "coco"
    shutil.copytree(shapes.coco, folder)
    for number in range(0, 24, 2):
        (folder / "train2017" / f"train_{number:05d}.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_named_or_replaced(damaged: Path, workers: int) -> None:
    images = open_coco(damaged, "train")
    with pytest.raises(UserError, match=r"train_000\d\d\.jpg cannot be read"):
        list(DetectionLoader(images, **SETTINGS, workers=workers).epoch(0))
    loader = DetectionLoader(images, **SETTINGS, workers=workers, on_unreadable="replace")
    batches = list(loader.epoch(0))
    loader.close()
    planned = np.concatenate([loader.sampler.rows(iteration) for iteration in range(5)])
    indices = np.concatenate([batch.indices.numpy() for batch in batches])
    assert (indices % 2 == 1).all()
    assert (indices == planned).tolist() == (planned % 2 == 1).tolist()
    assert loader.unreadable == sorted({int(index) for index in planned if index % 2 == 0})
    assert loader.problems[loader.unreadable[0]].name == images.name(loader.unreadable[0])
    wide = {index: images.size(index)[1] > images.size(index)[0] for index in range(24)}
    assert [wide[int(index)] for index in indices] == [wide[int(index)] for index in planned]
    for batch in batches:
        assert batch.canvas is not None
        for image, target in zip(batch.images, batch.targets, strict=True):
            assert image.shape[1] <= batch.canvas[0]
            assert image.shape[2] <= batch.canvas[1]
            assert (target.boxes[:, 2] <= image.shape[2]).all()


def test_an_unknown_policy_is_refused(shapes: Shapes) -> None:
    images = open_coco(shapes.coco, "train")
    with pytest.raises(UserError, match="on_unreadable is 'skip'"):
        DetectionLoader(images, **SETTINGS, on_unreadable="skip")


@pytest.mark.parametrize("workers", [0, 2])
def test_images_to_test_on_are_in_order_and_undistorted(shapes: Shapes, workers: int) -> None:
    images = open_coco(shapes.coco, "test")
    positions = [9, 2, 3, 14, 15]
    undistorted = list(undistorted_images(images, positions=positions, short_side=80, longest=1333, workers=workers))
    assert [size for _, size in undistorted] == [images.size(index) for index in positions]
    for index, (image, (height, width)) in zip(positions, undistorted, strict=True):
        assert min(image.shape[1:]) == 80
        assert image.shape[2] == pytest.approx(image.shape[1] * width / height, abs=1)
        assert abs(float(image.float().mean()) - images.image(index).mean()) < 1


def test_a_square_image_is_not_wider_than_high() -> None:
    class Sizes:
        trainable = np.arange(3)

        def size(self, index: int) -> tuple[int, int]:
            return ((10, 20), (20, 10), (10, 10))[index]

    loader = DetectionLoader(Sizes(), **SETTINGS)  # type: ignore[arg-type]
    assert loader.sampler.wide.tolist() == [True, False, False]
