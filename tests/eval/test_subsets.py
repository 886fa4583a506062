"""Subsets of labels: how many of each class, and SimCLR's lists read as the authors' code reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.eval.subsets import balanced_draw, note_on_draw, read_list, write_list

NAMES = ["n01/n01_1.JPEG", "n01/n01_2.JPEG", "n02/n02_1.JPEG", "n02/n02_7.JPEG"]


def test_the_draw_is_balanced_seeded_and_never_empty() -> None:
    labels = torch.tensor([0] * 200 + [1] * 100 + [2] * 3)[torch.randperm(303)]
    drawn = balanced_draw(labels, 10, seed=0)
    assert labels[drawn].bincount().tolist() == [20, 10, 1]
    assert (drawn.diff() > 0).all()
    assert torch.equal(drawn, balanced_draw(labels, 10, seed=0))
    assert not torch.equal(drawn, balanced_draw(labels, 10, seed=1))
    assert len(balanced_draw(labels, 100, seed=3)) == 303
    with pytest.raises(UserError, match="0 percent"):
        balanced_draw(labels, 0, seed=0)


@pytest.mark.parametrize(
    ("sizes", "percent", "says"),
    [
        (
            [200, 20, 2],
            1,
            "no image in 2 of 3 classes, of which one image each is drawn: 4 of 222 training images, 1.8 %",
        ),
        ([8, 8, 8], 10, None),
        ([8, 8, 8], 1, "in 3 of 3 classes, of which one image each is drawn: 3 of 24 training images, 12.5 %"),
        ([100, 100], 1, None),
    ],
)
def test_classes_too_small_for_the_percentage_are_said(sizes: list[int], percent: float, says: str | None) -> None:
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    note = note_on_draw(labels, percent)
    assert (note is None) if says is None else (note is not None and note.endswith(says))
    drawn = balanced_draw(labels, percent, seed=0)
    assert note is None or f" {len(drawn)} of {len(labels)} " in note
    smallest = labels[drawn].bincount(minlength=len(sizes)).tolist()
    assert smallest == [max(1, int(percent * size / 100 + 0.5)) for size in sizes]


def test_a_list_that_was_saved_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfn01_2.JPEG\r\nn02_7.JPEG\r\n")
    assert read_list(tmp_path / "list.txt", NAMES).tolist() == [1, 3]


def test_a_list_in_simclrs_format(tmp_path: Path) -> None:
    path = tmp_path / "1percent.txt"
    path.write_text("n02_7.JPEG\nn01_1.JPEG\n")
    assert read_list(path, NAMES).tolist() == [0, 3]
    write_list(tmp_path / "own.txt", [NAMES[1], NAMES[2]])
    assert (tmp_path / "own.txt").read_text() == "n01_2.JPEG\nn02_1.JPEG\n"
    assert read_list(tmp_path / "own.txt", NAMES).tolist() == [1, 2]


def test_other_names_stay_paths_and_read_back(tmp_path: Path) -> None:
    names = ["cats/1.png", "dogs/1.png", "train[3]"]
    write_list(tmp_path / "own.txt", names)
    assert read_list(tmp_path / "own.txt", names).tolist() == [0, 1, 2]
    (tmp_path / "bare.txt").write_text("1.png\n")
    with pytest.raises(UserError, match="more than one image") as refused:
        read_list(tmp_path / "bare.txt", names)
    assert refused.value.allowed == "'cats/1.png', 'dogs/1.png'"
    assert refused.value.next == "write names with their folders into the list"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("n01_1.JPEG\nn09_9.JPEG\n", "line 2: 'n09_9.JPEG'"),
        ("n01_1.JPEG\nn01_1.JPEG", "1 image more than once: 'n01/n01_1.JPEG'"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=says.replace("[", r"\[")):
        read_list(tmp_path / "list.txt", NAMES)
    with pytest.raises(UserError, match="cannot be read"):
        read_list(tmp_path / "none.txt", NAMES)
