"""How folders and shards call splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from barlowctl.data.tree.splits import choose, is_filler, of_split, split_folders, split_in
from barlowctl.errors import UserError


@pytest.mark.parametrize(
    ("folders", "train", "held_out"),
    [
        (["train", "val"], "train", "val"),
        (["Training", "Testing"], "Training", "Testing"),
        (["TRAIN", "VAL"], "TRAIN", "VAL"),
        (["train", "dev"], "train", "dev"),
        (["trainset", "testset"], "trainset", "testset"),
        (["TrainSet", "EvalSet"], "TrainSet", "EvalSet"),
        (["train_images", "test_images"], "train_images", "test_images"),
        (["images-train", "images-validation"], "images-train", "images-validation"),
        (["train2017", "val2017"], "train2017", "val2017"),
        (["train", "test1"], "train", "test1"),
        (["seg_pred", "seg_test", "seg_train"], "seg_train", "seg_test"),
        (["ILSVRC2012_img_train", "ILSVRC2012_img_val"], "ILSVRC2012_img_train", "ILSVRC2012_img_val"),
        (["Train Data", "Valid Data"], "Train Data", "Valid Data"),
        (["tr", "te"], "tr", "te"),
        (["held_out", "train"], "train", "held_out"),
        (["trainval", "test"], "trainval", "test"),
        (["train", "train_images", "val"], "train", "val"),
        (["ground_truth", "test", "train"], "train", "test"),
        (["train", "unlabeled"], "train", None),
        (["training"], "training", None),
        (["test"], None, "test"),
    ],
)
def test_folders_that_are_splits(folders: list[str], train: str | None, held_out: str | None) -> None:
    splits = split_folders(folders)
    assert splits
    assert choose(splits, "train", "x") == train
    assert choose(splits, "val", "x") == held_out
    assert choose(splits, "test", "x") == held_out


@pytest.mark.parametrize(
    "folders",
    [
        ["bus", "car", "train"],
        ["bus", "test"],
        ["train_station", "test_tube"],
        ["training_shoes", "boots"],
        ["de", "fr", "tr"],
        ["strain", "contest"],
        ["cat", "dog"],
        ["invalid", "valid"],
        ["seg_train"],
        [],
    ],
)
def test_folders_that_are_classes(folders: list[str]) -> None:
    assert split_folders(folders) == {}


def test_val_and_test_apart() -> None:
    splits = split_folders(["test", "train", "validation", "unlabeled"])
    assert [choose(splits, split, "x") for split in ("train", "val", "test", "unlabelled")] == [
        "train",
        "validation",
        "test",
        "unlabeled",
    ]
    assert choose(split_folders(["train", "val"]), "unlabelled", "x") is None


@pytest.mark.parametrize("folders", [["Train", "train", "test"], ["train_1", "train_2", "test"]])
def test_two_folders_of_one_split_are_refused(folders: list[str]) -> None:
    splits = split_folders(folders)
    assert choose(splits, "test", "x") == "test"
    with pytest.raises(UserError, match=f"two folders of the train split: '{folders[0]}' and '{folders[1]}'"):
        choose(splits, "train", "x")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("Imagenet-VALIDATION-0.tar", "val"),
        ("cifar10_testing.parquet", "test"),
        ("devset_3.tar", "val"),
        ("0000.tar", None),
        ("train_test.tar", None),
    ],
)
def test_names_of_shards(name: str, split: str | None) -> None:
    assert split_in(name) == split


def test_shards_of_a_split() -> None:
    files = [Path(f"d/{name}.tar") for name in ("TRAIN-0", "TRAIN-1", "eval-0", "notes")]
    assert of_split(files, "train") == files[:2]
    assert of_split(files, "test") == of_split(files, "val") == [files[2]]
    with pytest.raises(UserError, match="d has no unlabelled split"):
        of_split(files, "unlabelled")
    assert of_split(files[3:], "val") == files[3:]


def test_folders_that_say_only_that_they_hold_images() -> None:
    assert [name for name in ("images", "JPEGImages", "Image Data", "cats", "img2", "") if is_filler(name)] == [
        "images",
        "JPEGImages",
        "Image Data",
        "img2",
    ]
