"""Commands that give labelled images a test split."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.reader import Beton
from barlowctl.data.holding_out import of_packed, of_source
from barlowctl.data.home import resolve
from barlowctl.errors import UserError
from tests.data.sources.test_archives import jpeg, write_tar
from tests.data.sources.test_sources import picture


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Ten pictures of each of two classes."""
    for label in ("owl", "robin"):
        for number in range(10):
            picture(tmp_path / "birds" / label / f"{number}.png", value=20 * number + len(label), size=(20, 16))
    return tmp_path / "birds"


def pack(*arguments: object) -> None:
    assert barlowctl(["data", "pack", *map(str, arguments), "--quiet"]) == 0


def typed(line: str) -> None:
    words = shlex.split(line)
    assert words[:3] == ["barlowctl", "data", "pack"]
    assert barlowctl([*words[1:], "--quiet"]) == 0


def test_what_a_file_was_packed_from_is_packed_anew_with_a_fifth_held_out(birds: Path, home: Path) -> None:
    """The same pixels: what the file was packed with is repeated, and the advice of the new set's leads to the end."""
    pack(birds, "birds", "--class-folders", "outer", "--shorter-side", 12, "--background", "black")
    with pytest.raises(UserError, match="data set 'birds' has no test split") as error:
        resolve("birds", "test")
    assert error.value.next == (
        f"barlowctl data pack {birds} birds-2 --class-folders outer --background black --shorter-side 12 --hold-out 20"
    )
    typed(error.value.next)
    with pytest.raises(UserError, match="data set 'birds-2' has no test split") as error:
        resolve("birds-2", "test")
    assert error.value.next == (
        f"barlowctl data pack {birds} birds-2 --class-folders outer --hold-out 20 --background black "
        "--shorter-side 12 --split test"
    )
    typed(error.value.next)
    train, test = (Beton.open(resolve("birds-2", split)) for split in ("train", "test"))
    assert [np.bincount(split.labels).tolist() for split in (train, test)] == [[8, 8], [2, 2]]
    assert not {train.name_of(row) for row in range(16)} & {test.name_of(row) for row in range(4)}
    assert {*train.heights, *test.heights} == {12}


def test_a_test_split_that_the_source_has_is_packed_as_it_is(tmp_path: Path, home: Path) -> None:
    for split in ("train", "val"):
        for label in "ab":
            picture(tmp_path / "cut" / split / label / "1.png")
    pack(tmp_path / "cut", "cut")
    with pytest.raises(UserError) as error:
        resolve("cut", "test")
    assert error.value.next == f"barlowctl data pack {tmp_path / 'cut'} cut --split val"
    typed(error.value.next)
    assert resolve("cut", "test") == home / "cut" / "val.beton"


def test_of_shards_a_share_is_held_out_too(tmp_path: Path, home: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    members = dict[str, bytes]()
    for number in range(6):
        members |= {f"{number}.jpg": jpeg(40 * number), f"{number}.cls": b"%d" % (number % 2)}
    write_tar(shards / "s-0.tar", members)
    assert of_source(shards, home) == [f"barlowctl data pack {shards} shards --hold-out 20"]
    pack(shards, "mine")
    assert of_packed(home / "mine" / "train.beton", home) == [f"barlowctl data pack {shards} mine-2 --hold-out 20"]


def test_beside_a_packed_test_split_both_are_named(birds: Path, tmp_path: Path, home: Path) -> None:
    for split in ("train", "test"):
        pack(birds, tmp_path / "packed" / f"{split}.beton", "--hold-out", 20, "--split", split)
    assert of_packed(tmp_path / "packed" / "train.beton", home) == [f"--data {tmp_path / 'packed'}"]
    (tmp_path / "packed" / "test.beton").unlink()
    with pytest.raises(UserError, match="has no test split") as error:
        resolve(tmp_path / "packed", "test")
    target = tmp_path / "packed" / "test.beton"
    assert error.value.next == f"barlowctl data pack {birds} {target} --hold-out 20 --split test"


def test_nothing_is_held_out_of_what_has_no_label_is_gone_or_is_cut_already(tmp_path: Path, home: Path) -> None:
    picture(tmp_path / "pile" / "a.png")
    pack(tmp_path / "pile", "pile")
    assert of_source(tmp_path / "pile", home) == of_packed(home / "pile" / "train.beton", home) == []
    for name in ("train/a", "train/b", "test/a", "test/b"):
        picture(tmp_path / "cut" / name / "1.png")
    assert of_source(tmp_path / "cut", home) == []
    pack(tmp_path / "cut", "cut")
    (tmp_path / "cut").rename(tmp_path / "gone")
    assert of_packed(home / "cut" / "train.beton", home) == []
    with pytest.raises(UserError) as error:
        resolve("cut", "test")
    assert error.value.next == "bring its files, then: `barlowctl data pack FOLDER cut --split test`"
