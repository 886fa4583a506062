"""`barlowctl data` as a person and as a script meet it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli import app
from barlowctl.cli.data.info import LABELS
from barlowctl.data import sources
from barlowctl.data.beton.layout import INFO_MAGIC
from barlowctl.data.beton.reader import Beton


@pytest.fixture
def photos(tmp_path) -> Path:
    """Four photos in two classes, one of them cut short."""
    random = np.random.default_rng(0)
    for name in ("cats/1.jpg", "cats/2.jpg", "dogs/3.jpg", "dogs/bad.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    bad = tmp_path / "photos/dogs/bad.jpg"
    bad.write_bytes(bad.read_bytes()[:-900])
    return tmp_path / "photos"


def run(capsys, *arguments: object, code: int = 0) -> tuple[str, str]:
    assert app.run(["data", *map(str, arguments)]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def run_json(capsys, *arguments: object, code: int = 0) -> dict:
    out, _ = run(capsys, *arguments, "--json", code=code)
    return json.loads(out)


def test_info_of_images_that_are_not_packed_says_what_pack_would_take(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (photos / "dogs/notes.txt").write_text("x")
    (tmp_path / "split").mkdir()
    shutil.copytree(photos, tmp_path / "split/train")
    shutil.copytree(photos, tmp_path / "split/val")
    document = run_json(capsys, "info", photos)
    assert (document["packed"], document["samples"], document["class_sizes"], document["labelled"]) == (
        None,
        4,
        [2, 2],
        4,
    )
    assert (document["looked_at"], document["as_they_are"], document["channels"]) == (4, 3, 3)
    assert (document["widths"], document["heights"]) == ([50, 50], [40, 40])
    assert [name for name, _ in document["unreadable"]] == ["dogs/bad.jpg"]
    assert document["passed_over"][".txt files"]["count"] == 1
    out, _ = run(capsys, "info", "split/", "--split", "val")
    assert "2: cats, dogs" in out
    assert out.endswith("next: barlowctl data pack split split-val.beton --split val\n")
    for split, name in (("train", "split.beton"), ("val", "split-val.beton")):  # both can be packed as advised
        run(capsys, "pack", "split", name, "--split", split)
    assert document["samples"] == run_json(capsys, "info", "split.beton")["samples"] + 1


def test_info_takes_what_can_be_packed(photos, tmp_path, capsys):
    archive = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", photos))
    document = run_json(capsys, "info", archive)
    assert (document["samples"], document["class_names"], document["looked_at"]) == (4, ["cats", "dogs"], 4)


def test_pack_under_a_name_then_info(photos, capsys):
    document = run_json(capsys, "pack", photos, "my-photos")
    home = Path(os.environ["BARLOWCTL_DATA"])
    assert document["path"] == str(home / "my-photos" / "train.beton")
    assert (document["samples"], document["passed_through"], document["classes"]) == (3, 3, 2)
    assert document["unreadable"][0][0] == "dogs/bad.jpg"
    listed = run_json(capsys, "info")
    assert listed == {"home": str(home), "datasets": {"my-photos": ["train"]}}
    info = run_json(capsys, "info", "my-photos", "--verify")
    assert info["class_names"] == ["cats", "dogs"]
    assert (info["samples"], info["width"], info["skipped"]) == (3, [50, 50], 1)
    assert info["content_hash"] == document["content_hash"]
    table, _ = run(capsys, "info", "my-photos")
    assert "stored as JPEG" in table
    assert f"{info['bytes']:,}" in table  # as people write it
    assert info.keys() - {"path", "class_names", "class_sizes", "info"} == LABELS.keys()


def test_images_without_a_label_are_counted(photos, tmp_path, capsys, monkeypatch):
    """By the packer, by `data info`, and in a run's first lines."""
    from barlowctl.assemble.data import describe_labels
    from barlowctl.data.beton.reader import Beton
    from barlowctl.data.loaders.plain import Pictures
    from barlowctl.data.sources import open_source

    monkeypatch.chdir(tmp_path)
    (photos / "dogs/bad.jpg").unlink()
    Image.new("RGB", (50, 40)).save(photos / "cover.jpg")
    document = run_json(capsys, "pack", photos, "mixed.beton")
    assert (document["samples"], document["labelled"], document["classes"]) == (4, 3, 2)
    assert document["notes"][0] == "1 image beside the class folders: kept without a label"
    out, _ = run(capsys, "pack", photos, "again.beton")
    assert re.search(
        r"classes +2: cats, dogs *\n +images of a class +1 \(dogs\) to 2 \(cats\) *\n +without a label +1 *\n", out
    )
    assert run_json(capsys, "info", "mixed.beton")["labelled"] == 3
    for source in (Beton.open("mixed.beton"), Pictures(open_source(photos))):
        assert describe_labels(source) == "2 classes, on 3 of 4 images"
        source.labels[:] = -1
        assert describe_labels(source) == "none"


