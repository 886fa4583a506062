"""The pages for kinds of users, line by line, as they are typed: only sizes are smaller, weights our own."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from barlowctl.cli import pretrain_ranks
from barlowctl.cli.app import run as barlowctl
from barlowctl.data.images.deep import Deep
from barlowctl.data.images.pixels import read_parts
from barlowctl.exports import ExportedModel, export
from barlowctl.model import Preprocessing, build_backbone
from tests.data.matlab_files import save
from tests.docs.newcomer import NARROW, SMALL, interrupt_the_next_run, pictures, sets

Captured = pytest.CaptureFixture[str]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
NAMED_WEIGHTS = "resnet50.a1_in1k"
PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "howto").glob("*.md"))
SIZES = sets(*SMALL, "data.holdout=0", "train.micro_batch=0", "train.precision=fp32")
OTHERS = sets(*NARROW, "model.image_size=0", "model.pooling=default", "model.drop_path=0")
ADDED = {
    "pretrain --resume": [],
    "pretrain --recipe adapt": [*SIZES, *sets("train.freeze_backbone_epochs=0")],
    "pretrain --recipe resnet50 --data my-images": [*SIZES, *sets("train.batch_size=64", *NARROW)],
    "pretrain": [*SIZES, *OTHERS],
    "pretrain --recipe xrays.toml --data cases --set data.holdout=500": [
        *SIZES,
        *OTHERS,
        *sets("data.holdout=4", "train.batch_size=4"),
    ],
    "data preview": sets("views.size=16"),
    "probe --data land-cover": sets("eval.resize=16", "eval.crop=16"),
    "probe --data pcam": sets("eval.resize=16", "eval.crop=16"),
    "probe --data galaxies": sets("eval.resize=16", "eval.crop=16"),
    "probe --data cells": sets("eval.resize=16", "eval.crop=16"),
    "probe --data cases": sets("eval.resize=16", "eval.crop=16"),
    "probe": sets("eval.resize=16", "eval.crop=16", "epochs=1", "batch_size=4"),
    "ablate": [*SIZES, *sets(*NARROW)],
    "transfer": [*sets("eval.resize=16", "eval.crop=16")],
}
"""The beginning of a line -> what makes it small; the longest that fits."""


def lines(page: Path, home: Path) -> Iterator[list[str]]:
    """The words of each line of the page's blocks, a continued line as one; a block of Python is run in between."""
    for number, part in enumerate(PYTHON.split(page.read_text(encoding="utf-8"))):
        if number % 2:
            exec(part.replace(NAMED_WEIGHTS, published(home)), {"__name__": "page"})
            continue
        for line in part.replace("\\\n", " ").splitlines():
            if line.startswith("    "):
                yield shlex.split(line, comments=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with what the pages' people have: photos, tiles of 13 bands, scans of 12 bits, and some with labels."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("BARLOWCTL_RUNS")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    pictures(home / "photos", 16, 1)
    for split, count in (("train", 32), ("val", 4)):
        for label, name in enumerate(("cat", "dog")):
            pictures(home / "images" / split / name, count, 1 + label)
            pictures(home / "labelled" / split.replace("val", "test") / name, 4 if split == "train" else 3, 1 + label)
    for name in ("robin", "wren"):
        pictures(home / "birds" / name, 5, 1)
        pictures(home / "sorted" / name, 3, 1)
    for number in range(9):
        shutil.copy(home / "photos" / "0.png", home / "sorted" / f"{number}.png")
    shutil.copy(home / "photos" / "0.png", home / "photos" / "1.png")
    random = np.random.default_rng(0)
    for name, shape, most in (("tiles", (20, 24, 13), 3000), ("xrays", (20, 24), 4095)):
        folders = {"tiles": "land-use", "xrays": "findings"}
        labelled = [home / folders[name] / split / label for split in ("train", "test") for label in ("a", "b")]
        for folder in (home / name, *labelled):
            folder.mkdir(parents=True)
            for index in range(16 if folder.name == name else 6):
                tile = random.integers(0, most, shape).astype(np.uint16)
                if name == "xrays":
                    Image.fromarray(tile).save(folder / f"{index}.png")
                else:
                    tifffile.imwrite(folder / f"{index}.tif", tile, photometric="minisblack", planarconfig="contig")
    Path("labelled").symlink_to(home / "labelled")
    shutil.copytree(home / "land-use" / "train" / "a", home / "labelled-tiles")
    for label in ("healthy", "ill"):
        (home / "cases" / label).mkdir(parents=True)
        for patient, file in enumerate(sorted((home / "findings" / "train" / "a").iterdir())):
            shutil.copy(file, home / "cases" / label / f"patient{patient}_1.png")
    rows = [f"{index}.tif,{'ab'[index % 2]}" for index in range(6)]
    (home / "labelled-tiles" / "labels.csv").write_text("\n".join(["file_name,label", *rows]))
    for number, well in itertools.product(range(32), ("A01", "A02")):  # 4 plates of 8 fields in each well
        folder = Path("plates", f"Plate{number % 4}", f"Well_{well}")
        folder.mkdir(parents=True, exist_ok=True)
        for channel, level in enumerate((3000, 300, 400, 200), 1):
            plane = random.normal(level, level / 8, (20, 24)).clip(0, 4095).astype(np.uint16)
            tifffile.imwrite(folder / f"Field{number // 4}_ch{channel}.tif", plane)
    science(random)
    Path("bands").mkdir()
    for band in range(1, 14):
        tifffile.imwrite(f"bands/T32_7_B{band:02}.tif", np.full((20, 24), 100 * band, np.uint16))
    torch.manual_seed(0)
    narrow = {"channels": [8, 8, 8, 8], "stem_width": 8}
    preprocessing = Preprocessing(resize=16, crop=16, interpolation="bicubic", mean=(0.4,) * 3, std=(0.2,) * 3)
    backbone = build_backbone("resnet10t", in_chans=3, stem="default", **narrow)
    exported = ExportedModel(
        backbone=backbone, architecture="resnet10t", timm_args=narrow, stem="default", preprocessing=preprocessing
    )
    export(exported, Path(published(home)), "timm")
    return home


def science(random: np.random.Generator) -> None:
    """PatchCamelyon's and Galaxy10's files, tiles of slides, cutouts of five bands with a table of labels."""
    import h5py
    from astropy.io import fits

    for name, count in (("train", 32), ("valid", 8), ("test", 8)):
        stem = f"pcam/camelyonpatch_level_2_split_{name}"
        Path("pcam").mkdir(exist_ok=True)
        for part, values in (
            ("x", random.integers(0, 256, (count, 24, 24, 3), np.uint8)),
            ("y", random.integers(0, 2, (count, 1, 1, 1), np.uint8)),
        ):
            with h5py.File(f"{stem}_{part}.h5", "w") as file:
                file[part] = values
    with h5py.File("Galaxy10_DECals.h5", "w") as file:
        file["images"], file["ans"] = random.integers(0, 256, (40, 24, 24, 3), np.uint8), np.arange(40) % 4
    Path("slides").mkdir()
    for patient in range(8):
        with h5py.File(f"slides/patient_{patient:03}_slide_1.h5", "w") as file:
            file["imgs"] = random.integers(0, 256, (4, 24, 24, 3), np.uint8)
            file["label"] = np.arange(4) % 2
    for place, count in (("train/benign", 6), ("train/malignant", 6), ("test/benign", 4), ("test/malignant", 4)):
        Path("scans", place).mkdir(parents=True)
        with h5py.File(f"scans/{place}/1.h5", "w") as file:
            file["imgs"] = random.integers(0, 256, (count, 24, 24, 3), np.uint8)
    with h5py.File("tumours.h5", "w") as file:
        for group in ("benign/slide_1", "benign/slide_2", "malignant/slide_3"):
            file[f"{group}/images"] = random.integers(0, 256, (10, 24, 24, 3), np.uint8)
    Path("figshare").mkdir()
    for number in range(20):
        image = random.integers(0, 4000, (24, 24)).astype(np.int16)
        save(Path(f"figshare/{number}.mat"), cjdata__image=image, cjdata__label=float(number % 2 + 1))
    save(Path("nyu_depth_v2_labeled.mat"), images=random.integers(0, 256, (24, 32, 3, 8), np.uint8))
    Path("cutouts").mkdir()
    rows = ["file_name,label"]
    for number in range(32):
        values = random.normal(0, 1, (5, 24, 24)).astype(np.float32) ** 3
        fits.writeto(f"cutouts/{number}.fits" + ".gz" * (number % 2), values)
        rows.append(f"{number}.fits,{'ab'[number % 4 // 2]}")
    Path("cutouts/labels.csv").write_text("\n".join(rows))


def published(home: Path) -> str:
    """Weights that would be downloaded: they lie beside the home."""
    return str(home.parent / "published.safetensors")


def typed(words: list[str], home: Path) -> list[str]:
    """What a reader puts in place of the placeholders."""
    return [published(home) if word == NAMED_WEIGHTS else word.replace("~", str(home), 1) for word in words]


def added(words: list[str]) -> list[str]:
    text = " ".join(words)
    return ADDED.get(max((key for key in ADDED if text.startswith(key)), key=len, default=""), [])


@pytest.mark.slow
@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_every_line_of_a_page(page: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(pretrain_ranks, "usable_cores", lambda: 2)  # where there is one, two processes share it
    count = 0
    output = ""
    for words in lines(page, home):
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            monkeypatch.setenv(name, value.replace("$HOME", str(home)))
            continue
        if words[0] == "torchrun":  # its ranks are those of tests/dist; here: what each of them is given
            words = [*words[words.index("-m") + 1 :], "--dry-run"]
        assert words[0] == "barlowctl"
        words = typed(words[1:], home)
        if ">" in words:
            words, file = words[: words.index(">")], words[-1]
        else:
            file = ""
        if stopped := words[-2:] == ["--out", "night"]:  # the next line resumes it
            interrupt_the_next_run()
        code = barlowctl([*words, *added(words), *sets(*["train.epochs=20"] * stopped)])
        out, err = capsys.readouterr()
        output += out
        assert code == (3 if stopped else 0), f"barlowctl {' '.join(words)}: {err}"
        if file:
            assert out.startswith("#!/bin/bash")
            assert f"barlowctl {words[0]}" in out
        count += 1
    assert count > 4
    made = {"photos": {"views.png", "map.html", "nearest.png", "my-model"}, "satellite": {"views.png", "land.html"}}
    made["microscopy"] = {"views.png", "cells.html", "cells.parquet", "my-cells"}
    made["notebook"] = {"fakes.parquet", "fakes.png"}
    made["hdf5-fits"] = {"pcam.png", "galaxies.parquet", "my-galaxies"}
    assert made.get(page.stem, set()) <= set(os.listdir())
    assert page.stem != "photos" or "1.0000 0.png 1.png" in output + capsys.readouterr().out


def test_bands_of_files_of_their_own_become_one_tile(home: Path) -> None:
    (block,) = PYTHON.findall((PAGES[0].parent / "satellite.md").read_text("utf-8"))
    exec(block, {})
    parts = read_parts(Path("tiles/T32_7.tif").read_bytes(), (1, 2, 3))
    assert isinstance(parts.values, Deep)
    assert np.unique(parts.values.values.reshape(-1, 3), axis=0).tolist() == [[400, 300, 200]]
