"""What a folder holds: everything in it is read, or counted under the name of its kind. Nothing else is opened."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from barlowctl.data.beton.pack import pack
from barlowctl.data.images import formats
from barlowctl.data.sources import open_source
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.data.tree import scan
from barlowctl.data.tree.arrangement import MASKS
from barlowctl.data.tree.regular import read_regular
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.errors import UserError


def picture(path: Path, value: int = 0, kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (value, value, value)).save(path, kind)
    return path


def names(source: Source) -> list[str]:
    return [source.describe(i)[0] for i in range(len(source))]


def counts(source: Source) -> dict[str, int]:
    return {kind: skipped.count for kind, skipped in source.scan_report.skipped.items()}


def test_every_file_of_a_folder_is_read_or_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "readable", lambda file_format: file_format.reader in ("", "jpg_2000"))
    for name in ("a.jpg", "b.PNG", "c.jp2"):
        picture(tmp_path / name)
    picture(tmp_path / "no ending", kind="PNG")
    picture(tmp_path / "e.jpg_large", kind="JPEG")
    picture(tmp_path / "f.jpeg.1", kind="JPEG")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "README").write_bytes(b"about these photos")
    (tmp_path / "song.mp3").write_bytes(b"")
    others = (
        "x.heic",
        "y.CR2",
        "z.psd",
        "v.mp4",
        "d.dcm",
        "n.nii.gz",
        "t.zip",
        "i.svg",
        "u.jpg.part",
        "l.xmp",
        "m.xmp",
    )
    for name in (*others, "Thumbs.db", ".DS_Store", "._a.jpg", ".hidden.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "slice 1").write_bytes(bytes(128) + b"DICM" + bytes(100))
    source = open_source(tmp_path)
    assert names(source) == ["a.jpg", "b.PNG", "c.jp2", "e.jpg_large", "f.jpeg.1", "no ending"]
    expected = {
        "camera RAW images": 1, "Photoshop and GIMP files": 1, "videos": 1, "DICOM images": 2, "NIfTI volumes": 1,
        "archives": 1, "SVG, EPS and other drawings": 1, "backup copies and unfinished downloads": 1, ".xmp files": 2,
        "files without an ending that are no images": 1, "empty files": 1, ".mp3 files": 1, "system files": 3,
        "hidden files": 1, "HEIC images": 1,
    }  # fmt: skip
    assert counts(source) == expected
    assert len(source) + sum(expected.values()) == len(os.listdir(tmp_path))


def test_a_folder_of_what_cannot_be_read_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "readable", lambda file_format: file_format.reader == "")
    (tmp_path / "IMG_1.HEIC").write_bytes(b"x")
    with pytest.raises(UserError, match=r"no images under .*HEIC images: 1 \(IMG_1.HEIC\)") as caught:
        open_source(tmp_path)
    assert caught.value.next == "pip install 'barlowctl[heif]'"


def test_a_jpeg_under_the_ending_of_another_format_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "readable", lambda file_format: file_format.reader == "")
    picture(tmp_path / "a.heic", kind="JPEG")
    picture(tmp_path / "b.avif", kind="PNG")
    picture(tmp_path / "c.nef", kind="TIFF")  # a camera's RAW image begins like this
    source = open_source(tmp_path)
    assert names(source) == ["a.heic", "b.avif"]
    assert counts(source) == {"camera RAW images": 1}


SYSTEM = [
    "@eaDir",
    "#recycle",
    "#snapshot",
    "@Recycle",
    ".@__thumb",
    "$RECYCLE.BIN",
    "$Recycle.Bin",
    "RECYCLER",
    "lost+found",
    "System Volume Information",
    ".Trash-1000",
    ".Trashes",
    ".thumbnails",
    "__MACOSX",
    ".ipynb_checkpoints",
    "found.000",
]


@pytest.mark.parametrize("name", SYSTEM)
def test_system_folders_are_neither_classes_nor_read(tmp_path, name):
    for folder in ("cat", "dog", name, f"cat/{name}/1.jpg"):
        picture(tmp_path / folder / "1.jpg")
    source = open_source(tmp_path)
    assert source.class_names == ["cat", "dog"]
    assert names(source) == ["cat/1.jpg", "dog/1.jpg"]
    assert counts(source) == {scan.SYSTEM_FOLDERS: 2}
    assert names(open_source(tmp_path / name)) == ["1.jpg"]  # who names it has it read


def test_recycled_in_small_letters_is_a_class(tmp_path):
    for folder in ("recycled", "burnt"):
        picture(tmp_path / folder / "1.jpg")
    assert open_source(tmp_path).class_names == ["burnt", "recycled"]


def test_what_is_no_regular_file_is_counted_and_never_opened(tmp_path, monkeypatch):
    picture(tmp_path / "1.jpg")
    os.mkfifo(tmp_path / "live.jpg")
    os.mkfifo(tmp_path / "live")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("sock.jpg")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "me.jpg").symlink_to("me.jpg")
    (tmp_path / "to live.jpg").symlink_to("live.jpg")
    source = open_source(tmp_path)
    assert names(source) == ["1.jpg"]
    assert counts(source) == {
        "pipes": 3, "sockets": 1, "devices": 1, "links to nowhere": 1, "links to themselves": 1,
    }  # fmt: skip
    for path in (tmp_path / "live.jpg", tmp_path / "zero.png", tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            read_regular(path)
    with pytest.raises(UserError, match="a pipe, a socket or a device"):
        open_source(tmp_path / "live.jpg")


def test_a_file_that_is_nothing_known_is_named_for_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "readable", lambda file_format: file_format.reader == "")
    (tmp_path / "zeros.jpg").write_bytes(bytes(400))
    with pytest.raises(UserError, match="of no known kind"):
        open_source(tmp_path / "zeros.jpg")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(400))
    with pytest.raises(UserError, match="content is that of HEIC images") as caught:
        open_source(tmp_path / "a.heic")
    assert caught.value.next == "pip install 'barlowctl[heif]'"


SPECIAL = [
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz", "data_batch_1", "train", "meta", "train_X.bin", "x.tar",
    "x.zip", "x.parquet", "train.beton", "metadata.csv", "labels.csv", "1.txt", "1.json", "1.cls", "classes.txt",
    "a.tsv",
]  # fmt: skip


def test_pipes_with_the_names_of_what_is_opened(tmp_path):
    picture(tmp_path / "1.jpg")
    for name in SPECIAL:
        os.mkfifo(tmp_path / name)
    source = open_source(tmp_path)
    assert names(source) == ["1.jpg"]
    assert counts(source) == {"pipes": len(SPECIAL)}


def test_a_file_that_becomes_a_pipe_or_vanishes_after_the_scan_is_unreadable(tmp_path):
    for number in range(3):
        picture(tmp_path / "in" / f"{number}.png", number)
    source = open_source(tmp_path / "in")
    (tmp_path / "in/0.png").unlink()
    (tmp_path / "in/1.png").unlink()
    os.mkfifo(tmp_path / "in/1.png")
    report = pack(source, tmp_path / "out.beton")
    assert report.samples == 1
    reasons = dict(report.unreadable)
    assert reasons["0.png"] == "No such file or directory"
    assert "not a regular file" in reasons["1.png"]


def test_folders_that_cannot_be_listed_are_counted(tmp_path, monkeypatch):
    for name in ("open/1.jpg", "shut/2.jpg", "open/deep/3.jpg"):
        picture(tmp_path / name)
    listed = os.scandir

    def refuse(path):
        if os.path.basename(path) in ("shut", "deep"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    source = open_source(tmp_path)
    assert names(source) == ["open/1.jpg"]
    skipped = source.scan_report.skipped["folders that cannot be listed"]
    assert (skipped.count, skipped.examples) == (2, ["open/deep (Permission denied)", "shut (Permission denied)"])
    monkeypatch.setattr(os, "scandir", lambda path: refuse("shut"))
    with pytest.raises(UserError, match="cannot be read"):
        open_source(tmp_path)


def test_nothing_is_read_twice_through_links(tmp_path):
    for name in ("in/a/1.jpg", "in/b/2.jpg", "out/3.jpg"):
        picture(tmp_path / name)
    root = tmp_path / "in"
    (root / "a/up").symlink_to(root, target_is_directory=True)
    (root / "a/self").symlink_to(root / "a", target_is_directory=True)
    (root / "c").symlink_to(root / "a", target_is_directory=True)  # a second name of a class is no class
    (root / "a/again.jpg").symlink_to("1.jpg")
    (root / "b/other.jpg").symlink_to("../a/1.jpg")  # the same picture under another label counts
    (root / "d").symlink_to(tmp_path / "out", target_is_directory=True)
    (root / "e").mkdir()
    (root / "e/x").symlink_to(tmp_path / "out", target_is_directory=True)
    source = open_source(root)
    assert source.class_names == ["a", "b", "d", "e"]
    assert names(source) == ["a/1.jpg", "b/2.jpg", "b/other.jpg", "d/3.jpg"]
    assert counts(source) == {scan.READ_ALREADY: 5}


def test_a_pile_reads_a_linked_picture_once(tmp_path):
    picture(tmp_path / "1.jpg")
    picture(tmp_path / "more/2.jpg")
    (tmp_path / "0.jpg").symlink_to("more/2.jpg")
    (tmp_path / "less").symlink_to("more", target_is_directory=True)
    (tmp_path / ".store").mkdir()
    shutil.move(picture(tmp_path / "3.jpg"), tmp_path / ".store/3")
    (tmp_path / "3.jpg").symlink_to(".store/3")  # what it leads to is hidden: the link stands for it
    source = open_source(tmp_path)
    assert names(source) == ["1.jpg", "3.jpg", "more/2.jpg"]
    assert counts(source) == {scan.READ_ALREADY: 2, scan.HIDDEN_FOLDERS: 1}


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    for name in ("scan.tif/1.jpg", "cat/2.jpg"):
        picture(tmp_path / name)
    assert open_source(tmp_path).class_names == ["cat", "scan.tif"]
    assert scan.holds_images(tmp_path) is False


def test_sniffing_opens_only_what_no_ending_tells(tmp_path, monkeypatch):
    picture(tmp_path / "a.jpg")
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "c.unknown").write_text("?")
    opened = []
    monkeypatch.setattr(scan, "read_head", lambda path: opened.append(os.path.basename(path)) or b"?")
    scan.Scan(tmp_path, ScanReport()).walk()
    assert opened == ["c.unknown"]


def test_files_that_hold_labels_are_read_and_not_counted(tmp_path):
    for number, word in enumerate(("cat", "dog")):
        picture(tmp_path / f"{number}.jpg")
        (tmp_path / f"{number}.txt").write_text(word)
    (tmp_path / "README.txt").write_text("two pictures\nof animals")
    source = open_source(tmp_path)
    assert [source.describe(i)[1] for i in range(2)] == [0, 1]
    assert counts(source) == {".txt files": 1}


# ---- an archive beside folders ---------------------------------------------------------------------------


def tar(path: Path, content: Path, name: str) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(content, name)
    return path


def test_folders_are_read_and_not_the_archive_they_came_from(tmp_path):
    for name in ("train/n01/1.jpg", "train/n02/2.jpg", "val/n01/3.jpg"):
        picture(tmp_path / name)
    archive = tar(tmp_path / "all.tar", tmp_path / "train", "train")
    source = open_source(tmp_path)
    assert names(source) == ["n01/1.jpg", "n02/2.jpg"]
    (note,) = source.scan_report.notes
    assert note.endswith(f"to read it instead: barlowctl data pack {archive} all.beton")
    assert len(open_source(tmp_path, options=ReadOptions(layout="shards"))) == 2
    assert len(open_source(archive)) == 2


def test_a_zip_file_beside_its_folders_is_said(tmp_path):
    for name in ("cat/1.jpg", "dog/2.jpg"):
        picture(tmp_path / name)
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path, "cat")
    source = open_source(tmp_path)
    assert names(source) == ["cat/1.jpg", "dog/2.jpg"]
    assert source.scan_report.notes[0].endswith(f"to read it instead: barlowctl data pack {archive} all.beton")


def test_a_logo_beside_shards_does_not_hide_them(tmp_path):
    picture(tmp_path / "x/1.jpg")
    for number in range(2):
        tar(tmp_path / f"set-{number}.tar", tmp_path / "x/1.jpg", f"{number}.jpg")
    shutil.rmtree(tmp_path / "x")
    picture(tmp_path / "logo.png")
    source = open_source(tmp_path)
    assert "tar shards" in source.kind
    assert any("--layout folder" in note for note in source.scan_report.notes)
    assert names(open_source(tmp_path, options=ReadOptions(layout="folder"))) == ["logo.png"]


def test_layouts_that_are_not_there(tmp_path):
    picture(tmp_path / "1.jpg")
    with pytest.raises(UserError, match="no tar or Parquet files"):
        open_source(tmp_path, options=ReadOptions(layout="shards"))
    (tmp_path / "only").mkdir()
    tar(tmp_path / "only/y.tar", tmp_path / "1.jpg", "1.jpg")
    with pytest.raises(UserError, match="no image files outside"):
        open_source(tmp_path / "only", options=ReadOptions(layout="folder"))
    with pytest.raises(UserError, match="--layout is 'both'"):
        ReadOptions(layout="both")
    with pytest.raises(UserError, match=r"--member is 'jpg', but .* is read as images without class folders"):
        open_source(tmp_path, options=ReadOptions(member="jpg"))


def test_images_beside_arrays_are_said_and_can_be_read(tmp_path):
    array = b"\0\0\x08\3" + b"".join(n.to_bytes(4) for n in (2, 4, 4)) + bytes(32)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(array)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(array)
    (tmp_path / "about.html").write_text("x")
    source = open_source(tmp_path)
    assert (len(source), counts(source), source.scan_report.notes) == (2, {".html files": 1}, [])
    picture(tmp_path / "cover.png")
    source = open_source(tmp_path)
    assert counts(source) == {".html files": 1, "images beside arrays": 1}
    assert source.scan_report.notes[0].endswith(f"barlowctl data pack {tmp_path} {tmp_path.name}.beton --layout folder")
    assert names(open_source(tmp_path, options=ReadOptions(layout="folder"))) == ["cover.png"]


def test_a_folder_of_zip_files_names_one_to_read(tmp_path):
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UserError, match=r"archives: 2 \(a.zip, b.zip\)") as caught:
        open_source(tmp_path)
    assert caught.value.next == f"barlowctl data pack {tmp_path / 'a.zip'} a.beton"


# ---- folders of masks beside images ----------------------------------------------------------------------

MASKED = {
    "beside": (["images/1.png", "images/2.png", "masks/1.png", "masks/2.png"], ["1.png", "2.png"]),
    "in splits": (["images/train/1.png", "images/val/2.png", "masks/train/1.png", "masks/val/2.png"], ["1.png"]),
    "of splits": (["train/images/1.png", "train/labels/1.png", "val/images/2.png", "val/labels/2.png"], ["1.png"]),
    "voc": (["JPEGImages/1.jpg", "SegmentationClass/1.png", "SegmentationObject/1.png"], ["1.jpg"]),
    "below": (["1.jpg", "masks/1.png"], ["1.jpg"]),
    "depth": (["rgb/1.jpg", "depth/1.png"], ["1.jpg"]),
    "among others": (["1.jpg", "images/2.jpg", "masks/1.png"], ["1.jpg", "2.jpg"]),
}


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize("layout", MASKED)
def test_folders_of_masks_are_no_class(tmp_path, layout, kind):
    made, expected = MASKED[layout]
    for name in made:
        picture(tmp_path / "x" / name)
    path = tmp_path / "x"
    if kind == "tar":
        path = tar(tmp_path / "x.tar", path, "x")
    elif kind == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path, "x"))
    source = open_source(path)
    assert [os.path.basename(name) for name in names(source)] == expected
    assert source.class_names == []
    assert counts(source)[MASKS] >= 1


@pytest.mark.parametrize("inner", [None, "inner"])
@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_folders_of_masks_within_class_folders_are_not_read(tmp_path, kind, inner):
    for plate in ("p1", "p2"):
        for well in ("A01", "A02"):
            for name in ("1.jpg", "masks/1.png"):
                picture(tmp_path / "x" / plate / well / name)
        picture(tmp_path / "x" / plate / "images" / "B01" / "1.jpg")
        picture(tmp_path / "x" / plate / "gt" / "B01" / "1.png")
    path = tmp_path / "x"
    if kind == "tar":
        path = tar(tmp_path / "x.tar", path, "x")
    elif kind == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path, "x"))
    source = open_source(path, options=ReadOptions(class_folders=inner))
    assert sorted(os.path.basename(name) for name in names(source)) == ["1.jpg"] * 6
    assert source.class_names == (["A01", "A02", "B01"] if inner else ["p1", "p2"])
    assert counts(source)[MASKS] == 6


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_masks_between_images_are_noted(tmp_path, kind):
    for name in ("a/1.jpg", "a/1_mask.png", "a/2.jpg", "a/2-seg.png", "b/3_mask.png", "b/gas mask.jpg", "b/gt.jpg"):
        picture(tmp_path / "x" / name)
    path = tmp_path / "x"
    if kind == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path, "x"))
    source = open_source(path)
    assert len(source) == 7
    (note,) = [note for note in source.scan_report.notes if "masks of others" in note]
    assert note.startswith("2 images named as masks of others (")
    assert "1_mask.png" in note
    assert "2-seg.png" in note


def test_a_folder_called_labels_beside_others_within_a_class_is_read(tmp_path):
    for name in ("bottles/labels/1.jpg", "bottles/caps/1.jpg", "cans/masks/1.jpg"):
        picture(tmp_path / name)
    assert len(open_source(tmp_path)) == 3


@pytest.mark.parametrize("classes", [("cat", "masks"), ("depth", "masks"), ("labels", "photos of cats", "dogs")])
def test_a_class_with_the_name_of_masks_stays_one(tmp_path, classes):
    for name in classes:
        picture(tmp_path / name / "1.jpg")
    assert open_source(tmp_path).class_names == sorted(classes)


@pytest.mark.parametrize("images", ["images", "images/train", "data/JPEGImages"])
def test_folders_without_images_beside_those_of_images_are_reported(tmp_path, images):
    picture(tmp_path / images / "1.jpg")
    for name in ("labels/train/1.txt", "Annotations/1.xml", "labels/train/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0 0.5 0.5 0.1 0.1")
    met = open_source(tmp_path).scan_report.skipped
    assert {kind: skipped.examples for kind, skipped in met.items()} == {
        ".txt files": ["labels/train/1.txt"],
        ".xml files": ["Annotations/1.xml"],
        "hidden files": ["labels/train/.hidden"],
    }
