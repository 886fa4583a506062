"""Subsets of labels: how many of each class, and SimCLR's lists read as the authors' code reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.eval.subsets import balanced_draw, read_list, write_list

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
    with pytest.raises(UserError, match="more than one image"):
        read_list(tmp_path / "bare.txt", names)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("n01_1.JPEG\nn09_9.JPEG\n", "line 2: 'n09_9.JPEG'"),
        ("n01_1.JPEG\nn01_1.JPEG", "1 image twice"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=says.replace("[", r"\[")):
        read_list(tmp_path / "list.txt", NAMES)
    with pytest.raises(UserError, match="cannot be read"):
        read_list(tmp_path / "none.txt", NAMES)
