"""A small real data set (scikit-learn's digits) in a data home, and a recipe that trains on it in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.short_timings import short_timings as short_timings

RECIPE = """
name = "digits"
description = "scikit-learn's digits"
[data]
dataset = "digits"
channels = 1
holdout = 100
drop_last = true
[views]
size = 16
mean = [0.3]
std = [0.38]
[views.first]
crop_scale = [0.5, 1.0]
flip = 0.0
blur = 0.0
[views.second]
crop_scale = [0.5, 1.0]
flip = 0.0
blur = 0.0
[model]
backbone = "resnet10t"
backbone_args = { channels = [8, 16, 16, 32], stem_width = 8 }
projector = [64, 64]
[objective]
lambd = 0.02
[optimizer]
name = "adamw"
lr = 2e-3
lr_biases = 2e-3
[train]
epochs = 2
batch_size = 128
warmup_epochs = 0.5
log_every_steps = 2
[eval]
queries = "holdout"
bank = 500
resize = 16
crop = 16
"""


@pytest.fixture(autouse=True)
def few_images_for_lidar(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiDAR of every probe and cell is of 40 images here, and not of 1,000."""
    from barlowctl.assemble import label_free

    monkeypatch.setattr(label_free, "LIDAR_IMAGES", 40)
    monkeypatch.setattr(label_free, "LIDAR_VIEWS", 3)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home with `digits`: 1,400 training and 397 test images of 8 x 8 grey pixels, ten classes."""
    home = tmp_path_factory.mktemp("data-home")
    pack_digits(home / "digits", train=1400, test=397)
    return home


def pack_digits(folder: Path, train: int, test: int) -> None:
    """The first training and test images of `digits`, as a packed data set."""
    from sklearn.datasets import load_digits

    from barlowctl.data.beton.layout import RAW
    from barlowctl.data.beton.writer import BetonWriter

    loaded = load_digits()
    images = np.repeat((loaded.images * 15.9).astype(np.uint8)[..., None], 3, axis=3)
    folder.mkdir()
    for split, part in (("train", slice(0, train)), ("test", slice(1400, 1400 + test))):
        names = [str(digit) for digit in range(10)]
        path = folder / f"{split}.beton"
        with BetonWriter(path, capacity=len(images[part]), class_names=names) as writer:
            for image, label in zip(images[part], loaded.target[part], strict=True):
                writer.append(image.tobytes(), mode=RAW, width=8, height=8, label=int(label))
            writer.finish(channels=1)


@pytest.fixture
def recipe(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe file for `digits`, with that data home and a runs home of the test's own in place."""
    monkeypatch.setenv("BARLOWCTL_DATA", str(digits))
    monkeypatch.setenv("BARLOWCTL_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "digits.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """A finished run on `digits`."""
    from barlowctl.cli.app import run

    folder = tmp_path_factory.mktemp("trained")
    (folder / "digits.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BARLOWCTL_DATA", str(digits))
        arguments = ["--recipe", str(folder / "digits.toml"), "--out", str(folder / "run"), "--threads", "1", "--quiet"]
        assert run(["pretrain", *arguments]) == 0
    return folder / "run"


@pytest.fixture
def stopped(trained: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`runs/stopped`: stopped at step 10 of the 20 that `trained` has, whose two checkpoints are those of epochs."""
    monkeypatch.setenv("BARLOWCTL_RUNS", "runs")
    run = Path("runs/stopped")
    shutil.copytree(trained, run)
    (run / "result.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step-00000020")
    return run