def test_pack_for_people(photos, tmp_path, capsys):
    out, err = run(capsys, "pack", photos, tmp_path / "a.beton", "--workers", 2)
    assert "unreadable: dogs/bad.jpg" in out
    assert "stored as they were" in out
    assert err == ""
    out, _ = run(capsys, "info", tmp_path / "a.beton")
    assert "40" in out


def test_what_is_packed_is_counted_in_images(photos, tmp_path, capsys, monkeypatch):
    """Whatever they lie in: a zip file and a list were `3 a zip file of images`, `1 a list of paths`."""
    monkeypatch.chdir(tmp_path)
    (photos / "dogs/bad.jpg").unlink()
    with zipfile.ZipFile("photos.zip", "w") as file:
        for image in sorted(photos.rglob("*.*")):
            file.write(image, image.relative_to(photos))
    packed, _ = run(capsys, "pack", "photos.zip", "zip.beton")
    assert "photos.zip: 3 images in a zip file, in class folders, train split" in packed
    Path("one.txt").write_text(str(next(photos.rglob("*.*"))) + "\n")
    packed, _ = run(capsys, "pack", "one.txt", "one.beton")
    assert "one.txt: 1 image of a list of paths, train split" in packed
    assert re.search(r"classes +none \(unlabelled\) *\n", run(capsys, "info", "one.beton")[0])
    assert run_json(capsys, "info", "one.beton")["classes"] == 0


def test_pack_fails_when_asked_and_leaves_nothing(photos, tmp_path, capsys):
    document = run_json(capsys, "pack", photos, tmp_path / "a.beton", "--on-unreadable", "fail", code=2)
    assert "dogs/bad.jpg" in document["error"]
    assert os.listdir(tmp_path) == ["photos"]


@pytest.mark.parametrize("fault", ["png", "jpeg"])
def test_pack_fails_at_a_damaged_image_when_asked(photos, tmp_path, capsys, fault):
    (photos / "dogs/bad.jpg").unlink()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    image.save(photos / f"dogs/odd.{fault}")
    content = bytearray((photos / f"dogs/odd.{fault}").read_bytes())
    if fault == "png":
        del content[-12:]  # the end marker; the pixels are there
    else:
        del content[-900:-2]  # a part of its data; the end marker stays
    (photos / f"dogs/odd.{fault}").write_bytes(content)
    document = run_json(capsys, "pack", photos, tmp_path / "a.beton", "--on-unreadable", "fail", code=2)
    assert f"dogs/odd.{fault} is damaged" in document["error"]
    assert os.listdir(tmp_path) == ["photos"]
    out, _ = run(capsys, "pack", photos, tmp_path / "a.beton")
    assert f"damaged, but decoded: dogs/odd.{fault}" in out


@pytest.mark.parametrize("options", [("--store", "png"), ("--on-unreadable", "ignore")])
def test_bad_options_are_refused_before_the_source_is_looked_at(photos, capsys, monkeypatch, options):
    monkeypatch.setattr(sources, "open_source", lambda *_: pytest.fail("looked at"))
    out, err = run(capsys, "pack", photos, "x", *options, code=2)
    assert options[1] in err
    assert out == ""


