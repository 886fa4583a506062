"""Masks: polygons to targets, and the head's output to pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from barlowctl.detect.masks import mask_targets, paste, run_lengths
from tests.detect.detectors import rectangle
from tests.oracles import detection as oracle

coco = pytest.importorskip("pycocotools.mask")


def test_a_rectangle_that_is_half_of_its_box() -> None:
    (target,) = mask_targets([(rectangle(10, 20, 24, 48),)], torch.tensor([[10.0, 20, 38, 48]]), 14)
    assert target.dtype == torch.uint8
    assert target[:, :7].all()
    assert not target[:, 7:].any()


def test_a_polygon_beyond_the_box_is_cut_and_parts_are_joined() -> None:
    parts = (rectangle(-50, 0, 12, 99), rectangle(26, 20, 90, 34))
    (target,) = mask_targets([parts], torch.tensor([[10.0, 20, 38, 48]]), 14)
    expected = np.zeros((14, 14))
    expected[:, :1], expected[:7, 8:] = 1, 1
    np.testing.assert_array_equal(target.numpy(), expected)


def test_cells_whose_centre_lies_well_inside_are_in_and_those_well_outside_are_not() -> None:
    """pycocotools decides cells at the edge by a rule of its own; the others are those of the formula."""
    generator = np.random.default_rng(0)
    differing, cells = 0, 0
    for _ in range(30):
        angles = np.sort(generator.uniform(0, 2 * np.pi, 9))
        radii = generator.uniform(8, 30, 9)
        corners = np.stack([50 + radii * np.cos(angles), 40 + radii * np.sin(angles)], axis=1)
        box = np.concatenate([corners.min(axis=0) - generator.uniform(0, 5, 2), corners.max(axis=0)])
        (target,) = mask_targets([(corners,)], torch.from_numpy(box)[None], 28)
        expected = oracle.rasterized([corners], box.tolist(), 28)
        # Inside or outside together with all cells around them: not at the edge.
        padded = np.pad(expected, 1, mode="edge")
        around = np.stack([padded[i : i + 28, j : j + 28] for i in range(3) for j in range(3)])
        clear = (around == expected).all(axis=0)
        np.testing.assert_array_equal(target.numpy()[clear], expected[clear])
        differing += int((target.numpy() != expected).sum())
        cells += expected.size
    assert differing < 0.05 * cells


def test_an_object_that_is_thinner_than_its_grid_is_drawn_within_it() -> None:
    assert mask_targets([(rectangle(0, 0, 1, 1),)], torch.tensor([[5.0, 5.0, 5.0, 5.0]]), 14).shape == (1, 14, 14)


@pytest.mark.parametrize("box", [(3.2, 4.7, 17.9, 12.1), (-6.0, 2.0, 9.5, 30.0), (5.0, 5.0, 6.1, 5.4)])
def test_a_mask_is_stretched_over_its_box(box: tuple[float, float, float, float]) -> None:
    masks = torch.rand(1, 14, 14, generator=torch.Generator().manual_seed(3))
    (pasted,) = paste(masks, torch.tensor([box]), 20, 24).numpy()
    values = oracle.pasted(masks[0].double().numpy(), box, 20, 24)
    clear = np.abs(values - 0.5) > 1e-4
    np.testing.assert_array_equal(pasted[clear], (values >= 0.5)[clear])
    assert pasted.dtype == bool


def test_it_is_torchs_grid_sample_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(9, 14, 14, generator=generator)
    corner, sides = torch.rand(9, 2, generator=generator) * 40, torch.rand(9, 2, generator=generator) * 40 + 1
    boxes = torch.cat([corner, corner + sides], dim=1)
    whole = paste(masks, boxes, 60, 70)
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(70) + 0.5, indexing="ij")
    points = (torch.stack([x, y], dim=-1) - corner[:, None, None]) / sides[:, None, None] * 2 - 1
    values = torch.nn.functional.grid_sample(masks[:, None], points, align_corners=False)[:, 0]
    clear = (values - 0.5).abs() > 1e-4
    assert torch.equal(whole[clear], (values >= 0.5)[clear])
    monkeypatch.setattr("barlowctl.detect.masks.CHUNK_PIXELS", 60 * 70 * 2)
    assert torch.equal(paste(masks, boxes, 60, 70), whole)


def test_run_lengths_are_cocos() -> None:
    masks = torch.rand(2, 11, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    encoded = run_lengths(masks)
    assert encoded[0]["size"] == [11, 7]
    for lengths, mask in zip(encoded, masks, strict=True):
        np.testing.assert_array_equal(coco.decode(lengths), mask.numpy())
