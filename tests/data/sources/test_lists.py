"""Lists of images as programs and editors write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from barlowctl.data.sources.path_list import PathList
from barlowctl.data.sources.picture import Source
from barlowctl.errors import UserError

FILES = ["im/a 0.png", "im/ü 1.png", "b2.png"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with FILES; the home is another one, with own.png."""
    for name in (*FILES, "home/own.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4), 9).save(tmp_path / name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def listed(place: Path, content: bytes | str, split: str = "train", name: str = "list.txt") -> PathList:
    path = place / name
    path.write_bytes(content if isinstance(content, bytes) else os.fsencode(content))
    return PathList(path, split)


def names(source: Source) -> list[str]:
    return [source.describe(i)[0] for i in range(len(source))]


def labels(source: Source) -> list[int]:
    return [source.describe(i)[1] for i in range(len(source))]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_encodings_and_line_ends(place: Path, encoding: str, ends: str) -> None:
    for last in ("", ends, ends * 2):
        source = listed(place, (ends.join(FILES) + last).encode(encoding))
        assert names(source) == FILES
        assert all(source[i].data for i in range(3))


def test_between_nuls_a_name_may_hold_anything(place: Path) -> None:
    odd = ["im/two\nlines.png", " im/ space.png", os.fsdecode(b"im/caf\xe9.png"), "im/#\"q'.png", "im/c:\\d.png"]
    for name in odd:
        if name.startswith(" "):
            (place / " im").mkdir()
        Image.new("L", (4, 4)).save(place / name)
    for mark in (b"", b"\xef\xbb\xbf"):
        source = listed(place, mark + b"\0".join(map(os.fsencode, [*FILES, *odd])) + b"\0")
        assert names(source) == [*FILES, *odd]
        assert all(source[i].data for i in range(len(source)))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('"im/a 0.png"', "im/a 0.png"),
        ("'im/a 0.png'  ", "im/a 0.png"),
        ("./im/a 0.png", "./im/a 0.png"),
        ("im\\a 0.png", "im/a 0.png"),
        (".\\im\\a 0.png", "./im/a 0.png"),
        ("im/u\u0308 1.png", "im/ü 1.png"),
        ("file:{place}/im/a%200.png", "{place}/im/a 0.png"),
        ("file://{place}/im/%C3%BC%201.png", "{place}/im/ü 1.png"),
        ("file://localhost{place}/b2.png", "{place}/b2.png"),
        ("{place}/b2.png", "{place}/b2.png"),
        ("~/own.png", "{place}/home/own.png"),
    ],
)
def test_ways_to_write_a_path(place: Path, line: str, name: str) -> None:
    source = listed(place, f"# a comment\n\n{line.format(place=place)}\nb2.png\n")
    assert names(source) == [name.format(place=place), "b2.png"]
    assert source[0].data.startswith(b"\x89PNG")


def test_what_powershell_writes_of_a_table(place: Path) -> None:
    lines = ["", "FullName", "--------", "im\\a 0.png ", "b2.png     ", "", ""]
    assert names(listed(place, "\r\n".join(lines).encode("utf-16"))) == ["im/a 0.png", "b2.png"]


def test_names_in_brackets_are_no_json(place: Path) -> None:
    Image.new("L", (4, 4)).save(place / "[2019] a.png")
    assert names(listed(place, "[2019] a.png\nb2.png\n")) == ["[2019] a.png", "b2.png"]


def test_a_file_that_looks_like_a_comment_is_a_file(place: Path) -> None:
    Image.new("L", (4, 4)).save(place / "#1.png")
    assert names(listed(place, "#1.png\n#2.png\nb2.png\n")) == ["#1.png", "b2.png"]


