"""The four windows of the last map, against means spelled out; which backbones have such a map."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from barlowctl.model import QuarterPooling, build_backbone, last_map_shape
from tests.oracles.voc import four_windows


@pytest.mark.parametrize(
    ("name", "arguments", "size"),
    [
        ("resnet10t", {"channels": [8, 8, 8, 16]}, 224),  # 7 x 7: windows of 6 x 6
        ("resnet10t", {"channels": [8, 8, 8, 16]}, 64),  # 2 x 2: windows of one
        ("swin_tiny_patch4_window7_224", {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "img_size": 56}, 56),
    ],
)
def test_windows_leave_out_one_row_and_one_column(name: str, arguments: dict[str, object], size: int) -> None:
    backbone = build_backbone(name, in_chans=3, zero_init_last=False, **arguments).eval()
    images = torch.rand(2, 3, size, size)
    shape = last_map_shape(backbone, size, in_chans=3)
    assert shape is not None
    with torch.no_grad():
        last = backbone.forward_features(images)
        pooled = QuarterPooling(backbone)(images)
    if name.startswith("swin"):  # channels last
        last = last.permute(0, 3, 1, 2)
    assert tuple(last.shape[1:]) == shape
    assert pooled.shape == (2, 4 * shape[0])
    for row, one in zip(pooled, last, strict=True):
        np.testing.assert_allclose(row.numpy(), four_windows(one.numpy()), rtol=1e-5, atol=1e-6)
    assert np.std(pooled.numpy()) > 1e-4


def test_where_there_is_no_map() -> None:
    tokens = build_backbone("vit_tiny_patch16_224", in_chans=3, img_size=32, depth=1)
    assert last_map_shape(tokens.eval(), 32, in_chans=3) is None
    assert last_map_shape(torch.nn.Flatten(), 32, in_chans=3) is None  # no timm model