def test_pack_says_that_it_is_looking_before_it_looks(photos, capsys):
    out, _ = run(capsys, "pack", photos / "nowhere", "x", code=2)
    assert out == f"looking for images in {photos / 'nowhere'}\n"


def test_the_next_command_works_for_a_held_out_split_alone(photos, tmp_path, capsys):
    def suggested(*arguments: object) -> list[str]:
        out, _ = run(capsys, "pack", photos, *arguments)
        return shlex.split(next(line for line in out.splitlines() if line.startswith("next: ")))[3:]

    command = suggested("my-photos", "--split", "val", "--store", "raw")
    assert command == ["preview", "--data", "my-photos", "--split", "val"]
    run(capsys, *command, "--samples", 1, "--out", tmp_path / "x.png", "--set", "views.size=32")
    assert suggested("others") == ["preview", "--data", "others"]
    spaced = tmp_path / "two words.beton"
    assert suggested(spaced, "--split", "val") == ["preview", "--data", str(spaced)]


def test_pack_does_not_overwrite_unasked(photos, tmp_path, capsys):
    (tmp_path / "a.beton").write_text("mine")
    _, err = run(capsys, "pack", photos, tmp_path / "a.beton", code=2)
    assert "exists already" in err
    assert "--overwrite" in err
    assert (tmp_path / "a.beton").read_text() == "mine"
    run(capsys, "pack", photos, tmp_path / "a.beton", "--overwrite")
    assert Beton.open(tmp_path / "a.beton").num_samples == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pack", "/nowhere", "x"), "/nowhere does not exist"),
        (("pack", "{photos}", "some/folder"), "OUT is 'some/folder'"),
        (("pack", "{photos}", "x", "--split", "trian"), "did you mean 'train'"),
        (("pack", "{photos}", "x", "--store", "png"), "store is 'png'"),
        (("pack", "{photos}", "x", "--on-unreadable", "ignore"), "--on-unreadable is 'ignore'"),
        (("pack", "{photos}", "x", "--quality", "0"), "quality"),
        (("pack", "{photos}"), "OUT"),
        (("info", "fashion-mnits"), "did you mean 'fashion-mnist'"),
        (("info", "{photos}", "--verify"), "is not packed, and --verify is of packed files"),
        (("info", "{photos}/nothing"), "does not exist"),
        (("get", "cifar-10"), "did you mean 'cifar10'"),
        (("get",), "no data set was named"),
        (("preview",), "neither a recipe nor data"),
        (("preview", "--data", "/nowhere"), "/nowhere"),
    ],
)
def test_bad_input_is_exit_code_2_and_says_why(photos, capsys, arguments, message):
    filled = [argument.format(photos=photos) for argument in arguments]
    _, err = run(capsys, *filled, code=2)
    assert message in err


def test_changed_content_is_noticed(photos, tmp_path, capsys):
    run(capsys, "pack", photos, tmp_path / "a.beton")
    beton = Beton.open(tmp_path / "a.beton")
    with open(tmp_path / "a.beton", "r+b") as file:
        file.seek(int(beton.pointers[1]) + 700)
        file.write(b"!!")
    run(capsys, "info", tmp_path / "a.beton")
    _, err = run(capsys, "info", tmp_path / "a.beton", "--verify", code=2)
    assert "content hash differs" in err


def test_a_file_without_a_noted_hash_is_not_called_verified(photos, tmp_path, capsys, monkeypatch):
    """FFCV's own files: nothing is hashed without being asked, and nothing is compared with itself."""
    run(capsys, "pack", photos, tmp_path / "a.beton")
    content = (tmp_path / "a.beton").read_bytes()
    (tmp_path / "a.beton").write_bytes(content.replace(INFO_MAGIC, bytes(len(INFO_MAGIC))))
    monkeypatch.setattr(Beton, "compute_hash", lambda self: pytest.fail("hashed"))
    out, _ = run(capsys, "info", tmp_path / "a.beton")
    assert re.search(r"content hash +-", out)
    assert run_json(capsys, "info", tmp_path / "a.beton")["content_hash"] is None
    _, err = run(capsys, "info", tmp_path / "a.beton", "--verify", code=2)
    assert "no content hash to compare with" in err