@pytest.mark.parametrize(
    ("text", "classes", "numbers"),
    [
        ("im/a 0.png\tdog\r\nb2.png\tcat\r\n", ["cat", "dog"], [1, 0]),
        ("im/a 0.png,dog\nb2.png,cat\n", ["cat", "dog"], [1, 0]),
        ("im/a 0.png;1\nb2.png;0\n", ["0", "1"], [1, 0]),
        ("im/a 0.png 3\nb2.png 0\n", ["0", "1", "2", "3"], [3, 0]),
        ("im/a 0.png dog\nb2.png big cat\n", ["big cat", "dog"], [1, 0]),
        ("file_name,label\nim/a 0.png,dog\nb2.png,\n", ["dog"], [0, -1]),
        ('label,path\n"dog, small","im/a 0.png"\ncat,b2.png\n', ["cat", "dog, small"], [1, 0]),
        ("image\tdiagnosis\nim/a 0.png\tm\nb2.png\tn\n", ["m", "n"], [0, 1]),
        ('{"file_name": "im/a 0.png", "label": true}\n{"file_name": "b2.png", "label": null}\n', ["true"], [0, -1]),
        ('["im/a 0.png", "b2.png"]', [], [-1, -1]),
        ('[{"path": "im/a 0.png", "class": 1},\n {"path": "b2.png", "class": 0}]', ["0", "1"], [1, 0]),
        ("im/a 0.png\nb2.png", [], [-1, -1]),
        ("filename\nim/a 0.png\nb2.png", [], [-1, -1]),
        ("image,species,split\nim/a 0.png,m,train\nb2.png,n,train\n", ["m", "n"], [0, 1]),
        ("im/a 0.png,1,2,dog\nb2.png,3,4,cat", ["cat", "dog"], [1, 0]),
        ("im/a 0.png,1,2,3\nb2.png,3,4,5", [], [-1, -1]),
    ],
)
def test_labels_in_a_list(place: Path, text: str, classes: list[str], numbers: list[int]) -> None:
    source = listed(place, text)
    assert names(source) == ["im/a 0.png", "b2.png"]
    assert source.class_names == classes
    assert labels(source) == numbers


def test_a_column_of_splits(place: Path) -> None:
    rows = ["path,class,Split", "im/a 0.png,dog,TRAIN", "im/ü 1.png,cat,train", "b2.png,dog,validation"]
    train, val = listed(place, "\n".join(rows)), listed(place, "\n".join(rows), "test")
    assert (names(train), labels(train)) == (FILES[:2], [1, 0])
    assert (names(val), labels(val), val.class_names) == (FILES[2:], [1], ["cat", "dog"])
    with pytest.raises(UserError, match="no unlabelled split"):
        listed(place, "\n".join(rows), "unlabelled")
    with pytest.raises(UserError, match="class 'emu', which the training set lacks"):
        listed(place, "\n".join([*rows, "b2.png,emu,val"]), "val")


def test_columns_that_are_not_used_are_said(place: Path) -> None:
    source = listed(place, "path,age,caption\nb2.png,3,a b\n")
    assert source.scan_report.notes == [
        "list.txt: columns 'age', 'caption' are not used, none of them is called label or class"
    ]
    regression = listed(place, "path,label\nb2.png,0.5\n")
    assert "targets of a regression" in regression.scan_report.notes[0]
    assert labels(regression) == [-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n \n", "list.txt lists no images"),
        ("# nothing\n", "only comments"),
        ("b2.png\tx\nim/a 0.png\n", "list.txt, line 2: 1 column where the first line has 2"),
        ("\n\nb2.png\nC:\\photos\\a.png\n", "line 4: 'C:.*' is a path of Windows"),
        ("b2.png\n\\\\server\\share\\a.png\n", "line 2: .* is a path of Windows"),
        ("b2.png\nhttps://x.org/a.png\n", "line 2: .* is an address"),
        ("s3://bucket/a.png\n", "line 1: .* is an address"),
        ("\nnowhere.png\nneither.png\n", "line 2: 'nowhere.png' is not there, nor is any other"),
        ('{"file_name": "b2.png"}\nno json\n', "line 2: no JSON"),
        ('{"caption": "x"}\n', "no paths of images in this JSON object"),
        ('{"caption": "x"}\n{"caption": "y"}\n', "no column of paths"),
        ("a\tb\tc\n", "3 columns and no names"),
        ("[]", "lists no images"),
        ("[" * 100_000, "line 1: no JSON"),
        ("a.png\0b.png\n".encode("utf-16"), "line 1: .* has a NUL in it"),
        (b"file://tmp/%C3\x98.png\n", "line 1: .* is not there"),
        ('"a\rb.png",1\n"c.png,2\n', "line 1: .* is not there"),
    ],
)
def test_lists_that_are_refused(place: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        listed(place, text)


def test_a_list_cut_short_in_utf_16(place: Path) -> None:
    with pytest.raises(UserError, match=r"list\.txt is no whole UTF-16-LE text"):
        listed(place, "b2.png".encode("utf-16")[:-1])


def test_paths_that_begin_elsewhere_say_where(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "lists").mkdir()
    monkeypatch.chdir(place)
    with pytest.raises(UserError, match=r"'b2\.png' is not there") as caught:
        listed(place / "lists", "b2.png\n")
    assert caught.value.next == f"move the list to {place}, where its paths begin"
    monkeypatch.chdir(place / "lists")
    (place.parent / "elsewhere").mkdir()
    with pytest.raises(UserError, match=r"'b2\.png' is not there") as caught:
        listed(place.parent, "b2.png\n")
    assert caught.value.next == f"move the list to {place}, where its paths begin"
