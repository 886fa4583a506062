"""Archives and tables: every member and column is read, or counted under the name of its kind; choices are said."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from barlowctl.cli.app import run
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images import formats
from barlowctl.data.sources import open_source
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.data.sources.shard_files import distinct
from barlowctl.data.tree.scan_report import ScanReport
from barlowctl.errors import UserError


def image(value: int, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (12, 9), (value, 255 - value, 128)).save(stream, kind)
    return stream.getvalue()


def names(source: Source) -> list[str]:
    return [source.describe(i)[0].partition(".tar/")[2] or source.describe(i)[0] for i in range(len(source))]


def counts(source: Source) -> dict[str, int]:
    return {kind: skipped.count for kind, skipped in source.scan_report.skipped.items()}


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            shard.addfile(header, io.BytesIO(data))
    return path


HEIC = b"\0\0\0\x18ftypheic" + bytes(100)
MEMBERS = [
    ("d/a.jpg", image(1)), ("d/noend", image(2)), ("d/c.jpg_large", image(3)), ("d/x.heic", HEIC),
    ("d/.hidden.jpg", image(4)), ("__MACOSX/d/._a.jpg", b"x"), ("d/@eaDir/a.jpg", image(5)), ("d/Thumbs.db", b"x"),
    ("d/film.mp4", b"x"), ("d/empty", b""), ("d/inner.zip", b"PK"), ("d/notes.xmp", b"x"), ("../up.jpg", image(6)),
    ("/abs.jpg", image(7)),
]  # fmt: skip
LEFT = {
    "HEIC images": 1, "hidden files": 1, "system, waste and thumbnail folders": 2, "system files": 1, "videos": 1,
    "empty files": 1, "archives": 1, ".xmp files": 1,
}  # fmt: skip
READ = {"d/a.jpg", "d/noend", "d/c.jpg_large", "../up.jpg", "/abs.jpg"}


def test_every_member_of_a_tar_is_read_or_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "readable", lambda file_format: file_format.reader == "")
    path = write_tar(tmp_path / "x.tar", MEMBERS)
    with tarfile.open(path, "a") as archive:
        for name, kind in (
            ("l.jpg", tarfile.SYMTYPE),
            ("h.jpg", tarfile.LNKTYPE),
            ("p.jpg", tarfile.FIFOTYPE),
            ("c.jpg", tarfile.CHRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "d/a.jpg"
            archive.addfile(member)
        archive.add(tmp_path / "x.tar", "d/a.jpg", filter=lambda member: None)
    source = open_source(path)
    assert set(names(source)) == READ
    assert counts(source) == LEFT | {"links in an archive": 2, "pipes": 1, "devices": 1}
    assert source[names(source).index("d/noend")].data == image(2)


def test_every_member_of_a_zip_is_read_or_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "readable", lambda file_format: file_format.reader == "")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.mkdir("photo.jpg")
        for name, data in MEMBERS:
            archive.writestr(name, data)
        link = zipfile.ZipInfo("l.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "d/a.jpg")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("d/a.jpg", image(9))
    source = open_source(tmp_path / "x.zip")
    assert set(names(source)) == READ
    assert counts(source) == LEFT | {"links in an archive": 1, "members that a later one of the same name replaces": 1}
    assert source[names(source).index("d/a.jpg")].data == image(9)


def test_an_encrypted_zip_says_so(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", image(1))
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1  # the flag of encryption, here and in the directory
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"no images in .*encrypted members: 1 \(a.jpg\); unpack"):
        open_source(path)


def test_folders_of_a_zip_file_made_on_windows(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("cat\\1.jpg", "dog\\2.jpg"):
            member = zipfile.ZipInfo(name)
            member.create_system = 0
            archive.writestr(member, image(int(name[4])))
    source = open_source(tmp_path / "x.zip")
    assert [source.describe(i) for i in range(2)] == [("cat/1.jpg", 0), ("dog/2.jpg", 1)]
    assert source[1].data == image(2)


def test_an_archive_of_archives_names_what_unpacks_it(tmp_path):
    path = write_tar(tmp_path / "train.tar", [("n01.tar", b"x"), ("n02.tar", b"x")])
    with pytest.raises(UserError, match=r"no images in .*archives: 2 \(n01.tar, n02.tar\)") as caught:
        open_source(path)
    folder = tmp_path / "train"
    assert caught.value.next == f"mkdir -p {folder} && tar xf {path} -C {folder}"


def test_of_members_of_one_name_the_last_counts(tmp_path):
    source = open_source(write_tar(tmp_path / "x.tar", [("a.jpg", image(1)), ("b.jpg", image(2)), ("a.jpg", image(3))]))
    assert names(source) == ["b.jpg", "a.jpg"]
    assert source[1].data == image(3)
    assert counts(source) == {"members that a later one of the same name replaces": 1}


def test_masks_in_samples_are_skipped_and_can_be_chosen(tmp_path, capsys):
    members = [
        (f"{i:03}.{end}", image(i, kind)) for i in range(3) for end, kind in (("jpg", "JPEG"), ("seg.png", "PNG"))
    ]
    path = write_tar(tmp_path / "x.tar", [*members, ("000.cls", b"1"), ("001.cls", b"0")])
    source = open_source(path)
    assert [source.describe(i) for i in range(3)] == [("x.tar/000.jpg", 1), ("x.tar/001.jpg", 0), ("x.tar/002.jpg", -1)]
    assert counts(source) == {".seg.png images beside .jpg in a sample": 3}
    assert source.scan_report.notes[0].endswith(f"barlowctl data pack {path} {path.stem}.beton --member seg.png")
    assert run(["data", "pack", str(path), str(tmp_path / "x.beton"), "--member", "seg.png", "-q"]) == 0
    assert Beton.open(tmp_path / "x.beton").labels.tolist() == [1, 0, -1]
    assert len(open_source(path, options=ReadOptions(member="all"))) == 6
    with pytest.raises(UserError, match="--image-column is 'x'"):
        open_source(path, options=ReadOptions(image_column="x"))


def test_shards_are_read_once_and_what_lies_beside_is_counted(tmp_path):
    write_tar(tmp_path / "set-0.tar", [("0.jpg", image(1))])
    shutil.copy(tmp_path / "set-0.tar", tmp_path / "set-0 (1).tar")
    shutil.copy(tmp_path / "set-0.tar", tmp_path / "set-1.tar")  # alike, and named as a shard of its own
    (tmp_path / "set-2.tar").symlink_to("set-0.tar")
    (tmp_path / "index.json").write_text("{}")
    os.mkfifo(tmp_path / "live.tar")
    source = open_source(tmp_path)
    assert [file.name for file in source.files] == ["set-0.tar", "set-1.tar"]
    assert counts(source) == {
        "links to what is read already": 1, "copies of a file that is read": 1, ".json files": 1, "pipes": 1,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a (2).tar", "a copy.tar", "a - Copy.tar", "a copy 2.tar", "Copy of a.tar"])
def test_copies_by_their_names_and_bytes(tmp_path, name):
    for file in ("a.tar", name, "a-2.tar"):
        (tmp_path / file).write_bytes(b"same")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in distinct(files, ScanReport())] == ["a-2.tar", "a.tar"]
    (tmp_path / name).write_bytes(b"else")
    assert len(distinct(files, ScanReport())) == 3


def test_what_lies_around_the_folder_of_shards_is_counted(tmp_path):
    (tmp_path / "set/train").mkdir(parents=True)
    (tmp_path / "set/val").mkdir()
    (tmp_path / "README.md").write_text("x")
    for name in ("set/train/0.tar", "set/val/0.tar"):
        write_tar(tmp_path / name, [("a.jpg", image(1))])
    source = open_source(tmp_path)
    assert names(source) == ["a.jpg"]
    assert counts(source) == {".md files": 1, "folders beside archives": 1}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/1.jpg").write_bytes(image(2))
    assert names(open_source(tmp_path, options=ReadOptions(layout="shards"))) == ["a.jpg"]


# ---- Parquet ---------------------------------------------------------------------------------------------


def write_table(path: Path, columns: dict[str, list]) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def test_columns_beside_the_images_are_counted_and_can_be_chosen(tmp_path):
    columns = {
        "mask": [{"bytes": image(9, "PNG"), "path": None}] * 2,
        "image": [{"bytes": image(1), "path": None}] * 2,
        "views": [[{"bytes": image(1)}]] * 2,
        "fine_label": [0, 1],
        "coarse": [5, 6],
    }
    path = write_table(tmp_path / "x.parquet", columns)
    source = open_source(path)
    assert (source[0].data, source[1].label) == (image(1), 1)
    assert counts(source) == {
        "columns of images beside the one that is read": 1, "columns with a list of images a row": 1,
    }  # fmt: skip
    assert source.scan_report.notes[0].endswith(f"barlowctl data pack {path} {path.stem}.beton --image-column mask")
    assert open_source(path, options=ReadOptions(image_column="mask"))[0].data == image(9, "PNG")
    assert open_source(path, options=ReadOptions(label_column="coarse")).describe(0)[1] == 5
    assert open_source(path, options=ReadOptions(label_column="none")).describe(1)[1] == -1
    with pytest.raises(UserError, match="--label-column is 'fine'") as caught:
        open_source(path, options=ReadOptions(label_column="fine"))
    assert "fine_label" in caught.value.allowed
    with pytest.raises(UserError, match="--image-column is 'picture'"):
        open_source(path, options=ReadOptions(image_column="picture"))


def test_images_and_labels_inside_structs(tmp_path):
    rows = [{"image": {"bytes": image(i)}, "label": i} for i in range(2)]
    path = write_table(tmp_path / "x.parquet", {"id": ["a", "b"], "sample": [*rows, None][:2]})
    source = open_source(path, options=ReadOptions(label_column="sample.label"))
    assert [source[i].data for i in range(2)] == [image(0), image(1)]
    assert [source.describe(i)[1] for i in range(2)] == [0, 1]


def test_shards_with_other_columns(tmp_path):
    write_table(tmp_path / "0.parquet", {"meta": [1, 2]})
    write_table(tmp_path / "1.parquet", {"image": [image(1)], "label": [0]})
    write_table(tmp_path / "2.parquet", {"picture": [image(2)], "label": [0]})
    write_table(tmp_path / "3.parquet", {"label": [1], "image": [image(3)]})
    source = open_source(tmp_path)
    assert [source[i].data for i in range(len(source))] == [image(1), image(3)]
    assert [source.describe(i)[1] for i in range(2)] == [0, 1]
    assert counts(source) == {"files without the column of images 'image'": 2}


def test_paths_in_a_column_begin_in_the_folder_of_their_file(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.jpg").write_bytes(image(4))
    for number in range(2):
        write_table(tmp_path / f"data/train-{number}.parquet", {"image": [{"bytes": None, "path": "a.jpg"}]})
        table = pa.table(
            {
                "image": pa.array(
                    [{"bytes": None, "path": "a.jpg"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
                ),
                "n": [number],
            }
        )
        parquet.write_table(table, tmp_path / f"data/train-{number}.parquet")
    source = open_source(tmp_path, options=ReadOptions(layout="shards"))
    assert [source[i].data for i in range(2)] == [image(4)] * 2
