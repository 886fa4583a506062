"""RoIAlign as detectron2's: a linear ramp comes out as the bins' centres, which the unaligned one misses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from barlowctl.detect.roi_pool import AlignedRoIPool
from tests.oracles import detection as oracle

BOXES = torch.tensor([[40.0, 50.0, 160.0, 210.0], [33.0, 47.0, 57.0, 91.0]], dtype=torch.float64)


def ramp(rows: int, columns: int, stride: int) -> Tensor:
    """A map whose value at a cell is x + 1000 y of the cell's centre, in pixels."""
    y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) * stride for n in (rows, columns))
    return (x[None, :] + 1000 * y[:, None])[None, None]


def centres(box: Tensor, size: int) -> Tensor:
    left, top, right, bottom = box.tolist()
    steps = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    return (left + (right - left) * steps)[None, :] + 1000 * (top + (bottom - top) * steps)[:, None]


def test_a_linear_ramp_gives_the_bins_centres() -> None:
    pooled = AlignedRoIPool(14, {"res4": 16})({"res4": ramp(16, 16, 16)}, [BOXES], [(256, 256)])
    assert pooled.shape == (2, 1, 14, 14)
    for row, box in zip(pooled, BOXES, strict=True):
        torch.testing.assert_close(row[0], centres(box, 14), rtol=1e-9, atol=1e-6)


def test_torchvisions_default_misses_them_by_half_a_cell() -> None:
    pooled = MultiScaleRoIAlign(["a"], 14, 2)({"a": ramp(16, 16, 16)}, [BOXES[:1]], [(256, 256)])
    torch.testing.assert_close(pooled[0, 0] - centres(BOXES[0], 14), torch.full((14, 14), 8008.0).double())


def test_a_bin_has_as_many_samples_as_it_has_cells() -> None:
    values = torch.randn(1, 1, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([[20.0, 24.0, 140.0, 90.0]], dtype=torch.float64)  # bins of 7.5 x 4.1 cells
    pooled = AlignedRoIPool(4, {"a": 4})({"a": values}, [box], [(160, 160)])
    expected = oracle.roi_align(values[0, 0].numpy(), box[0].tolist(), 4, 4)
    np.testing.assert_allclose(pooled[0, 0].numpy(), expected, rtol=1e-10)


def test_rois_of_several_images_stay_in_order_with_their_images() -> None:
    maps = torch.stack([torch.full((1, 8, 8), float(number)) for number in range(3)])
    box = torch.tensor([[10.0, 10.0, 60.0, 60.0]])
    pooled = AlignedRoIPool(2, {"a": 16})({"a": maps}, [box, box[:0], torch.cat([box, box])], [(128, 128)] * 3)
    assert pooled[:, 0, 0, 0].tolist() == [0, 2, 2]


@pytest.mark.parametrize(("side", "level"), [(20, "2"), (111, "2"), (113, "3"), (224, "4"), (450, "5"), (900, "5")])
def test_with_a_pyramid_a_roi_comes_from_the_level_of_its_size(side: int, level: str) -> None:
    strides = {"2": 4, "3": 8, "4": 16, "5": 32}
    features = {
        name: torch.full((1, 1, 1024 // stride, 1024 // stride), float(name)) for name, stride in strides.items()
    }
    box = torch.tensor([[32.0, 32.0, 32.0 + side, 32.0 + side], [32.0, 32.0, 52.0, 52.0]])
    pooled = AlignedRoIPool(7, strides)({**features, "pool": torch.zeros(1)}, [box], [(1024, 1024)])
    assert pooled[:, 0, 3, 3].tolist() == [float(level), 2.0]
