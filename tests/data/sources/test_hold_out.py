"""A test split of labelled images that have none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from barlowctl.data.home import resolve
from barlowctl.data.sources import open_source
from barlowctl.data.sources.hold_out import are_positions, group_of_each, held_out_groups, held_out_of_each
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
    notes = open_source(birds, "train", ReadOptions(hold_out=40)).scan_report.notes
    assert "held out: nothing of 1 class with a single image" in notes


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


def shares(labels: np.ndarray, groups: list[str], percent: int) -> tuple[list[int], list[int]]:
    """Images and groups of each class that are held out; no group is on both sides by how it is chosen."""
    held = held_out_groups(labels, groups, percent)
    rows = [row for row, group in enumerate(groups) if group in held and labels[row] >= 0]
    counts = np.bincount(labels[rows], minlength=labels.max() + 1).tolist()
    of_class = [len({groups[row] for row in rows if labels[row] == label}) for label in range(labels.max() + 1)]
    return counts, of_class


@pytest.mark.parametrize("percent", [5, 20, 50])
def test_groups_are_held_out_as_a_whole_and_near_the_share(percent: int) -> None:
    """300 patients with 1 to 8 pictures of two classes of four."""
    rng = np.random.default_rng(0)
    labels, groups = [], []
    for patient in range(300):
        of_patient = rng.choice(4, 2, replace=False, p=[0.4, 0.3, 0.2, 0.1])
        for _ in range(rng.integers(1, 9)):
            labels.append(int(rng.choice(of_patient)))
            groups.append(f"p{patient}")
    counts, _ = shares(np.array(labels), groups, percent)
    goal = np.bincount(labels) * percent / 100
    assert np.abs(np.array(counts) - goal).max() <= max(4, 0.1 * goal.max())
    shuffled = rng.permutation(len(groups))
    again = held_out_groups(np.array(labels)[shuffled], [groups[row] for row in shuffled], percent)
    assert again == held_out_groups(np.array(labels), groups, percent)


def test_each_class_of_two_groups_gives_one_and_has_one_left() -> None:
    labels = np.array([0] * 50 + [0] * 60 + [1] * 3 + [2, 2] + [-1] * 5)
    groups = ["a"] * 50 + ["b"] * 60 + ["c"] * 3 + ["d", "e"] + ["a"] * 5
    counts, of_class = shares(labels, groups, 20)
    assert of_class == [1, 0, 1]
    assert counts == [50, 0, 1]  # the smaller of the two, though both are more than a fifth


def test_a_patient_is_on_one_side(tmp_path: Path) -> None:
    for label in ("healthy", "ill"):
        for patient in range(6):
            for number in range(3):
                picture(tmp_path / "scans" / label / f"patient{patient}_{number}.png")
    picture(tmp_path / "scans" / "patient0_9.png")
    picture(tmp_path / "scans" / "patient9_9.png")
    options = ReadOptions(hold_out=34, groups=r"(patient\d+)_")
    sides = [open_source(tmp_path / "scans", split, options) for split in ("train", "test")]
    patients = [{Path(side.describe(row)[0]).name[:8] for row in range(len(side))} for side in sides]
    assert not patients[0] & patients[1]
    assert [len(side) for side in sides] == [24 + 2 - ("patient0" in patients[1]), 12]
    note = "held out: 2 of 7 groups, 33% of the labelled images"
    assert any(line.startswith(note) for line in sides[1].scan_report.notes)


def test_unlabelled_images_of_held_out_groups_are_in_neither_split(tmp_path: Path) -> None:
    for patient in range(2):
        picture(tmp_path / "scans" / "ill" / f"p{patient}.png")
        picture(tmp_path / "scans" / f"p{patient}_more.png")
    options = ReadOptions(hold_out=50, groups=r"p\d", class_folders="inner")
    sides = [open_source(tmp_path / "scans", split, options) for split in ("train", "test")]
    assert [len(side) for side in sides] == [2, 1]
    assert any(
        "1 image of these groups without a label in neither split" in line for line in sides[0].scan_report.notes
    )


def test_groups_that_cannot_be_made_are_refused(birds: Path) -> None:
    assert group_of_each(["a/p1_x", "b/p2_y"], "p[0-9]") == ["p1", "p2"]
    assert group_of_each(["a/p1_x", "b/p2_y"], "p([0-9])") == ["1", "2"]
    with pytest.raises(UserError, match=r"which 1 of 2 names have no match for: b/q2_y"):
        group_of_each(["a/p1_x", "b/q2_y"], "p[0-9]")
    with pytest.raises(UserError, match=r"--groups is '\(': missing"):
        group_of_each(["a"], "(")
    with pytest.raises(UserError, match="nothing is held out"):
        ReadOptions(groups="p")
    with pytest.raises(UserError, match="has two labelled images of different groups") as error:
        open_source(birds, "train", ReadOptions(hold_out=20, groups="png"))
    assert error.value.next == "without --groups"


def test_groups_that_are_the_outer_classes_lead_to_the_inner_ones(tmp_path: Path) -> None:
    """Advised to hold out without the groups, a person would have each patient on both sides."""
    for patient in range(4):
        for kind in ("benign", "malign"):
            for number in range(2):
                picture(tmp_path / "scans" / f"patient{patient}" / kind / f"{number}.png")
    grouped = {"hold_out": 25, "groups": "patient[0-9]"}
    with pytest.raises(UserError, match=r"lie deeper.*classes") as error:
        open_source(tmp_path / "scans", "train", ReadOptions(**grouped))  # type: ignore[arg-type]
    assert error.value.next == "--class-folders inner"
    inner = ReadOptions(**grouped, class_folders="inner")  # type: ignore[arg-type]
    sides = [open_source(tmp_path / "scans", split, inner) for split in ("train", "test")]
    assert [len(side) for side in sides] == [12, 4]
    of_each = [{Path(side.describe(row)[0]).parts[0] for row in range(len(side))} for side in sides]
    assert not of_each[0] & of_each[1]


def test_a_part_of_names_is_refused_where_images_are_no_files(tmp_path: Path) -> None:
    """`[0-9]+` matches the number of each row, and would make every image a group of its own."""
    path = of_parquet(tmp_path / "scans")
    for pattern in ("[0-9]+", "patient[0-9]+"):
        with pytest.raises(UserError, match=r"a part of names, .*scans have none: the first is row 0"):
            open_source(path, "train", ReadOptions(hold_out=25, groups=pattern))
    both = ReadOptions(hold_out=25, groups="[0-9]+", groups_column="patient")
    assert len(open_source(path, "test", both)) == 8


@pytest.mark.parametrize(
    ("names", "positions"),
    [
        (["row 3", "row 12"], True),
        (["train[0]", "train[1]"], True),
        (["one[0]", "other[0]"], False),
        (["row 3", "row of trees"], False),
        (["p1.png", "p2.png"], False),
        ([], False),
    ],
)
def test_positions_are_no_names(names: list[str], positions: bool) -> None:
    assert are_positions(names) is positions


def test_groups_of_images_without_labels_are_not_blamed(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"p{number}.png")
    with pytest.raises(UserError, match=r"has two labelled images$") as error:
        open_source(tmp_path, "train", ReadOptions(hold_out=20, groups="p[0-9]"))
    assert error.value.next == "without --hold-out --groups"
    assert open_source(tmp_path / "p0.png").counted() == "1 image"


ROWS = [(f"p{patient}_{number}.png", "ab"[number % 2], patient) for patient in range(8) for number in range(4)]


def of_parquet(place: Path) -> Path:
    """Rows in two files: patients as numbers, and within a struct as words."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    image = picture(place / "a.png").read_bytes()
    (place / "a.png").unlink()
    for part, rows in enumerate((ROWS[:10], ROWS[10:])):
        columns = {
            "image": [{"bytes": image, "path": name} for name, _, _ in rows],
            "label": [label for _, label, _ in rows],
            "patient": [patient for _, _, patient in rows],
            "from": [{"eye": f"patient{patient}-{label}"} for _, label, patient in rows],
        }
        parquet.write_table(pa.table(columns), place / f"{part}.parquet", row_group_size=4)
    return place