@pytest.mark.slow
def test_get_from_a_folder(tmp_path, capsys):
    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.is_dir():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    document = run_json(capsys, "get", "fashion-mnist", "--from", folder)
    assert document["splits"]["train"]["samples"] == 60000
    assert document["splits"]["test"]["packed_now"]
    again = run_json(capsys, "get", "fashion-mnist")
    assert not again["splits"]["test"]["packed_now"]
    assert " 60,000 " in run(capsys, "get", "fashion-mnist")[0]
    assert again["splits"]["train"]["content_hash"] == document["splits"]["train"]["content_hash"]


@pytest.mark.parametrize("packed", [True, False])
def test_preview(photos, tmp_path, capsys, packed):
    (photos / "dogs/bad.jpg").unlink()
    if packed:
        run(capsys, "pack", photos, "my-photos", "--store", "raw")
    data = "my-photos" if packed else photos
    out = tmp_path / "sheet.png"
    arguments = ("--samples", 2, "--seed", 3, "--out", out, "--set", "views.size=64")
    document = run_json(capsys, "preview", "--data", data, *arguments)
    assert document == {
        "path": str(out),
        "samples": 2,
        "recipe_name": "resnet50",
        "seed": 3,
        "loader": "fast" if packed else "plain",
        "unreadable": [],
    }
    assert out.read_bytes().startswith(b"\x89PNG")


def test_preview_shows_every_view_of_a_list(photos, tmp_path, capsys):
    """The first two are the same pixels with small ones, which share a column, beside them."""
    (photos / "dogs/bad.jpg").unlink()
    run(capsys, "pack", photos, "my-photos", "--store", "raw")
    small = ("--set", "views.small.count=3", "--set", "views.small.size=16")
    sheets = []
    for name, extra in (("two.png", ()), ("five.png", small)):
        out = tmp_path / name
        run(capsys, "preview", "--data", "my-photos", "--samples", 2, "--out", out, "--set", "views.size=64", *extra)
        sheets.append(np.asarray(Image.open(out)))
    two, five = sheets
    cell, gap, margin, top = 112, 6, 12, 2 * 18
    assert two.shape[1] == 2 * margin + 3 * (cell + gap) - gap
    assert five.shape[1] == 2 * margin + 4 * (cell + gap) - gap
    rows = slice(margin + top, margin + top + cell)
    views = slice(margin + cell + gap, margin + 3 * (cell + gap) - gap)
    assert np.array_equal(two[rows, views], five[rows, views])


