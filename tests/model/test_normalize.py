"""Input normalisation against torchvision's, and its layout in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from barlowctl.model import InputNormalization

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels(channels: int = 3) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (2, 5, 7, channels), dtype=np.uint8))


def test_values_are_torchvisions() -> None:
    images = pixels()
    expected = torch.stack(
        [functional.normalize(functional.to_tensor(image.numpy()), list(MEAN), list(STD)) for image in images]
    )
    assert torch.allclose(InputNormalization(MEAN, STD)(images), expected, atol=1e-6, rtol=0)


def test_values_of_the_extremes_in_float64() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    result = InputNormalization((0.25,), (0.5,))(images).flatten().tolist()
    assert result == pytest.approx([(0 - 0.25) / 0.5, (1 - 0.25) / 0.5], abs=1e-6)


def test_the_result_is_channels_last_float32() -> None:
    result = InputNormalization(MEAN, STD)(pixels())
    assert result.shape == (2, 3, 5, 7)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_settings_are_not_weights() -> None:
    module = InputNormalization(MEAN, STD)
    assert list(module.state_dict()) == []
    assert module.to("meta").scale.device.type == "meta"


def test_wrong_inputs() -> None:
    module = InputNormalization(MEAN, STD)
    for images in (pixels().float(), pixels(1), pixels()[0], pixels().permute(0, 3, 1, 2)):
        with pytest.raises(ValueError, match="expected uint8 images"):
            module(images)
    with pytest.raises(ValueError, match="one of each per channel"):
        InputNormalization((0.5,), STD)
    with pytest.raises(ValueError, match="must be positive"):
        InputNormalization((0.5,), (0.0,))
