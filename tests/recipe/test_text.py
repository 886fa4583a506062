"""Recipe files in the encodings that editors write are read, and others named with file and line."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from barlowctl.cli import app
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.study.grid import read_grid

RECIPE = (
    'name = "mine"\ndescription = "été, 写真"\n[data]\ndataset = "photos"\n[train]\nepochs = 3\nwarmup_epochs = 1\n'
)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (b"", "utf-16-le"),
        (b"", "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
def test_a_recipe_of_any_editor_is_read(tmp_path: Path, mark: bytes, encoding: str, ends: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(mark + RECIPE.replace("\n", ends).encode(encoding))
    assert load.load(str(file)) == load.parse(RECIPE)
    assert app.run(["recipes", "show", str(file)]) == 0


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_another_encoding_is_refused_with_file_and_line(tmp_path: Path, mark: bytes) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(mark + RECIPE.replace(", 写真", "").encode("cp1252"))
    with pytest.raises(UserError) as caught:
        load.load(str(file))
    assert caught.value.message == f"'{file}', line 2: the byte 0xe9 is no UTF-8 text"
    assert caught.value.next == "save it as UTF-8"


def test_a_fault_has_its_line_whatever_the_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    for mark, ends in ((codecs.BOM_UTF8, "\r\n"), (b"", "\r")):
        file.write_bytes(mark + RECIPE.replace("epochs = 3", "epoch = 3").replace("\n", ends).encode())
        with pytest.raises(UserError, match="line 6"):
            load.load(str(file))


@pytest.mark.parametrize(
    "text", [b"", b"\0", b"\xff", b"a = " + b"[" * 5000, b"seed = " + b"9" * 5000, b"\xef\xbb", b"\xff\xfea", b"name"]
)
def test_no_file_is_an_internal_error(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(text)
    with pytest.raises(UserError) as caught:
        load.load(str(file))
    assert str(file) in caught.value.message
    with pytest.raises(UserError, match=r"mine\.toml"):
        read_grid(file)


def test_a_grid_is_read_alike(tmp_path: Path) -> None:
    file = tmp_path / "widths.toml"
    file.write_bytes(codecs.BOM_UTF16_LE + "[a]\ntrain.epochs = 2\n[b]\ntrain.epochs = 3\n".encode("utf-16-le"))
    assert [variant.name for variant in read_grid(file).variants] == ["a", "b"]


def test_an_override_that_toml_cannot_hold_is_refused() -> None:
    with pytest.raises(UserError, match="not text in UTF-8"):
        load.parse(RECIPE, ["data.dataset=caf\udce9"])
    assert load.parse(RECIPE, ["data.dataset=" + "[" * 5000]).data.dataset == "[" * 5000
