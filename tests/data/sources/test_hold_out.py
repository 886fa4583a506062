"""A test split of labelled images that have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from barlowctl.data.home import resolve
from barlowctl.data.sources import open_source
from barlowctl.data.sources.hold_out import held_out_of_each
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.errors import UserError
from tests.data.sources.test_sources import picture


def opened(path: Path, split: str, percent: int = 40) -> list[tuple[str, int]]:
    source = open_source(path, split, ReadOptions(hold_out=percent))
    assert source.split == split
    return [source.describe(row) for row in range(len(source))]


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Five robins, two owls, one stork, and one without a class."""
    for label, count in (("owl", 2), ("robin", 5), ("stork", 1)):
        for number in range(count):
            picture(tmp_path / "birds" / label / f"{number}.png")
    picture(tmp_path / "birds" / "unknown.png")
    return tmp_path / "birds"


def test_some_of_each_class_are_held_out_and_the_rest_is_left(birds: Path) -> None:
    train, test = opened(birds, "train"), opened(birds, "test")
    assert not set(train) & set(test)
    assert sorted(train + test) == sorted(opened(birds, "train", 1) + opened(birds, "test", 1))
    assert np.bincount([label for _, label in test]).tolist() == [1, 2]
    assert np.bincount([label for _, label in train if label >= 0]).tolist() == [1, 3, 1]
    assert -1 in [label for _, label in train]
    assert opened(birds, "test") == test
    assert open_source(birds, "test", ReadOptions(hold_out=40)).class_names == ["owl", "robin", "stork"]


@pytest.mark.parametrize(("percent", "of_two", "of_ten"), [(1, 1, 1), (20, 1, 2), (25, 1, 2), (99, 1, 9)])
def test_a_class_keeps_and_gives_one_image_at_least(percent: int, of_two: int, of_ten: int) -> None:
    labels = np.array([0] * 2 + [1] * 10 + [2] + [-1] * 30)
    held = held_out_of_each(labels, percent)
    assert np.bincount(labels[held]).tolist() == [of_two, of_ten]
    assert (np.diff(held) > 0).all()


def test_it_is_refused_where_it_makes_no_sense(birds: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="makes no unlabelled split"):
        opened(birds, "unlabelled")
    picture(tmp_path / "pile" / "a.png")
    with pytest.raises(UserError, match=r"no class of .*pile has two labelled images"):
        opened(tmp_path / "pile", "train")
    for split in ("train", "val"):
        for label in "ab":
            picture(tmp_path / "cut" / split / label / "1.png")
    with pytest.raises(UserError, match=r"has held-out images: val"):
        opened(tmp_path / "cut", "train")


def test_a_lacking_test_split_is_answered_with_it_where_there_are_labels(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    with pytest.raises(UserError) as error:
        resolve(birds, "test")
    assert error.value.next.splitlines()[0] == f"barlowctl data pack {birds} birds --hold-out 20"
    (tmp_path / "home" / "birds").mkdir(parents=True)
    picture(tmp_path / "half" / "train" / "a" / "1.png")
    picture(tmp_path / "half" / "train" / "b" / "1.png")
    with pytest.raises(UserError) as error:
        resolve(birds, "val")
    assert error.value.next.splitlines()[0] == f"barlowctl data pack {birds} birds-2 --hold-out 20"
    with pytest.raises(UserError, match="has no test split") as error:
        resolve(tmp_path / "half", "test")
    assert error.value.next.splitlines()[0] == f"barlowctl data pack {tmp_path / 'half'} half --hold-out 20"
    picture(tmp_path / "pile" / "a.png")
    with pytest.raises(UserError) as error:
        resolve(tmp_path / "pile", "test")
    assert "pack" not in error.value.next


def test_folders_beside_many_loose_images_are_held_out_of_once_they_are_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    pile = tmp_path / "pile"
    for name in (*(f"{number}.png" for number in range(9)), *(f"{label}/{n}.png" for label in "ab" for n in range(3))):
        picture(pile / name)
    with pytest.raises(UserError, match=r"no class of .* has two labelled images") as error:
        open_source(pile, "train", ReadOptions(hold_out=30))
    assert error.value.next == "--class-folders inner"
    with pytest.raises(UserError, match="has no test split") as error:
        resolve(pile, "test")
    command = f"barlowctl data pack {pile} pile --class-folders inner --hold-out 20"
    assert error.value.next.splitlines()[0] == command
    held = open_source(pile, "test", ReadOptions(hold_out=30, class_folders="inner"))
    assert [held.describe(row)[1] for row in range(len(held))] == [0, 1]
