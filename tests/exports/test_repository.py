"""Repositories that were pushed, loaded back from a stand-in of the Hub by the very lines of Python of their cards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from barlowctl.exports import ExportedModel
from barlowctl.exports.hub import upload
from barlowctl.exports.repository import FILES, loading, write_repository
from tests.exports.hub_stand_in import OLD_SPELLING, Hub, hub_stand_in, use
from tests.exports.test_export import exported

pytestmark = [OLD_SPELLING, pytest.mark.filterwarnings("ignore:.*unauthenticated requests")]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_stand_in() as hub:
        use(hub, monkeypatch, tmp_path / "cache")
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        yield hub


def save_picture(channels: int) -> None:
    """picture.jpg of the lines; a PNG by its content, so that every library decodes the same pixels."""
    shape = (60, 80) if channels == 1 else (60, 80, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save("picture.jpg", format="PNG")


def by_hand(model: ExportedModel) -> torch.Tensor:
    """The features of picture.jpg: shorter side to 36, the central 32, mean and std."""
    small = np.asarray(Image.open("picture.jpg").resize((48, 36), Image.Resampling.BICUBIC))
    pixels = torch.from_numpy(small[2:34, 8:40].reshape(32, 32, -1).astype(np.float32)).permute(2, 0, 1)
    with torch.no_grad():
        features: torch.Tensor = model.backbone.eval()(((pixels / 255 - 0.25) / 0.5)[None])
    return features


def pushed(model: ExportedModel, folder: Path, *, beside: bool = True, **options: Any) -> dict[str, str]:
    """Library -> the lines of its section, of a repository that was filled."""
    write_repository(model, folder, folder, beside=beside, **options)
    sections = loading(model, "me/mine", folder, pixels_inside=options.get("with_preprocessing", False))
    assert {path.name for path in folder.iterdir()} <= set(FILES)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    upload(folder, "me/mine")
    blocks = {library: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for library, text in sections}
    return {library: of_it[0] for library, of_it in blocks.items() if of_it}


def result_of(lines: str, name: str = "features") -> Any:
    namespace: dict[str, Any] = {}
    with torch.no_grad():
        exec(lines, namespace)
    return namespace[name]


def assert_alike(features: Any, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    assert expected.std() > 1e-3
    actual = torch.as_tensor(np.asarray(features)).to(expected.dtype)
    torch.testing.assert_close(actual, expected, atol=tolerance * float(expected.abs().max()), rtol=0)


def test_each_librarys_lines_give_the_features(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barlowctl.exports.formats.onnx_file.PACKAGES", ("a_package_that_nobody_has",))
    model = exported()
    lines = pushed(model, tmp_path / "repository")
    assert lines.keys() == {"timm", "transformers", "torchvision", "The weights alone", "barlowctl"}
    save_picture(3)
    expected = by_hand(model)
    assert_alike(result_of(lines["timm"]), expected)
    assert_alike(result_of(lines["torchvision"]), expected)
    assert_alike(result_of(lines["barlowctl"]), expected, 0.02)  # resized in one step from 8-bit pixels, then rounded
    weights = result_of(lines["The weights alone"], "weights")
    assert all(torch.equal(weights[key], value) for key, value in model.backbone.state_dict().items())


def test_transformers_lines_give_the_features(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed; the files are held by other tests")
    model = exported(channels=[8, 8, 16, 16])
    lines = pushed(model, tmp_path / "repository", beside=False)
    save_picture(3)
    features = result_of(lines["transformers"])("picture.jpg", pool=True)
    assert_alike(features, by_hand(model))


@pytest.mark.parametrize(("channels", "pixels_inside"), [(1, True), (3, False)])
@pytest.mark.slow
def test_lines_without_torch_give_the_features(hub: Hub, tmp_path: Path, channels: int, pixels_inside: bool) -> None:
    model = exported(in_chans=channels, channels=[8, 8, 16, 16])
    lines = pushed(model, tmp_path / "repository", with_preprocessing=pixels_inside)
    save_picture(channels)
    assert "torchvision" not in lines
    assert "import torch" not in lines["ONNX Runtime, without torch"]
    assert_alike(result_of(lines["ONNX Runtime, without torch"]), by_hand(model))


def test_a_stem_that_timm_does_not_know_is_taught_by_the_repository(hub: Hub, tmp_path: Path) -> None:
    model = exported(stem="cifar", in_chans=1, channels=[8, 8, 16, 16])
    lines = pushed(model, tmp_path / "repository", beside=False)
    assert "transformers" not in lines
    save_picture(1)
    assert_alike(result_of(lines["timm"]), by_hand(model))


def test_more_channels_are_given_as_tensors(hub: Hub, tmp_path: Path) -> None:
    model = exported(in_chans=5, channels=[8, 8, 16, 16])
    lines = pushed(model, tmp_path / "repository", beside=False)
    assert lines.keys() == {"timm", "transformers", "The weights alone"}
    images = torch.rand(2, 5, 32, 32)
    features = result_of(f"import torch\nimages = torch.load({str(saved(images, tmp_path))!r})\n{lines['timm']}")
    with torch.no_grad():
        assert_alike(features, model.backbone.eval()(images))


def saved(images: torch.Tensor, folder: Path) -> Path:
    torch.save(images, folder / "images.pt")
    return folder / "images.pt"
