"""Tables of labels in the shapes that people type: read, or said by name why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.data.labels.text_table import read_table
from barlowctl.data.sources import open_source
from barlowctl.errors import UserError

NAMES = [f"i{number}.png" for number in range(6)]
CLASSES = ["cat", "dog"] * 3


def labelled(place: Path, name: str, text: str) -> tuple[list[str | None], list[str]]:
    """The class of each of six images with such a table beside them, and the notes on them."""
    for number, image in enumerate(NAMES):
        Image.fromarray(np.full((8, 8, 3), 9 * number, dtype=np.uint8)).save(place / image)
    (place / name).write_text(text)
    source = open_source(place)
    labels = {Path(name).name: label for name, label in map(source.describe, range(len(source)))}
    classes = [source.class_names[labels[image]] if labels[image] >= 0 else None for image in NAMES]
    return classes, list(source.scan_report.notes)


def rows(separator: str, *, swapped: bool = False, values: list[str] = CLASSES) -> str:
    """Lines of a path and a label."""
    pairs = [(image, value)[:: -1 if swapped else 1] for image, value in zip(NAMES, values, strict=True)]
    return "".join(f"{separator.join(pair)}\n" for pair in pairs)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "file_name|label\n" + rows("|")),
        ("labels.txt", rows("|")),
        ("labels.csv", "fichier;classe\n" + rows(";")),
        ("labels.tsv", "Datei\tKlasse\n" + rows("\t")),
        ("labels.csv", "classe,fichier\n" + rows(",", swapped=True)),
        ("labels.csv", "label,file_name\n" + rows(",", swapped=True)),
        ("labels.csv", rows(",", swapped=True)),
        ("labels.csv", rows(";", swapped=True)),
    ],
)
def test_tables_of_other_habits_are_read(tmp_path: Path, name: str, text: str) -> None:
    classes, _ = labelled(tmp_path, name, text)
    assert classes == CLASSES


def test_columns_of_names_that_are_not_known_are_named(tmp_path: Path) -> None:
    _, notes = labelled(tmp_path, "labels.csv", "fichier;classe\n" + rows(";"))
    assert "labels.csv: column 'fichier' is taken for the paths" in notes
    assert "labels.csv: column 'classe' is taken for the labels" in notes


def test_numbers_with_decimal_commas_are_targets_of_a_regression(tmp_path: Path) -> None:
    values = ["0,5", "1,5", "2", "3,25", "4", ",5"]
    classes, notes = labelled(tmp_path, "labels.csv", "file_name;label\n" + rows(";", values=values))
    assert classes == [None] * 6
    assert any("numbers with fractions (0.5), targets of a regression" in note for note in notes)


def test_words_with_commas_are_words(tmp_path: Path) -> None:
    values = ["cat, grey", "dog,1"] * 3
    classes, _ = labelled(tmp_path, "labels.csv", "file_name;label\n" + rows(";", values=values))
    assert classes == values


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists no images"),
        ("file_name,label\n", "lists no images below its column names"),
        ("file_name,label\n" + rows(",").replace("i3.png,dog", "i3.png,dog,x"), "line 5: 3 columns where"),
        ("file_name,label\n" + rows(",").replace("i3.png,dog", "i3.png"), "line 5: 1 column where"),
    ],
)
def test_a_table_that_cannot_be_read_is_said_with_the_reason(tmp_path: Path, text: str, says: str) -> None:
    classes, notes = labelled(tmp_path, "labels.csv", text)
    assert classes == [None] * 6
    [note] = [note for note in notes if note.startswith("labels.csv has no labels that can be read: ")]
    assert says in note
    assert str(tmp_path) not in note


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file_name label\n" + rows(" "), "labels.csv labels none of the images here ('file_name label'): not used"),
        ("file_name\n" + "\n".join(NAMES), "labels.csv has no column of labels beside that of images: not used"),
    ],
)
def test_a_table_of_labels_without_labels_is_not_passed_over_in_silence(tmp_path: Path, text: str, says: str) -> None:
    classes, notes = labelled(tmp_path, "labels.csv", text)
    assert classes == [None] * 6
    assert says in notes


def test_a_table_of_something_else_is_passed_over(tmp_path: Path) -> None:
    _, notes = labelled(tmp_path, "prices.csv", "fruit,price\napple,1,2\n")
    assert notes == []


def test_paths_with_commas_are_paths() -> None:
    names = ["Smith, Anna.png", "Smith, Paul.png", "Miller, Eve.png"]
    table = read_table(Path("list.txt"), "\n".join(names).encode())
    assert (table.paths, table.labels) == (names, None)


def test_a_list_with_a_short_line_is_refused() -> None:
    with pytest.raises(UserError, match="line 3: 1 column where the first line has 2"):
        read_table(Path("list.csv"), b"path,label\na.png,cat\nb.png\nc.png,dog\n")
