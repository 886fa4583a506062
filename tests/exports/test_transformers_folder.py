"""Format "transformers": what transformers' classes make of the folder, and what is written where it is missing."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image
from safetensors.torch import load_file

from barlowctl.errors import UserError
from barlowctl.exports import ExportedModel, export, read_export
from barlowctl.exports.formats import format_named
from barlowctl.exports.formats.model_card import card
from tests.exports.test_export import assert_same_features, exported, images, run_snippet

MODELS: dict[str, dict[str, Any]] = {
    "resnet": {"channels": [8, 8, 16, 16]},
    "grey resnet": {"channels": [8, 8, 16, 16], "in_chans": 1},
    "vit": {"name": "vit_tiny_patch16_224", "img_size": 32, "patch_size": 8, "depth": 2},
    "grey vit": {"name": "vit_tiny_patch16_224", "img_size": 32, "patch_size": 8, "depth": 2, "in_chans": 1},
    "vit, its mean": {
        "name": "vit_tiny_patch16_224", "img_size": 32, "patch_size": 8, "depth": 1, "global_pool": "avg"
    },
    "convnext": {"name": "convnext_atto", "depths": [1, 1, 1, 1]},
    "grey convnext": {"name": "convnext_atto", "depths": [1, 1, 1, 1], "in_chans": 1},
}  # fmt: skip
WHY = "transformers is not installed; the format's files are held by the tests without it"


def picture(channels: int) -> Image.Image:
    shape = (60, 80) if channels == 1 else (60, 80, 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def by_hand(model: ExportedModel) -> torch.Tensor:
    """The picture's features as its preprocessing is defined: shorter side to 36, the central 32, mean and std."""
    small = np.asarray(picture(model.preprocessing.channels).resize((48, 36), Image.Resampling.BICUBIC))
    pixels = torch.from_numpy(small[2:34, 8:40].reshape(32, 32, -1).astype(np.float32)).permute(2, 0, 1)
    with torch.no_grad():
        features: torch.Tensor = model.backbone.eval()(((pixels / 255 - 0.25) / 0.5)[None])
    return features


@pytest.mark.parametrize("case", MODELS)
def test_transformers_gives_the_runs_features(tmp_path: Path, case: str) -> None:
    transformers = pytest.importorskip("transformers", reason=WHY)
    model = exported(**MODELS[case])
    report = export(model, tmp_path / "folder", "transformers")
    folder = str(tmp_path / "folder")
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    loaded = transformers.AutoModel.from_pretrained(folder).eval()
    assert type(loaded).__name__ == "TimmWrapperModel"
    inputs, expected = processor(picture(model.preprocessing.channels)), by_hand(model)
    assert expected.std() > 1e-3
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).pooler_output, expected, atol=1e-4, rtol=1e-4)
    if model.preprocessing.channels == 3:
        extract = transformers.pipeline("image-feature-extraction", model=folder, device="cpu")
        features = torch.tensor(extract(picture(3), pool=True))
        torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)
    # timm loads the same folder, and so do we.
    assert_same_features(model, timm.create_model(f"local-dir:{folder}", pretrained=True))
    assert_same_features(model, read_export(tmp_path / "folder").backbone)
    classifier: Any = run_snippet(f"{report.python_line}\n{report.fine_tuning_line}")
    assert classifier(images(model)).logits.shape == (3, 10)
    key = next(key for key, _ in model.backbone.named_parameters())
    assert torch.equal(classifier.timm_model.get_parameter(key), model.backbone.get_parameter(key))


def test_the_pipeline_refuses_one_channel_as_the_note_says(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason=WHY)
    report = export(exported(**MODELS["grey resnet"]), tmp_path / "folder", "transformers")
    assert "cannot be used with 1 channel" in report.notes[-1]
    assert '.convert("L")' in report.python_line
    extract = transformers.pipeline("image-feature-extraction", model=str(tmp_path / "folder"), device="cpu")
    with pytest.raises(RuntimeError, match="to have 1 channels, but got 3"):
        extract(picture(1))


def test_a_reading_of_other_preprocessing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason=WHY)
    right = transformers.TimmWrapperImageProcessor.__init__

    def wrong(self: Any, *arguments: Any, **named: Any) -> None:
        right(self, *arguments, **named)
        self.data_config["crop_pct"] = 0.875

    monkeypatch.setattr(transformers.TimmWrapperImageProcessor, "__init__", wrong)
    with pytest.raises(UserError, match=r"transformers reads crop_pct = 0\.875 from config\.json"):
        export(exported(**MODELS["resnet"]), tmp_path / "folder", "transformers")
    assert list(tmp_path.iterdir()) == []


