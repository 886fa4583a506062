"""Images of which some have no label: measured on those that have one, and said with counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.assemble.data import ImageSet
from barlowctl.assemble.labelled import check_labelled
from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.pack import pack
from barlowctl.data.beton.reader import Beton
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.sources import open_source
from barlowctl.errors import UserError
from tests.cli.conftest import RECIPE

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of eight and four images; beside the class folders two pictures in train/ and one in val/."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    names = [f"train/{c}/{i}.png" for c in "ab" for i in range(8)] + [
        f"val/{c}/{i}.png" for c in "ab" for i in range(4)
    ]
    for name in (*names, "train/0.png", "train/z.png", "val/0.png"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(tmp_path / "d" / name)
    return tmp_path / "d"


@pytest.mark.parametrize("packed", [True, False])
def test_those_without_a_label_are_left_out_and_counted(folder: Path, packed: bool) -> None:
    opened: dict[str, ImageSet] = {}
    for split in ("train", "val"):
        source = open_source(folder, split)
        opened[split] = Pictures(source)
        if packed:
            pack(source, folder.parent / f"{split}.beton")
            opened[split] = Beton.open(folder.parent / f"{split}.beton")
    labelled = check_labelled(opened["train"], opened["val"])
    assert labelled.notes == (
        "2 of 18 training images have no label and are left out",
        "1 of 9 test images have no label and are left out",
    )
    assert (labelled.train.num_samples, labelled.test.num_samples) == (16, 8)
    assert labelled.train.labels.tolist() == [0] * 8 + [1] * 8
    names = [labelled.train.name_of(index) for index in range(16)]
    assert names == [f"{c}/{i}.png" for c in "ab" for i in range(8)]
    for index in (0, 9, 15):
        with Image.open(folder / "train" / names[index]) as picture:
            np.testing.assert_array_equal(labelled.train.image(index), np.asarray(picture))
    assert opened["train"].num_samples == 18


def test_no_label_at_all_is_refused_with_what_became_of_them(folder: Path) -> None:
    (folder.parent / "x.csv").write_text("path,label\nd/train/0.png,0.5\nd/train/z.png,0.25\n")
    without = Pictures(open_source(folder.parent / "x.csv"))
    with pytest.raises(UserError, match=r"the train images in .* have no labels.*targets of a regression"):
        check_labelled(without, Pictures(open_source(folder, "val")))


def test_a_run_and_a_probe_use_those_with_a_label(folder: Path, capsys: Captured) -> None:
    Path("r.toml").write_text(RECIPE.replace('"holdout"', '"val"').replace("holdout = 100", "holdout = 0"))
    flags = ["--set", "train.batch_size=9", "--set", "train.epochs=1", "--threads", "1", "--json"]
    assert barlowctl(["pretrain", "--recipe", "r.toml", "--data", "./d", *flags]) == 0
    captured = capsys.readouterr()
    run = json.loads(captured.out)
    assert run["knn"] is not None
    assert "2 classes, on 16 of 18 images" in captured.err
    assert "online kNN: 2 of 18 images of the bank have no label and are left out" in captured.err
    assert "online kNN: 1 of 9 queries have no label and are left out" in captured.err
    assert barlowctl(["probe", run["run"], "--knn", "--threads", "1", "--json"]) == 0
    captured = capsys.readouterr()
    probed = json.loads(captured.out)
    assert (probed["data"]["train"]["images"], probed["data"]["test"]["images"]) == (16, 8)
    assert "2 of 18 training images have no label and are left out" in probed["data"]["notes"]
    assert "1 of 9 test images have no label and are left out" in captured.err
    assert probed["knn"]["top1"] == pytest.approx(run["knn"])  # the same bank and queries
