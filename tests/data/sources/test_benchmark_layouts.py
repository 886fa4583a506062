"""A folder of another benchmark, or of archives alone, leads to what reads or unpacks it."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from barlowctl.data import home
from barlowctl.data.sources.benchmark_layouts import refuse_others
from barlowctl.errors import UserError

FILES = {
    "places205": "trainvalsplit_places205/train_places205.csv",
    "inat18": "train2018.json",
    "voc07": "VOCdevkit/VOC2007/ImageSets/Main/cat_test.txt",
    "voc0712": "VOC2012/ImageSets/Main/trainval.txt",
    "coco": "annotations/instances_train2017.json",
}
ARCHIVES = {
    "places205": ["trainvalsplit_places205.tar.gz", "imagesPlaces205_resize.tar.gz"],
    "inat18": ["train2018.json.tar.gz", "val2018.json.tar.gz", "train_val2018.tar.gz"],
    "voc07": ["VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar"],
    "voc0712": ["VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar", "VOCtrainval_11-May-2012.tar"],
    "coco": ["annotations_trainval2017.zip", "train2017.zip", "val2017.zip"],
}


def made(folder: Path, name: str) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("task", FILES)
def test_a_layout_is_that_of_its_task(tmp_path: Path, task: str) -> None:
    folder = made(tmp_path / "set", FILES[task])
    refuse_others(task, folder)
    strangers = [other for other in (*FILES, "folder") if {other, task} != {"voc07", "voc0712"} and other != task]
    for other in strangers:
        with pytest.raises(UserError, match=f"which the task {other} does not read") as caught:
            refuse_others(other, folder)
        assert caught.value.next == f"--task {task}"


@pytest.mark.parametrize("task", FILES)
def test_its_images_have_no_test_split_and_lead_to_the_task(tmp_path: Path, task: str) -> None:
    """A share of its training images, held out, would be another measurement than the benchmark."""
    folder = made(tmp_path / "set", FILES[task])
    Image.new("RGB", (8, 8)).save(folder / "1.jpg")
    with pytest.raises(
        UserError, match=r"no test split; it is in the layout of .*, which `barlowctl transfer`"
    ) as caught:
        home.resolve(folder, "test")
    assert caught.value.next == f"barlowctl transfer --task {task} --data {folder}"


def test_two_tasks_read_the_same_devkit(tmp_path: Path) -> None:
    folder = made(made(tmp_path / "set", FILES["voc07"]), "VOCdevkit/VOC2012/ImageSets/Main/trainval.txt")
    refuse_others("voc07", folder)
    refuse_others("voc0712", folder)


@pytest.mark.parametrize("task", ARCHIVES)
def test_archives_as_downloaded_lead_to_what_unpacks_them(tmp_path: Path, task: str) -> None:
    folder = made(tmp_path / "my sets", "readme.txt")
    refuse_others(task, folder)  # what lacks is said by who reads it
    for number, name in enumerate(ARCHIVES[task]):
        content = made(tmp_path / "content", FILES[task] if number == 0 else f"images/{number}.jpg")
        member = content / (FILES[task] if number == 0 else f"images/{number}.jpg")
        if name.endswith(".zip"):
            with zipfile.ZipFile(folder / name, "w") as zipped:
                zipped.write(member, member.relative_to(content))
        else:
            with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as archive:
                archive.add(member, member.relative_to(content))
    with pytest.raises(UserError, match=f"my sets has {len(ARCHIVES[task])} archives of") as caught:
        refuse_others(task, folder)
    line = caught.value.next
    assert line is not None
    assert line.count(" && ") == len(ARCHIVES[task]) - 1
    subprocess.run(line, shell=True, check=True)
    assert (folder / FILES[task]).is_file()
    assert (folder / "images/1.jpg").is_file()
    refuse_others(task, folder)


def test_other_folders_are_nobodys(tmp_path: Path) -> None:
    for task in (*FILES, "folder"):
        refuse_others(task, tmp_path)
        refuse_others(task, tmp_path / "not there")