def test_as_a_process(photos, tmp_path):
    command = [sys.executable, "-m", "barlowctl", "data", "pack", str(photos), str(tmp_path / "a.beton"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"] == 3
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "exists already" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize("command", [[], ["pack"], ["info"], ["preview"], ["get"]])
def test_help_carries_an_example(capsys, command):
    out, _ = run(capsys, *command, "--help")
    assert re.search(rf"^  barlowctl data {command[0] if command else 'get'} ", out, re.MULTILINE)


@pytest.fixture
def scans(tmp_path) -> Path:
    """Two 12-bit scans in 16-bit files, one below zero, and one of four bands."""
    import tifffile

    ramp = np.linspace(0, 3000, 1200).reshape(30, 40).astype(np.uint16)
    (tmp_path / "scans").mkdir()
    for name, values in {"a.png": ramp, "b.png": ramp // 3}.items():
        Image.fromarray(values).save(tmp_path / "scans" / name)
    tifffile.imwrite(tmp_path / "scans/c.tif", ramp.astype(np.int16) - 1000)
    cube = np.dstack([ramp // 12] * 4).astype(np.uint8)
    tifffile.imwrite(tmp_path / "scans/d.tif", cube, photometric="minisblack", planarconfig="contig")
    return tmp_path / "scans"


def test_ranges_and_bands_are_said_and_can_be_set_as_advised(scans, tmp_path, capsys):
    out, _ = run(capsys, "pack", scans, tmp_path / "x.beton", "--store", "raw")
    assert "note: uint16 values: 0 is black, 4,095 is white (12 bits: the largest value of 2 images is 3,000)" in out
    assert "unreadable: c.tif: int16 values -1,000 to 2,000 of this image" in out
    assert "unreadable: d.tif: a TIFF of 4 bands of uint8" in out
    both = ("--range", "int16=-1000:2000", "--bands", "4,3,2")
    again = ("pack", scans, tmp_path / "x.beton", "--store", "raw", "--overwrite", *both)
    assert "next: " + " ".join(map(str, ("barlowctl", "data", *again))) in out.splitlines()
    looked_at, _ = run(capsys, "info", scans)
    assert f"next: barlowctl data pack {scans} scans.beton {' '.join(both)}" in looked_at.splitlines()
    _, errors = run(capsys, "pack", scans, tmp_path / "y.beton", "--on-unreadable", "fail", code=2)
    assert "c.tif cannot be read" in errors
    assert "of the next 1 image 1 cannot either" in errors
    assert errors.rstrip().endswith("--on-unreadable stop " + " ".join(both))  # what d.tif lacks too
    assert run_json(capsys, *again)["samples"] == 4
    _, errors = run(capsys, "pack", scans, tmp_path / "z.beton", "--range", "3:1", code=2)
    assert "the range is '3:1'" in errors


def test_a_folder_is_read_as_it_would_be_packed(scans, tmp_path, capsys):
    arguments = ("preview", "--data", scans, "--out", tmp_path / "p.png", "--samples", 4)
    _, errors = run(capsys, *arguments, code=2)
    assert "c.tif cannot be read: int16 values -1,000 to 2,000" in errors
    assert errors.rstrip().endswith("--set data.range=int16=-1000:2000")
    settings = ("--set", "data.range=-1000:2000", "--set", "data.bands=[3,2,1]")
    out, _ = run(capsys, *arguments, *settings)
    assert "note: uint16 values: -1,000 is black, 2,000 is white (as it was set)" in out
    _, errors = run(capsys, *arguments, "--set", "data.range=9:3", code=2)
    assert "range is '9:3'" in errors


def test_places_that_cannot_be_written_are_refused_before_an_image_is_read(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    out, errors = run(capsys, "pack", photos, tmp_path / "file/x.beton", code=2)
    assert "is no folder" in errors
    assert "looking for images" not in out
    _, errors = run(capsys, "preview", "--data", photos, "--out", tmp_path / "file/p.png", code=2)
    assert "is no folder" in errors
    _, errors = run(capsys, "preview", "--data", photos, "--out", tmp_path / "sheet.txt", code=2)
    assert "a name that ends in .png" in errors
    assert {path.name for path in tmp_path.iterdir()} == {photos.name, "file"}
    assert (tmp_path / "file").read_text() == "mine"


def test_classes_are_named_with_the_sizes_of_the_smallest_and_the_largest(tmp_path, capsys, monkeypatch):
    """By the packer and by `data info`, which also says again what the packer noted."""
    monkeypatch.chdir(tmp_path)
    for at, name in enumerate(("a/x/1.png", "a/x/2.png", "a/y/1.png", "b/x/1.png", "c/y/1.png", "c/y/2.png")):
        Path("seen", name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9), 9 * at).save(f"seen/{name}")
    packed = run(capsys, "pack", "seen", "seen.beton")[0]
    for out in (packed, run(capsys, "info", "seen.beton")[0]):
        assert re.search(r"classes +3: a, b, c *\n +images of a class +1 \(b\) to 3 \(a\) *\n", out)
        assert "note: the classes are the 3 outer folders (a, b, c)" in out
    info = run_json(capsys, "info", "seen.beton")
    assert (info["class_names"], info["class_sizes"]) == (["a", "b", "c"], [3, 1, 2])
    command = re.search("to take the inner ones for classes: barlowctl (.*)", packed)
    assert command
    assert app.run(shlex.split(command[1])) == 0
    assert re.search(r"classes +2: x, y *\n +images of a class +3 *\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("out", "other"), [("photos", "photos"), ("./photos.beton", "./photos-val.beton"), ("./train.beton", "./val.beton")]
)
def test_a_split_that_is_not_packed_is_named_with_its_command(tmp_path, capsys, monkeypatch, out, other):
    monkeypatch.chdir(tmp_path)
    for name in ("train/a", "train/b", "val/a", "val/b"):
        Path("seen", name).mkdir(parents=True)
        Image.new("L", (9, 9), 9).save(f"seen/{name}/1.png")
    flags = "--layout folder --class-folders outer --store raw --quality 90 --shorter-side 8 --range 0:255 "
    flags = [*flags.split(), "--background", "none", "--bands", "1", "--on-unreadable", "stop", "--workers", "1"]
    packed = run(capsys, "pack", "seen", out, *flags)[0]
    assert "note: seen has a val split too, which is not packed" in packed
    command = re.search("next: barlowctl (data pack .*)", packed)
    assert command
    assert command[1] == f"data pack seen {other} {' '.join(flags)} --split val"
    assert app.run(shlex.split(command[1])) == 0
    assert "split too" not in capsys.readouterr().out  # both are packed now
    assert run_json(capsys, "info", other, *(() if other.endswith(".beton") else ("--split", "val")))["samples"] == 2


@pytest.mark.parametrize("grey", [False, True])
def test_statistics_are_those_of_the_pixels_as_flags_of_a_recipe(tmp_path, capsys, monkeypatch, grey):
    from barlowctl.recipe import load

    monkeypatch.chdir(tmp_path)
    Path("seen").mkdir()
    random = np.random.default_rng(0)
    images = []
    for side in (6, 9, 20):  # each image counts alike
        images.append(random.integers(0, side * 12, (side, side) if grey else (side, side, 3), dtype=np.uint8))
        Image.fromarray(images[-1]).save(f"seen/{side}.png")
    run(capsys, "pack", "seen", "a.beton")
    values = [image.reshape(-1, 1 if grey else 3) / 255 for image in images]
    mean = np.mean([of_one.mean(axis=0) for of_one in values], axis=0)
    std = np.sqrt(np.mean([(of_one**2).mean(axis=0) for of_one in values], axis=0) - mean**2)
    measured = run_json(capsys, "info", "a.beton", "--statistics")["statistics"]
    assert measured["images"] == 3
    np.testing.assert_allclose(measured["mean"], mean, atol=6e-5)
    np.testing.assert_allclose(measured["std"], std, atol=6e-5)
    out, _ = run(capsys, "info", "a.beton", "--statistics")
    assert measured["flags"] in out
    recipe = load.load("resnet50", [word for word in shlex.split(measured["flags"]) if word != "--set"])
    assert (list(recipe.views.mean), list(recipe.views.std)) == (measured["mean"], measured["std"])
    assert recipe.data.channels == (1 if grey else 3)
    assert "statistics" not in run_json(capsys, "info", "a.beton")


def test_statistics_of_many_images_are_of_some(tmp_path, capsys, monkeypatch):
    from barlowctl.data import statistics

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(statistics, "MOST", 4)
    Path("seen").mkdir()
    for number in range(10):
        Image.new("L", (4, 4), number * 25).save(f"seen/{number}.png")
    run(capsys, "pack", "seen", "a.beton")
    measured = run_json(capsys, "info", "a.beton", "--statistics")["statistics"]
    assert (measured["images"], measured["mean"]) == (4, [round(25 * 18 / 4 / 255, 4)])  # images 0, 3, 6, 9
