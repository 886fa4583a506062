"""Shards by their names with braces, as WebDataset names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.home import resolve
from barlowctl.data.sources import expanded, open_source
from barlowctl.errors import UserError
from tests.data.sources.test_archives import jpeg, write_tar


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Four shards of two labelled images each, numbered from 0."""
    for number in range(4):
        members = {f"{number}{row}.jpg": jpeg(60 * number) for row in (0, 1)}
        write_tar(tmp_path / f"s-{number:04d}.tar", members | {f"{number}{row}.cls": b"%d" % row for row in (0, 1)})
    return tmp_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("s-{0000..0002}.tar", ["s-0000.tar", "s-0001.tar", "s-0002.tar"]),
        ("s-{8..11}.tar", ["s-8.tar", "s-9.tar", "s-10.tar", "s-11.tar"]),
        ("s-{08..11}.tar", ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]),
        ("{train,extra}-{0..1}.tar", ["train-0.tar", "train-1.tar", "extra-0.tar", "extra-1.tar"]),
        ("a-{0..1}.tar::b.tar", ["a-0.tar", "a-1.tar", "b.tar"]),
        ("s-{a,b{0..1}}.tar", ["s-a.tar", "s-b0.tar", "s-b1.tar"]),
        ("{id}.tar", []),
        ("s.tar", []),
    ],
)
def test_braces_are_expanded_as_a_shell_does(text: str, names: list[str]) -> None:
    assert expanded(Path(text)) == [Path(name) for name in names]


def test_a_file_that_is_called_so_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "{0..1}.tar").touch()
    assert expanded(tmp_path / "{0..1}.tar") == []


def test_the_shards_that_are_named_are_read(shards: Path) -> None:
    opened = open_source(shards / "s-{0001..0002}.tar")
    names = ["s-0001.tar/10.jpg", "s-0001.tar/11.jpg", "s-0002.tar/20.jpg", "s-0002.tar/21.jpg"]
    assert [opened.describe(row) for row in range(len(opened))] == list(zip(names, [0, 1, 0, 1], strict=True))
    assert opened.split == "train"
    assert len(open_source(shards / "s-{0000..0003}.tar", "test")) == 8
    with pytest.raises(UserError, match=r"names 3 files, and 1 of them are not there: .*s-0004\.tar"):
        open_source(shards / "s-{0002..0004}.tar")
    (shards / "s-0004.tar").write_text("a list\n")
    with pytest.raises(UserError, match="names files that are no shards: tar, text"):
        open_source(shards / "s-{0003..0004}.tar")


def test_they_are_packed_and_a_run_is_told_how(
    shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shards)
    with pytest.raises(UserError, match=r"is no \.beton file") as error:
        resolve("s-{0000..0002}.tar")
    assert error.value.next == "barlowctl data pack 's-{0000..0002}.tar' s.beton"
    assert barlowctl(["data", "pack", "s-{0000..0002}.tar", "./s.beton"]) == 0
    assert "6 images in tar shards" in capsys.readouterr().out
