"""`barlowctl transfer` on small sets in the benchmarks' real layouts."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from barlowctl.assemble.model import preprocessing_of
from barlowctl.cli.app import run as barlowctl
from barlowctl.data.sources import benchmarks
from barlowctl.data.sources.benchmarks import open_inat18, open_places205, open_voc07
from barlowctl.datasets import PLACES205, VOC07
from barlowctl.eval import svm
from barlowctl.measure import transfer
from barlowctl.measure.transfer import open_task
from barlowctl.recipe.load import load
from tests.oracles import voc as oracle

Captured = pytest.CaptureFixture[str]
SMALL = ["--set", "eval.resize=32", "--set", "eval.crop=32", "--threads", "1", "--json"]


def picture(path: Path, shade: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    pixels = np.clip(random.normal(shade, 15, (18, 20, 3)), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Three scenes, of which one has two levels of folders, as published."""
    root, scenes = tmp_path / "places205", ("a/abbey", "a/airport_terminal", "b/bakery/shop")
    lists = root / "trainvalsplit_places205"
    lists.mkdir(parents=True)
    for split, count in (("train", 8), ("val", 3)):
        lines = []
        for number in range(count):
            for label, scene in enumerate(scenes):
                name = f"{scene}/gsun_{split}{number}.jpg"
                picture(root / "data/vision/torralba/deeplearning/images256" / name, 40 + 80 * label, number)
                lines.append(f"{name} {label}")
        (lists / f"{split}_places205.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def inat(tmp_path: Path) -> Path:
    """Three categories in the published JSON; their numbers have a gap."""
    root, categories = tmp_path / "inat18", (0, 3, 8141)
    identity = 0
    for split, count in (("train", 7), ("val", 2)):
        images, annotations = [], []
        for label, category in enumerate(categories):
            for number in range(count):
                identity += 1
                name = f"train_val2018/Aves/{category}/{split}{number}.jpg"
                picture(root / name, 40 + 80 * label, number)
                images.append({"id": identity, "file_name": name, "width": 20, "height": 18})
                annotations.append({"id": identity, "image_id": identity, "category_id": category})
        document = {
            "info": {},
            "images": images,
            "annotations": annotations[::-1],
            "categories": [{"id": one, "name": f"species {one}", "supercategory": "Aves"} for one in categories],
        }
        (root / f"{split}2018.json").write_text(json.dumps(document))
    return root


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Every image shows one of the 20 classes by its shade; some of the next class are difficult."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split, count, start in (("trainval", 80, 0), ("test", 40, 500)):
        marks: dict[str, list[str]] = {name: [] for name in VOC07.class_names}
        for index in range(count):
            image = f"{start + index:06d}"
            picture(root / "JPEGImages" / f"{image}.jpg", 10 + 12 * (index % 20), index)
            for label, name in enumerate(VOC07.class_names):
                mark = 1 if index % 20 == label else 0 if (index + 1) % 20 == label and index % 3 == 0 else -1
                marks[name].append(f"{image} {mark:2d}")
        for name, lines in marks.items():
            (root / "ImageSets" / "Main" / f"{name}_{split}.txt").write_text("\n".join(lines) + "\n")
    return root.parent


def measured(arguments: list[str], capsys: Captured, network: str = "test_resnet") -> dict[str, Any]:
    code = barlowctl(["transfer", network, *SMALL, *arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result: dict[str, Any] = json.loads(captured.out)
    return result


def test_places205_by_the_papers_protocol(recipe: Path, places: Path, capsys: Captured) -> None:
    source = open_places205(places, "train")
    assert source.class_names == ["abbey", "airport_terminal", "bakery/shop"]
    assert [source.describe(i)[1] for i in range(4)] == [0, 1, 2, 0]
    result = measured(["--task", "places205", "--data", str(places), "--set", "epochs=3"], capsys)
    assert result["metric"] == "top-1"
    assert result["published"]["Barlow Twins"] == 54.1
    assert "lr 0.01" in result["protocol"]
    assert "epochs [1, 2]" in result["protocol"]
    assert result["notes"][-1] == (
        "24 and 9 images to train and test on, where the benchmark has 2,448,873 and 20,500: the paper's numbers are "
        "of those"
    )
    assert result["data"]["train"]["images"] == 24
    assert json.loads(Path(result["file"]).read_text())["value"] == result["value"]


def test_images_that_are_missing_are_named_before_the_first_is_read(
    recipe: Path, places: Path, inat: Path, voc: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that are neither first, last nor in the middle: they came up hours later."""
    monkeypatch.setattr(benchmarks.ListedFiles, "__getitem__", None)
    for task, root, splits in (
        ("places205", places, [open_places205(places, split) for split in ("train", "val")]),
        ("inat18", inat, [open_inat18(inat, split) for split in ("train", "val")]),
        ("voc07", voc, [open_voc07(voc, split) for split in ("trainval", "test")]),
    ):
        for split in splits:
            split.file(1).unlink()
        names = "; ".join(f"{split.split}: {split.describe(1)[0]}" for split in splits)
        assert barlowctl(["transfer", "test_resnet", "--task", task, "--data", str(root), *SMALL]) == 2
        error = capsys.readouterr().err
        count = sum(map(len, splits))
        assert (
            f": 2 of the {count} images that the annotations of {splits[0].kind} list are not there ({names})" in error
        )
        assert f" --task {task} --data {root}" in error
        assert error.rstrip().endswith("--on-unreadable skip")


def test_images_that_are_missing_can_be_left_out(recipe: Path, places: Path, capsys: Captured) -> None:
    source = open_places205(places, "val")
    source.file(1).unlink()
    flags = ["--task", "places205", "--data", str(places), "--protocol", "fast", "--on-unreadable", "skip"]
    result = measured(flags, capsys)
    assert [problem["name"] for problem in result["unreadable"]] == [source.describe(1)[0]]


def test_each_folder_is_listed_once_for_what_is_missing(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, listed, list_folder = open_places205(places, "train"), [], os.listdir

    def note(folder: Any) -> list[str]:
        listed.append(str(folder))
        return list_folder(folder)

    monkeypatch.setattr(os, "listdir", note)
    assert source.missing() == []
    assert sorted(listed) == sorted({str(source.file(row).parent) for row in range(len(source))})


def test_lists_that_have_changed_places_are_refused(
    recipe: Path, places: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = places / "trainvalsplit_places205"
    (lists / "train_places205.csv").rename(lists / "other")
    (lists / "val_places205.csv").rename(lists / "train_places205.csv")
    (lists / "other").rename(lists / "val_places205.csv")
    result = measured(["--task", "places205", "--data", str(places), "--protocol", "fast"], capsys)
    assert (
        "the list of train images (9) is shorter than that of val images (24): have the lists changed places?"
        in (result["notes"])
    )
    published = replace(PLACES205, images={"train": 24, "val": 9})
    monkeypatch.setitem(transfer.DATASETS, "places205", published)
    assert barlowctl(["transfer", "test_resnet", "--task", "places205", "--data", str(places), *SMALL]) == 2
    assert (
        "the list of train images has 9, which are those of val, and that of val images 24" in capsys.readouterr().err
    )


@pytest.mark.parametrize("protocol", ["fast", "paper"])
def test_lidar_of_a_run_is_not_measured_unasked(
    recipe: Path, trained: Path, places: Path, capsys: Captured, protocol: str
) -> None:
    flags = ["--task", "places205", "--data", str(places), "--protocol", protocol]
    result = measured([*flags, *(["--set", "epochs=1"] if protocol == "paper" else [])], capsys, str(trained))
    assert not {"lidar", "feature_lidar"} & set(result["measured"])
    assert result["value"] >= 0


@pytest.mark.parametrize(("values", "pixel"), [((250, 250, 250, 0), 0), (500, 128)])
def test_images_of_benchmarks_are_converted_as_the_recipe_says(
    recipe: Path, places: Path, inat: Path, values: Any, pixel: int
) -> None:
    shown_as = preprocessing_of(load(recipe, ["data.background=black", "data.range=0:1000"]))
    subject = cast("Any", SimpleNamespace(preprocessing=shown_as))
    pixels = np.full((8, 8, 4), values, np.uint8) if isinstance(values, tuple) else np.full((8, 8), values, np.uint16)
    for task, files, root in (
        ("places205", open_places205(places, "val"), places),
        ("inat18", open_inat18(inat, "val"), inat),
    ):
        Image.fromarray(pixels).save(files.file(0), "PNG")
        assert (open_task(subject, task, str(root)).test.image(0) == pixel).all()


def test_inat18_reads_categories_by_number(recipe: Path, inat: Path, capsys: Captured) -> None:
    source = open_inat18(inat, "train")
    assert source.class_names == ["species 0", "species 3", "species 8141"]
    assert {source.describe(i) for i in range(21)} >= {("train_val2018/Aves/8141/train0.jpg", 2)}
    result = measured(["--task", "inat18", "--data", str(inat), "--protocol", "fast"], capsys)
    assert result["published"]["BYOL"] == 47.6
    assert result["data"]["classes"] == 3
    assert result["value"] > 60.0  # three shades


def test_voc07_scores_every_class(recipe: Path, voc: Path, capsys: Captured) -> None:
    source = open_voc07(voc.parent, "test")
    assert source.targets.shape == (40, 20)
    assert (source.targets == 1).sum() == 40
    assert source.targets[0].tolist()[:2] == [1, -1]  # image 000500: aeroplane; a difficult bicycle
    result = measured(["--task", "voc07", "--data", str(voc), "--cost", "1", "--cost", "100"], capsys)
    assert result["metric"] == "mAP (area under the curve)"
    assert result["value"] == result["map_area"] != result["map_11_points"]
    assert any(note.startswith("80 and 40 images to train and test on, where") for note in result["notes"])
    for key, classes in (("map_area", "per_class"), ("map_11_points", "per_class_11_points")):
        assert list(result[classes]) == list(VOC07.class_names)
        assert result[key] == pytest.approx(np.mean(list(result[classes].values())), abs=1e-3)
    assert result["value"] > 15.0  # chance is about 5 to 10
    assert set(result["costs"].values()) <= {1.0, 100.0}
    assert barlowctl(["transfer", "test_resnet", "--task", "voc07", "--data", str(voc), "--low-shot", *SMALL]) == 2
    refused = capsys.readouterr().err
    assert "aeroplane (4), bicycle (4)" in refused  # 96 are needed
    advice = refused.partition("next: barlowctl ")[2].split("\n")[0]
    assert advice.startswith(f"transfer test_resnet --task voc07 --data {voc}")
    assert "--low-shot" not in advice
    assert barlowctl(shlex.split(advice)) == 0


def test_the_benchmarks_own_numbers_of_images_need_no_note() -> None:
    whole = {"trainval": {"images": 5_011}, "test": {"images": 4_952}}
    assert transfer._of_other_images("voc07", whole) == []
    assert transfer._of_other_images("folder", {"train": {"images": 3}, "test": {"images": 2}}) == []
    assert len(transfer._of_other_images("voc07", {**whole, "test": {"images": 4_951}})) == 1


def test_voc07_says_what_it_is_at(recipe: Path, voc: Path, capsys: Captured) -> None:
    flags = ["--task", "voc07", "--data", str(voc), "--cost", "1", "--threads", "1"]
    assert barlowctl(["transfer", "test_resnet", *flags, *SMALL[:-1]]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("test_resnet: ")]
    classes = [f"SVM of {name}, {number} of 20" for number, name in enumerate(VOC07.class_names, start=1)]
    parts = ["features of 80 trainval images", "features of 40 test images", *classes]
    assert lines == [f"test_resnet: {part}" for part in parts]


def by_hand(voc: Path, size: int, pooling: str, cost: float) -> tuple[float, float]:
    """The benchmark's protocol in other words: Pillow, windows spelled out, scikit-learn, exact curves. Percent."""
    import timm
    from sklearn.svm import LinearSVC

    torch.manual_seed(0)  # as `transfer test_efficientnet`
    backbone = timm.create_model("test_efficientnet", num_classes=0).eval()
    mean, std = (np.array(backbone.pretrained_cfg[key], dtype=np.float32) for key in ("mean", "std"))
    features, targets = [], []
    for split in ("trainval", "test"):
        source, rows = open_voc07(voc, split), []
        for index in range(len(source)):
            pixels = oracle.squashed(source.path / source.describe(index)[0], size)
            image = torch.from_numpy((pixels / np.float32(255) - mean) / std).permute(2, 0, 1)[None]
            with torch.no_grad():
                last = backbone.forward_features(image)[0].numpy()
            rows.append(oracle.four_windows(last) if pooling == "2x2" else last.mean(axis=(1, 2)))
        matrix = np.stack(rows)
        features.append(matrix / np.linalg.norm(matrix, axis=1, keepdims=True))
        targets.append(source.targets)
    area, eleven = [], []
    for label in range(20):
        truth = np.where(targets[0][:, label] == 1, 1, -1)  # difficult: a negative
        machine = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, max_iter=2000, random_state=0).fit(features[0], truth)
        counted = targets[1][:, label] != -1  # difficult: left out
        scores = machine.decision_function(features[1])[counted].tolist()
        present = (targets[1][counted, label] == 1).tolist()
        area.append(oracle.area(scores, present))
        eleven.append(oracle.eleven_points(scores, present))
    return 100 * float(np.mean(area)), 100 * float(np.mean(eleven))


@pytest.mark.parametrize("pooling", ["2x2", pytest.param("average", marks=pytest.mark.slow)])
def test_voc07_is_the_benchmarks_protocol(recipe: Path, voc: Path, capsys: Captured, pooling: str) -> None:
    """Against an independent one; the pictures have odd shapes, so that a centre crop would show something else."""
    for split, start in (("trainval", 0), ("test", 500)):
        for index in range(len(open_voc07(voc, split))):
            path = voc / "VOC2007" / "JPEGImages" / f"{start + index:06d}.jpg"
            wide = np.clip(np.random.default_rng(start + index).normal(128, 10, (40, 110, 3)), 40, 215)
            edge = np.s_[:, :25] if index % 2 else np.s_[:, -25:]  # the class is seen only where a crop would cut
            shade = np.array([6 * (index % 20) - 60, 60 - 6 * (index % 20), 25 * (index % 5) - 50])
            wide[edge] += 0.4 * shade + np.random.default_rng(index).normal(0, 12, 3)
            Image.fromarray(wide.astype(np.uint8)).save(path, quality=98)
    flags = ["--task", "voc07", "--data", str(voc), "--cost", "10", "--pooling", pooling]
    overrides = ["--set", "eval.crop=96", "--set", "eval.resize=96"]
    result = measured([*flags, *overrides], capsys, network="test_efficientnet")  # to which images are shown bicubic
    area, eleven = by_hand(voc, 96, pooling, 10.0)
    assert result["map_area"] == pytest.approx(area, abs=0.3)
    assert result["map_11_points"] == pytest.approx(eleven, abs=0.3)
    assert abs(area - eleven) > 0.7  # so that one is not taken for the other
    assert result["pooling"] == pooling
    assert result["measured"]["features"] == (1024 if pooling == "2x2" else 256)
    assert "squashed to 96 x 96" in result["protocol"]
    assert ("2 x 2 windows" in result["protocol"]) == (pooling == "2x2")


def test_voc07_from_few_positives(recipe: Path, voc: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svm, "LOW_SHOTS", (1, 3))
    flags = ["--task", "voc07", "--data", str(voc), "--low-shot", "--cost", "1"]
    one, three = measured(flags, capsys)["low_shot"]
    assert (one["shots"], three["shots"]) == (1, 3)
    assert one["map_area"] == pytest.approx(np.mean(one["draws"]), abs=1e-3)
    assert one["map_area_sd"] == pytest.approx(np.std(one["draws"], ddof=1), abs=1e-3)
    assert one["map_area"] < three["map_area"]
    assert barlowctl(["transfer", "test_resnet", *SMALL[:-1], *flags]) == 0
    output = capsys.readouterr().out
    assert "test_resnet: SVMs from 1 positive of each class, 5 draws" in output
    assert "test_resnet: SVMs from 3 positives of each class, 5 draws" in output
    assert f"{three['map_area']:.2f} ± {three['map_area_sd']:.2f}" in output
    assert f"{three['map_11_points']:.2f} ± {three['map_11_points_sd']:.2f}" in output


def test_voc07_where_there_are_no_windows(recipe: Path, voc: Path, capsys: Captured) -> None:
    """At 32 pixels the last map is one point: its own pooling, said. Flags of other tasks are not ignored."""
    result = measured(["--task", "voc07", "--data", str(voc), "--cost", "1"], capsys)
    assert result["pooling"] == "average"
    assert "a last map of 1 x 1 at 32 pixels" in result["notes"][0]
    assert (
        barlowctl(["transfer", "test_resnet", "--task", "voc07", "--data", str(voc), "--cost", "1", *SMALL[:-1]]) == 0
    )
    assert "note: test_resnet has a last map of 1 x 1" in capsys.readouterr().out
    for flags in (["--task", "voc07", "--seeds", "3"], ["--task", "voc07", "--set", "epochs=2"], ["--pooling", "2x2"]):
        assert barlowctl(["transfer", "test_resnet", "--data", str(voc), *flags]) == 2
        assert f"{flags[-2] if flags[-1] != 'epochs=2' else '--set epochs=2'}" in capsys.readouterr().err
    assert barlowctl(["transfer", "test_resnet", "--task", "voc07", "--pooling", "3x3"]) == 2
    assert "allowed: 2x2, average" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "corrected"),
    [
        ([], "barlowctl transfer nowhere --set epochs=2 --protocol paper"),
        (
            ["--task", "places205", "--protocol", "fast"],
            "barlowctl transfer nowhere --task places205 --set epochs=2 --protocol paper",
        ),
    ],
)
def test_settings_that_the_fast_protocol_lacks_are_refused_first(
    flags: list[str], corrected: str, capsys: Captured
) -> None:
    """Before the network is opened, which is not there: with what takes them, and the command of it."""
    assert barlowctl(["transfer", "nowhere", *flags, "--set", "epochs=2"]) == 2
    error, allowed, advice = capsys.readouterr().err.splitlines()
    assert error.startswith("error: --set epochs=2 changes nothing: --protocol fast ")
    assert "inat18" in allowed
    assert advice == f"next: {corrected}"
    assert barlowctl(shlex.split(corrected)[1:]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_folder_of_ones_own(recipe: Path, places: Path, tmp_path: Path, capsys: Captured) -> None:
    for split, count in (("train", 9), ("test", 3)):
        for label, name in enumerate(("dark", "light")):
            for number in range(count):
                picture(tmp_path / "own" / split / name / f"{number}.png", 60 + 120 * label, number)
    result = measured(["--data", str(tmp_path / "own")], capsys)
    assert result["task"] == "folder"
    assert result["value"] == 100.0
    assert result["published"] == {}
    code = barlowctl(["transfer", "test_resnet", "--data", str(tmp_path / "own"), *SMALL[:-1]])
    assert code == 0
    assert "protocol: logistic regression" in capsys.readouterr().out


def test_all_that_was_measured_of_a_folder_is_shown(
    trained: Path, places: Path, tmp_path: Path, capsys: Captured
) -> None:
    """LiDAR and RankMe took their time, and were in the file alone."""
    for split, count in (("train", 9), ("test", 3)):
        for label, name in enumerate(("dark", "light")):
            for number in range(count):
                picture(tmp_path / "own" / split / name / f"{number}.png", 60 + 120 * label, number)
    command = [
        "transfer",
        str(trained),
        "--data",
        str(tmp_path / "own"),
        "--threads",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    assert barlowctl(command) == 0
    output = capsys.readouterr().out
    (file,) = (tmp_path / "out").glob("*.json")
    values = json.loads(file.read_text())["measured"]
    of_run = {"RankMe": "rankme", "LiDAR": "lidar", "LiDAR of the features": "feature_lidar"}
    assert "without labels: " + ", ".join(f"{label} {values[key]:.1f}" for label, key in of_run.items()) in output
    assert f"kNN top-1: {values['knn']['top1']:.2f}" in output
    assert f"effective rank {values['effective_rank']:.1f}" in output


def test_wrong_layouts(recipe: Path, places: Path, inat: Path, voc: Path, tmp_path: Path, capsys: Captured) -> None:
    def refused(task: str, path: Path) -> str:
        assert barlowctl(["transfer", "test_resnet", "--task", task, "--data", str(path), *SMALL]) == 2
        return capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    assert "has no train_places205.csv" in refused("places205", tmp_path / "empty")
    assert "has no train2018.json" in refused("inat18", tmp_path / "empty")
    assert "VOCtrainval_06-Nov-2007.tar" in refused("voc07", tmp_path / "empty")
    assert "is in the layout of iNaturalist 2018" in refused("places205", inat)
    assert "is in the layout of Places-205" in refused("inat18", places)
    assert "is in the layout of VOC 2007" in refused("places205", voc)
    assert "did you mean 'voc07'" in refused("voc7", voc)
    assert "no folder" in refused("voc07", tmp_path / "none")
    main = voc / "VOC2007" / "ImageSets" / "Main"
    (main / "cat_trainval.txt").write_text((main / "cat_trainval.txt").read_text().replace(" 1\n", "-1\n"))
    assert "too few trainval images show cat (0)" in refused("voc07", voc)
    for file in main.glob("*_test.txt"):
        file.unlink()
    assert "VOCtest_06-Nov-2007.tar" in refused("voc07", voc)
    lists = places / "trainvalsplit_places205"
    (lists / "val_places205.csv").unlink()
    assert "has no val_places205.csv" in refused("places205", places)
    (lists / "train_places205.csv").write_text("a/abbey/gsun_train0.jpg\n")
    assert "line 1: 'a/abbey/gsun_train0.jpg'" in refused("places205", places)
    (inat / "val2018.json").write_text('{"images": []}')
    assert "not an annotation file" in refused("inat18", inat)
