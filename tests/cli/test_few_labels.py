"""Few labels: classes of unequal size, of one image, without a test image, and lists that lack a class."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from barlowctl.recipe.protocol import PROTOCOLS, note_on_few_batches

Captured = pytest.CaptureFixture[str]
SMALL = ["--set", "eval.resize=16", "--set", "eval.crop=16", "--set", "epochs=1", "--threads", "1"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_images(train: dict[str, int], test: dict[str, int]) -> None:
    """`data/train` and `data/test` with so many images of each class."""
    generator = np.random.default_rng(0)
    for split, sizes in (("train", train), ("test", test)):
        for name, count in sizes.items():
            folder = Path("data", split, name)
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}_{split}{index}.png")


def probed(capsys: Captured, *words: str) -> tuple[dict[str, object], str]:
    """The result that was written, and what was printed."""
    assert barlowctl(["probe", "test_resnet", "--data", "./data", *SMALL, "--out", "out", *words]) == 0
    captured = capsys.readouterr()
    (file,) = Path("out").glob("*.json")
    return json.loads(file.read_text()), captured.out + captured.err


def test_classes_of_unequal_size(capsys: Captured) -> None:
    write_images({"n0": 60, "n1": 20, "n2": 1}, {"n0": 5, "n1": 3})
    result, printed = probed(capsys, "--semi", "10")
    names = Path("out/probe-data/semi-10-seed0.txt").read_text().split()
    assert Counter(name.partition("_")[0] for name in names) == {"n0": 6, "n1": 2, "n2": 1}
    measured = result["semi_10"]
    assert isinstance(measured, dict)
    rows = list(csv.DictReader(Path("out/probe-data/semi-10-per-class.csv").read_text().splitlines()))
    assert [int(row["images"]) for row in rows] == [5, 3, 0]
    assert measured["top1"] == pytest.approx(100 * sum(int(row["right"]) for row in rows) / 8)
    assert measured["per_class"][2] is None
    assert ("no better than naming the most frequent class for every image, 62.50" in printed) == (
        measured["top1"] <= 62.5
    )
    assert "10 % labels: 9 of 81 training images; whole network fine-tuned" in printed
    assert isinstance(notes := result["notes"], list)
    assert len(notes) == 2
    assert notes[0] == ("no test image of 1 of 3 classes: the accuracy is that of the others; there is none of 'n2'")
    assert notes[1].endswith("in 1 of 3 classes, of which one image each is drawn: 9 of 81 training images, 11.1 %")


def test_a_list_without_some_class(capsys: Captured) -> None:
    write_images({"n0": 4, "n1": 4, "n2": 4}, {"n0": 2, "n1": 2, "n2": 2})
    Path("list.txt").write_text("n0_train0.png\nn2_train1.png\n")
    result, printed = probed(capsys, "--semi", "1", "--semi-list", "list.txt")
    assert result["notes"] == [
        "the list 'list.txt' has no image of 1 of 3 classes, so that no test image of them can be right: 'n1'"
    ]
    assert result["semi_1"]["list"] == "list.txt"
    assert "2 labels of list.txt: 2 of 12 training images; " in printed
    assert "1 % labels" not in printed


def test_a_list_of_one_class_is_refused_before_anything_is_measured(capsys: Captured) -> None:
    write_images({"n0": 4, "n1": 4}, {"n0": 2, "n1": 2})
    Path("list.txt").write_text("n0_train0.png\n")
    words = ["probe", "test_resnet", "--data", "./data", *SMALL, "--semi", "1", "--semi-list", "list.txt", "--knn"]
    assert barlowctl(words) == 2
    error = capsys.readouterr().err
    assert "the list 'list.txt' has images of one class, 1 image" in error
    assert "features of" not in error


def test_a_test_class_that_was_not_trained_on(capsys: Captured) -> None:
    write_images({"n0": 4, "n1": 4}, {"n0": 2, "n1": 2, "n2": 2})
    assert barlowctl(["probe", "test_resnet", "--data", "./data", "--semi", "10", *SMALL]) == 2
    error = capsys.readouterr().err
    assert "'n2', which the training set lacks" in error
    assert "next: put images of this class into the training set too, or remove its folder" in error


def test_the_end_of_a_key_of_the_recipe_is_answered_with_the_key(capsys: Captured) -> None:
    write_images({"n0": 4, "n1": 4}, {"n0": 2, "n1": 2})
    assert barlowctl(["probe", "test_resnet", "--data", "./data", "--semi", "10", "--set", "resize=32"]) == 2
    error = capsys.readouterr().err
    assert "unknown protocol value 'resize', did you mean 'eval.resize'?" in error
    assert "--set eval.resize=32" in error


@pytest.mark.slow
def test_an_epoch_of_few_batches_is_noted_with_what_changes_it(capsys: Captured) -> None:
    """Of a batch size and a number of epochs that nobody set."""
    write_images({"a": 110, "b": 110}, {"a": 2, "b": 2})
    probe = ["probe", "test_resnet", "--data", "./data", *SMALL[:4], "--threads", "1", "--semi", "10"]
    printed = []
    for words in ([], ["--set", "batch_size=2", "--set", "epochs=1"]):
        assert barlowctl([*probe, *words, "--out", f"out{len(words)}"]) == 0
        captured = capsys.readouterr()
        printed.append(" ".join((captured.out + captured.err).split()))
    assert (
        "semi-10: an epoch of 22 training images is 1 batch of at most 22, and the whole training 20 steps; for more: "
        "--set epochs=200, or --set batch_size=2 (the rates stay as they are)"
    ) in printed[0]
    assert "an epoch of" not in printed[1]


@pytest.mark.parametrize(
    ("name", "images", "expected"),
    [
        ("semi-10", 2_560, None),  # ten batches
        ("semi-10", 2_304, "9 batches of at most 256, and the whole training 180 steps; for more: --set epochs=23, "),
        ("semi-10", 257, "1 batch of at most 256, "),  # the last image is dropped
        ("linear", 257, "2 batches of at most 256, and the whole training 200 steps; for more: --set epochs=500, "),
        ("finetune-modern", 40, "for more: --set epochs=1000, or --set batch_size=4 "),
        ("semi-1", 2, None),  # no smaller batch
        ("semi-1", 1, None),  # which is refused
    ],
)
def test_few_batches(name: str, images: int, expected: str | None) -> None:
    note = note_on_few_batches(PROTOCOLS[name], images)
    assert (expected is None and note is None) or (note is not None and expected is not None and expected in note)