def test_a_squashed_picture_is_timms_squashed_picture(tmp_path: Path) -> None:
    """config.json says it in timm's words: its transform gives our pixels, and the folder is read back as it was."""
    model = exported(channels=[8, 8, 16, 16])
    model = replace(model, preprocessing=replace(model.preprocessing, resize=32, squash=True))
    export(model, tmp_path / "folder", "hub")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)
    pixels = timm.data.create_transform(**timm.data.resolve_model_data_config(loaded))(picture(3))
    whole = np.array(picture(3).resize((32, 32), Image.Resampling.BICUBIC))
    torch.testing.assert_close(pixels[None], model.input_of(torch.from_numpy(whole)[None]))
    assert read_export(tmp_path / "folder").preprocessing == model.preprocessing


@pytest.mark.parametrize("channels", [1, 3])
def test_the_folders_content_without_transformers(tmp_path: Path, channels: int) -> None:
    model = exported(channels=[8, 8, 16, 16], in_chans=channels)
    files = format_named("transformers").write(model, tmp_path / "folder")
    assert sorted(file.name for file in files) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((tmp_path / "folder" / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "timm_wrapper"
    assert (config["architecture"], config["architectures"]) == ("resnet18", ["TimmWrapperModel"])
    assert (config["num_classes"], config["num_features"], config["do_pooling"]) == (0, 16, True)
    assert config["model_args"] == {"in_chans": channels, "channels": [8, 8, 16, 16]}
    written = {
        "input_size": [channels, 32, 32], "interpolation": "bicubic", "crop_mode": "center",
        "mean": [0.25] * channels, "std": [0.5] * channels,
    }  # fmt: skip
    assert {key: config["pretrained_cfg"][key] for key in written} == written
    assert int(32 / config["pretrained_cfg"]["crop_pct"]) == 36
    weights = load_file(tmp_path / "folder" / "model.safetensors")
    assert weights.keys() == model.backbone.state_dict().keys()  # transformers puts `timm_model.` before them itself
    assert weights["conv1.weight"].shape == (64, channels, 7, 7)
    assert not any(key.startswith("fc.") for key in weights)


def test_what_it_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="timm for the network, which has no argument for the stem 'cifar'") as error:
        export(exported(stem="cifar"), tmp_path / "folder", "transformers")
    assert error.value.next == "--format hub"
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="the package transformers, which is not installed") as error:
        export(exported(), tmp_path / "folder", "transformers")
    assert error.value.next == "pip install 'barlowctl[transformers]'"
    assert list(tmp_path.iterdir()) == []


def test_more_channels_are_given_as_tensors(tmp_path: Path) -> None:
    model = exported(channels=[8, 8, 16, 16], in_chans=5)
    kind = format_named("transformers")
    assert "a torch tensor of (N, 5, H, W) in [0, 1]" in kind.notes(model)[0]
    assert "picture" not in kind.load_lines(model, tmp_path)
    transformers = pytest.importorskip("transformers", reason=WHY)
    export(model, tmp_path / "folder", "transformers")
    processor = transformers.AutoImageProcessor.from_pretrained(str(tmp_path / "folder"))
    pixels = processor(torch.full((2, 5, 36, 40), 0.5))["pixel_values"]
    torch.testing.assert_close(pixels, torch.full((2, 5, 32, 32), 0.5))  # (0.5 - 0.25) / 0.5


@pytest.mark.parametrize("stem", ["default", "cifar"])
def test_the_cards_lines_of_timm_work(tmp_path: Path, stem: str) -> None:
    model = replace(exported(stem=stem, channels=[8, 8, 16, 16]), provenance={"method": "barlow-twins", "run": "a"})
    export(model, tmp_path / "folder", "hub")
    text = (tmp_path / "folder" / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\nlibrary_name: timm\npipeline_tag: image-feature-extraction\ntags:\n- timm\n")
    assert "# resnet18, pre-trained with barlow-twins\n" in text
    assert "| run | `a` |" in text
    assert "shorter side 36 pixels (bicubic), the central 32 x 32" in text
    first, *rest = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(first.replace("FOLDER", str(tmp_path / "folder")), namespace)
    assert_same_features(model, namespace["model"])
    assert namespace["transform"](picture(3)).shape == (3, 32, 32)
    assert len(rest) == (stem == "default")
    assert ("transformers cannot load it: " in text) == (stem == "cifar")


def test_the_cards_lines_of_transformers_work(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason=WHY)
    model = exported(channels=[8, 8, 16, 16])
    export(model, tmp_path / "folder", "transformers")
    text = (tmp_path / "folder" / "README.md").read_text(encoding="utf-8")
    assert text == card(model, "transformers")
    assert text.startswith("---\nlibrary_name: transformers\n")
    namespace: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[1].replace("FOLDER", str(tmp_path / "folder")), namespace)
    picture(3).save(tmp_path / "picture.png")
    features = torch.tensor(namespace["features"](str(tmp_path / "picture.png"), pool=True))
    torch.testing.assert_close(features, by_hand(model), atol=1e-4, rtol=1e-4)
