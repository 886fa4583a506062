"""What is said of known data sets, against what torchvision and timm say of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torchvision.models import ResNet50_Weights
from torchvision.models.segmentation import FCN_ResNet50_Weights

from barlowctl.datasets import (
    BENCHMARKS,
    DATASETS,
    DETECTION,
    DOWNLOADABLE,
    IMAGENET,
    IMAGENET100,
    IMAGENETTE,
    TO_BE_PACKED,
    VOC07,
    training_images,
)
from barlowctl.eval.published import TRANSFER
from barlowctl.recipe import load
from barlowctl.recipe.catalog import shipped
from barlowctl.recipe.protocol import PROTOCOLS
from barlowctl.study.estimate import _sizes


def test_imagenet_is_what_its_libraries_say() -> None:
    weights = ResNet50_Weights.IMAGENET1K_V1
    preset = weights.transforms()
    assert len(weights.meta["categories"]) == IMAGENET.classes
    assert tuple(preset.mean) == IMAGENET.mean == IMAGENET_DEFAULT_MEAN
    assert tuple(preset.std) == IMAGENET.std == IMAGENET_DEFAULT_STD
    assert (preset.resize_size, preset.crop_size) == ([IMAGENET.resize], [IMAGENET.crop])
    assert set(IMAGENETTE.class_names) <= set(weights.meta["categories"])


def test_voc_has_its_twenty_classes_in_their_order() -> None:
    with_background = FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["categories"]
    assert tuple(with_background[1:]) == VOC07.class_names


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_agrees_with_itself(name: str) -> None:
    known = DATASETS[name]
    assert known.name == name
    assert len(known.class_names) in (0, known.classes)
    assert len(known.mean) == len(known.std)
    assert known.crop <= known.resize
    assert known.held_out < max(known.images.values())


# As the methods' authors have it: pixels in [0, 1] as they are (SimCLR's data_util.py), .228 for .229 (SwAV's
# multicropdataset.py).
PUBLISHED_OTHERWISE = {
    "resnet50-simclr": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "resnet50-swav": ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225)),
    "resnet50-swav-multicrop": ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225)),
}


@pytest.mark.parametrize("recipe", shipped())
def test_the_recipes_normalise_as_their_data_set_is_normalised(recipe: str) -> None:
    read = load.load(recipe)
    known = DATASETS[read.data.dataset]
    assert (read.views.mean, read.views.std) == PUBLISHED_OTHERWISE.get(recipe, (known.mean, known.std))
    if known.crop:
        assert (read.eval.resize, read.eval.crop) == (known.resize, known.crop)


def test_every_name_has_one_way_in_and_is_in_the_guide(checkout: Path) -> None:
    assert sorted((*DOWNLOADABLE, *TO_BE_PACKED, *BENCHMARKS, *DETECTION)) == sorted(DATASETS)
    guide = (checkout / "docs" / "guide.md").read_text(encoding="utf-8")
    line = re.search(r"`barlowctl data get (\S+)` \(also ([^)]*)\)", guide)
    assert line is not None
    assert (line[1], *line[2].split(", ")) == DOWNLOADABLE
    assert set(TRANSFER.columns) == set(BENCHMARKS)
    assert {"places205", "inat18"} == set(BENCHMARKS) & set(PROTOCOLS)


def test_sizes_for_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path))
    assert training_images("imagenet") == 1_281_167  # Table 1 of arXiv 1409.0575, row 2012
    assert training_images("voc07") is None  # its training split is called trainval
    assert training_images("my-photos") is None
    assert _sizes(load.load("resnet50"), None) == (None, 1_281_167, 50_000)
    assert IMAGENET100.held_out == 50 * IMAGENET100.classes
    assert IMAGENET.held_out == 50 * IMAGENET.classes
