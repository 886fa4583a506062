"""Exports that an earlier version wrote open, with the same network and the same preprocessing.

The files below `written_before` were made by version 0.1.0 at commit ac4e4bf, before preprocessing was a value of its
own; with the weights of seed 7 its features of a ramp were those of `FEATURES`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from barlowctl.errors import UserError
from barlowctl.exports import ExportedModel, export, read_export
from barlowctl.model import Preprocessing

FILES = Path(__file__).parent / "written_before"
FEATURES = (0.00744645, 0.04796935, 0.00283238, 0.06041735)
PREPROCESSING = Preprocessing(resize=41, crop=36, interpolation="bilinear", mean=(0.286,), std=(0.353,))


@pytest.mark.parametrize("name", ["backbone.safetensors", "hub"])
def test_it_opens(name: str) -> None:
    model = read_export(FILES / name)
    assert model.preprocessing == PREPROCESSING
    assert (model.architecture, model.stem) == ("resnet10t", "default")
    assert model.timm_args == {"channels": [4, 4, 4, 4], "stem_width": 4}
    ramp = torch.linspace(-1, 1, 36 * 36).reshape(1, 1, 36, 36)
    with torch.no_grad():
        assert model.backbone(ramp)[0].tolist() == pytest.approx(FEATURES, rel=1e-4)


def written(model: ExportedModel, path: Path, format: str) -> dict[str, object]:
    """What the export notes: the metadata of its weights, or its config.json."""
    export(model, path, format)
    if format == "hub":
        config: dict[str, object] = json.loads((path / "config.json").read_text())
        return config
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


@pytest.mark.parametrize(("name", "format"), [("backbone.safetensors", "timm"), ("hub", "hub")])
def test_what_is_noted_now_is_what_was_noted_then(tmp_path: Path, name: str, format: str) -> None:
    provenance = {"recipe": "tiny", "recipe_digest": "0123456789abcdef", "run": "tiny-1", "step": "12"}
    again = written(replace(read_export(FILES / name), provenance=provenance), tmp_path / name, format)
    if format == "hub":
        assert again == json.loads((FILES / name / "config.json").read_text())
        return
    with safe_open(FILES / name, "pt") as file:
        assert again == file.metadata()


@pytest.mark.parametrize(("name", "format"), [("backbone.safetensors", "timm"), ("hub", "hub")])
def test_how_files_become_pixels_is_noted_where_it_is_chosen(tmp_path: Path, name: str, format: str) -> None:
    """A network that was trained on `data.range` is measured with it from its export, too."""
    preprocessing = replace(PREPROCESSING, range="uint16=0:4095", background="none", bands=(4, 3, 2))
    export(replace(read_export(FILES / name), preprocessing=preprocessing), tmp_path / name, format)
    assert read_export(tmp_path / name).preprocessing == preprocessing


def test_pixels_of_more_bits_are_refused(tmp_path: Path) -> None:
    """A later version's export would be shown pixels of another scale."""
    shutil.copytree(FILES / "hub", tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    config["barlowctl"]["bits"] = 16
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="pixels of 16 bits"):
        read_export(tmp_path / "hub")


def test_channels_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    shutil.copytree(FILES / "hub", tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    config["model_args"]["in_chans"] = 3
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="and has mean and std of 1"):
        read_export(tmp_path / "hub")
