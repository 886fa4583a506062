"""The images of other libraries' rows: as many channels as the network has."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from barlowctl.bench import torch_loaders
from barlowctl.bench.loader_task import LoaderTask


@pytest.mark.parametrize("whose", ["authors", "lightly"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_have_the_channels_of_the_network(whose: str, channels: int, tmp_path: Path) -> None:
    """A grey one is luma, normalised by the first of ImageNet's numbers; torchvision's reader gives three channels."""
    if whose == "lightly":
        pytest.importorskip("lightly")
    (tmp_path / "class").mkdir()
    Image.new("RGB", (40, 40), (0, 0, 0)).save(tmp_path / "class/black.jpg")
    task = LoaderTask(tmp_path, tmp_path / "packed", 1, 1, 16, 0, channels)
    torch.manual_seed(0)
    views, _ = getattr(torch_loaders, f"{whose}_images")(task)[0]
    assert [view.shape for view in views] == [(channels, 16, 16)] * 2
    black = -torch.tensor(torch_loaders.MEAN) / torch.tensor(torch_loaders.STD)
    torch.testing.assert_close(views[0][:, 0, 0], black[:channels])