def of_table(place: Path) -> Path:
    """Images, and a table beside them."""
    for name, _, _ in ROWS:
        picture(place / name)
    (place / "labels.csv").write_text("\n".join(["file_name,label,patient", *(f"{n},{c},{p}" for n, c, p in ROWS)]))
    return place


def of_class_folders(place: Path) -> Path:
    """Class folders, and a table above them that says of which patient each image is."""
    for name, label, _ in ROWS:
        picture(place / label / name)
    lines = [f"{label}/{name},{patient}" for name, label, patient in ROWS]
    (place / "metadata.csv").write_text("\n".join(["file_name,patient", *lines]))
    return place


def of_list(place: Path) -> Path:
    """A list of paths with columns."""
    of_table(place)
    return (place / "labels.csv").rename(place / "list.csv")


@pytest.mark.parametrize("make", [of_parquet, of_table, of_class_folders, of_list])
def test_a_column_says_which_images_stay_together(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "scans")
    whole = open_source(path)
    order = [whole.describe(row)[0] for row in range(len(whole))]
    patient_of = dict(zip(order, map(str, whole.column("patient")), strict=True))
    assert len(set(patient_of.values())) == 8
    options = ReadOptions(hold_out=25, groups_column="patient")
    train, test = (open_source(path, split, options) for split in ("train", "test"))
    sides = [{patient_of[part.describe(row)[0]] for row in range(len(part))} for part in (train, test)]
    assert (len(train), len(test), len(sides[0] & sides[1])) == (24, 8, 0)
    assert "held out: 2 of 8 groups, 25% of the labelled images" in train.scan_report.notes


def test_an_expression_is_of_the_column_and_fields_of_structs_have_dots(tmp_path: Path) -> None:
    path = of_parquet(tmp_path / "scans")
    both = open_source(path, "test", ReadOptions(hold_out=25, groups_column="from.eye", groups="patient[0-9]+"))
    by_number = open_source(path, "test", ReadOptions(hold_out=25, groups_column="patient"))
    assert len(both) == len(by_number) == 8
    eyes = open_source(path, "test", ReadOptions(hold_out=25, groups_column="from.eye"))
    assert "held out: 4 of 16 groups, 25% of the labelled images" in eyes.scan_report.notes
    for column in ("from.nose", "patiant"):
        with pytest.raises(UserError, match=f"--groups-column is '{column}'") as refused:
            open_source(path, "test", ReadOptions(hold_out=25, groups_column=column))
        assert refused.value.allowed == "label, patient, from"
