"""Tables and columns that a program has in hand: which rows are images, their labels and their splits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from barlowctl.api.packing import stand_in
from barlowctl.api.pictures import open_pictures
from barlowctl.api.recipes import open_recipe
from barlowctl.data.images.conversion import Choices
from barlowctl.data.sources import open_source
from barlowctl.data.sources.in_memory import InMemory
from barlowctl.data.sources.items import Items
from barlowctl.data.sources.tables import plain, records_of
from barlowctl.errors import UserError

GREY = np.random.default_rng(0).integers(0, 256, (4, 9, 7), np.uint8)


class Frame:
    """What is asked of a table of pandas, which is no package of the tests."""

    iloc = None

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns, self.columns = columns, list(columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, name: str) -> Series:
        return Series(self._columns[name])

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self._columns.values(), strict=True)]


class Series:
    """A column of pandas whose rows were shuffled: its numbers are not the positions."""

    def __init__(self, values: list[Any]) -> None:
        self._values, self.shape = values, (len(values),)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, number: int) -> Any:
        return self._values[-1 - number]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def to_list(self) -> list[Any]:
        return self._values


class Column:
    """A column as Hugging Face gives it: read item by item, and no array."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> Any:
        return self._values[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    for number, pixels in enumerate(GREY):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return [str(tmp_path / f"{number}.png") for number in range(4)]


def rows(items: Items) -> list[tuple[str, int]]:
    return [items.describe(index) for index in range(len(items))]


@pytest.mark.parametrize("of", [Frame, pa.table, lambda columns: pa.table(columns).to_pylist()])
def test_rows_of_a_table_are_paths_and_their_labels(of: Any, paths: list[str]) -> None:
    items = Items(of({"label": ["b", "a", "b", "a"], "path": paths}))
    assert rows(items) == list(zip(paths, [1, 0, 1, 0], strict=True))
    assert items.class_names == ["a", "b"]
    assert items.file(2) == Path(paths[2])


def test_columns_are_taken_as_those_of_a_list_in_a_file_are(paths: list[str]) -> None:
    """The only other column is the labels; what pandas has for nothing is no label; a path may be pathlib's."""
    items = Items(Frame({"fichier": [Path(path) for path in paths], "species": ["b", float("nan"), "a", "b"]}))
    assert rows(items) == list(zip(paths, [1, -1, 0, 1], strict=True))
    assert items.scan_report.notes == ["Frame: column 'species' is taken for the labels"]
    assert items.title == "Frame"


def test_a_column_of_splits_divides_a_table(paths: list[str]) -> None:
    table = Frame({"path": paths, "label": [1, 0, 0, 1], "split": ["train", "valid", "train", "valid"]})
    opened = InMemory(table)
    assert rows(opened.open("train")) == [(paths[0], 1), (paths[2], 0)]
    assert rows(opened.open("test")) == [(paths[1], 0), (paths[3], 1)]
    assert open_pictures(table, "val", Choices()).labels.tolist() == [0, 1]


def test_images_may_be_in_the_table_itself(paths: list[str]) -> None:
    encoded = [{"bytes": Path(path).read_bytes(), "path": None} for path in paths]
    for table in (pa.table({"image": encoded, "label": [3, 2, 1, 0]}), Frame({"x": encoded, "label": [3, 2, 1, 0]})):
        items = Items(table)
        assert [label for _, label in rows(items)] == [3, 2, 1, 0]
        assert items[1].data == Path(paths[1]).read_bytes()


def test_columns_are_lists_in_the_order_of_their_rows(paths: list[str]) -> None:
    """Arrays of texts, and columns whose rows have other numbers than their positions."""
    labels = ["b", "a", "b", "b"]
    for column in (np.array(paths), np.array(paths, dtype=object), Series(paths), pa.array(paths)):
        assert [name for name, _ in rows(Items(column))] == paths
        assert plain(column) == paths
    for column in (Series(labels), np.array(labels), pa.array(labels), Column(labels)):
        assert rows(Items((paths, column))) == list(zip(paths, [1, 0, 1, 1], strict=True))
    assert rows(Items((Column(paths), Column([7, 7, 7, 0]))))[3] == (paths[3], 0)
    assert [label for _, label in rows(Items((GREY, torch.tensor([1, 0, 1, 0]))))] == [1, 0, 1, 0]


def test_paths_in_an_array_are_trained_on_as_a_list_of_them_is(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    recipe = open_recipe("quickstart", {})
    assert stand_in(np.array(paths), recipe) == stand_in(paths, recipe)


def test_what_is_no_table_is_left_as_it_is() -> None:
    class Features:
        """Hugging Face's data set has columns and converts itself, and is read item by item."""

        column_names, features = ("image",), ("image",)

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return {"image": GREY[index]}

        def to_dict(self) -> Any:
            raise AssertionError("nothing is converted")

        to_list = to_dict

    dataset = Features()
    assert records_of(dataset) is None
    assert plain(dataset) is dataset
    assert np.array_equal(Items(dataset)[3].data, GREY[3])
    assert plain(GREY) is GREY


def test_the_image_of_a_dictionary_is_the_one_there_is() -> None:
    """Whatever it is called; rows of numbers are an array; a table of one row is that row."""
    forms = [
        {"scan": Image.fromarray(GREY[0]), "label": 2},
        {"scan": GREY[0], "label": 2},
        {"image": GREY[0].tolist(), "label": 2},
        pa.table({"image": [GREY[0].tolist()], "label": [2]}),
    ]
    items = Items(forms)
    assert all(np.array_equal(items[index].data, GREY[0]) for index in (1, 2, 3))
    assert [label for _, label in rows(items)] == [2] * 4
    with pytest.raises(UserError, match="its keys are left, right, and none is called image: several images") as no:
        Items([{"left": GREY[0], "right": GREY[1]}])
    assert "rename_column" in str(no.value)
    with pytest.raises(UserError, match="views of an image"):
        Items([{"image": [GREY[0], GREY[1]]}])


@pytest.mark.parametrize("beside", ["state.json", "dataset_dict.json"])
def test_a_folder_of_save_to_disk_is_answered_with_the_line_that_packs_it(tmp_path: Path, beside: str) -> None:
    saved = tmp_path / "saved"
    (saved / "train").mkdir(parents=True)
    (saved / beside).write_text("{}")
    with pa.OSFile(str(saved / "train" / "data-00000-of-00001.arrow"), "wb") as sink:
        table = pa.table({"label": [1, 2]})
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(UserError, match="no images under") as refused:
        open_source(saved)
    assert refused.value.next == f"in Python: barlowctl.pack(datasets.load_from_disk({str(saved)!r}), 'saved')"
    (saved / beside).unlink()
    with pytest.raises(UserError, match="no images under") as refused:
        open_source(saved)
    assert "load_from_disk" not in str(refused.value.next)


def test_archives_tables_and_lists_are_called_what_they_are(tmp_path: Path, paths: list[str]) -> None:
    """They are packed first; as images they were damaged ones."""
    listed, archive = tmp_path / "list.csv", tmp_path / "arrays.npz"
    listed.write_text("\n".join(paths))
    np.savez(archive, images=GREY)
    for file in (listed, archive):
        with pytest.raises(UserError, match=r"is no \.beton file") as refused:
            open_pictures(str(file), "train", Choices())
        assert str(refused.value.next) == f"barlowctl data pack {file} {file.stem}.beton"
    assert np.array_equal(open_pictures(paths[2], "train", Choices()).image(0)[..., 0], GREY[2])
