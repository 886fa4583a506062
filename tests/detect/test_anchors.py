"""Anchors: where detectron2 has them, and not rounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from barlowctl.detect.anchors import Anchors
from tests.oracles import detection as oracle

SIZES, RATIOS = (32.0, 64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0)


def images(height: int, width: int, count: int = 1) -> ImageList:
    return ImageList(torch.zeros(count, 3, height, width), [(height, width)] * count)


def test_anchors_of_a_map_of_two_by_three_cells() -> None:
    generator = Anchors([SIZES], RATIOS, [16])
    assert generator.num_anchors_per_location() == [15]
    of_images = generator(images(32, 48, 2), [torch.zeros(2, 8, 2, 3)])
    assert len(of_images) == 2
    for anchors in of_images:
        assert anchors.shape == (90, 4)
        np.testing.assert_allclose(anchors.numpy(), oracle.anchors(2, 3, 16, SIZES, RATIOS), rtol=1e-6, atol=1e-4)


def test_sides_are_not_rounded_and_centres_are_multiples_of_the_stride() -> None:
    (anchors,) = Anchors([SIZES], RATIOS, [16])(images(32, 48), [torch.zeros(1, 8, 2, 3)])
    wide = anchors[0]  # of 32 pixels and height / width = 0.5
    assert (wide[2] - wide[0]).item() == pytest.approx(32 * 2**0.5, abs=1e-5)
    assert (wide[3] - wide[1]).item() == pytest.approx(32 / 2**0.5, abs=1e-5)
    last = anchors[-1]  # of cell (1, 2)
    assert ((last[:2] + last[2:]) / 2).tolist() == pytest.approx([32, 16], abs=1e-4)


def test_the_stride_is_not_that_of_the_padded_size() -> None:
    """810 pixels come to 51 cells; torchvision would space them by 810 // 51 = 15."""
    (anchors,) = Anchors([(32.0,)], (1.0,), [16])(images(810, 810), [torch.zeros(1, 8, 51, 51)])
    centres = (anchors[:, 0] + anchors[:, 2]) / 2
    assert centres[:3].tolist() == [0, 16, 32]


def test_maps_of_half_precision_have_anchors_of_float32() -> None:
    (anchors,) = Anchors([SIZES], RATIOS, [16])(images(32, 48), [torch.zeros(1, 8, 2, 3, dtype=torch.bfloat16)])
    assert anchors.dtype == torch.float32
    np.testing.assert_allclose(anchors.numpy(), oracle.anchors(2, 3, 16, SIZES, RATIOS), rtol=1e-6, atol=1e-4)


def test_each_level_has_its_sizes_and_its_stride() -> None:
    generator = Anchors([(32.0,), (64.0,)], RATIOS, [4, 8])
    (anchors,) = generator(images(8, 8), [torch.zeros(1, 8, 2, 2), torch.zeros(1, 8, 1, 1)])
    expected = np.concatenate([oracle.anchors(2, 2, 4, (32,), RATIOS), oracle.anchors(1, 1, 8, (64,), RATIOS)])
    np.testing.assert_allclose(anchors.numpy(), expected, rtol=1e-6, atol=1e-5)
