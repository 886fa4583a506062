"""Data that is packed, named, looked at."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from tests.advice.scenario import Scenario

Patch = pytest.MonkeyPatch


def packed(patch: Patch) -> None:
    """`photos.beton`, of the images of one folder."""
    assert barlowctl(["data", "pack", "one folder", "./photos.beton", "--quiet"]) == 0


def packed_jpegs(patch: Patch) -> None:
    """`photos.beton` with JPEGs."""
    Path("jpegs").mkdir()
    for number in range(3):
        Image.open("one folder/0.png").save(f"jpegs/{number}.jpg", quality=90)
    assert barlowctl(["data", "pack", "jpegs", "./photos.beton", "--quiet"]) == 0


def changed(part: str) -> Callable[[Patch], None]:
    """`photos.beton`, changed in its images, in the names of its images, or at its beginning."""

    def prepare(patch: Patch) -> None:
        packed_jpegs(patch)
        file = Path("photos.beton")
        content = bytearray(file.read_bytes())
        jpeg = Path("jpegs/1.jpg").read_bytes()
        place = {"names": content.rindex(b"1.jpg"), "an image": content.index(jpeg) + 1, "beginning": 0}[part]
        content[place] ^= 1
        file.write_bytes(bytes(content))

    return prepare


def without_decoder(patch: Patch) -> None:
    from barlowctl.data.beton import decoders

    packed_jpegs(patch)
    patch.setattr(decoders, "by_package", lambda: ({}, "simplejpeg is not installed"))


def zipped(patch: Patch) -> None:
    shutil.make_archive("all", "zip", "my images")


def of_two_members(patch: Patch) -> None:
    """Samples of a shard: a PNG, and another one beside it."""
    Path("pairs").mkdir()
    for number in range(3):
        for member in ("rgb", "depth"):
            shutil.copy(f"one folder/{number}.png", f"pairs/{number}.{member}.png")
    archive("pairs.tar", source="pairs")(patch)


def a_table_of_images(patch: Patch) -> None:
    import pyarrow
    import pyarrow.parquet

    files = sorted(Path("one folder").glob("*.png"))
    columns = {"photo": [file.read_bytes() for file in files], "kind": [0, 1, 0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), "images.parquet")


def idx(*files: str) -> Callable[[Patch], None]:
    """MNIST's files, of a split each: two black images."""

    def prepare(patch: Patch) -> None:
        Path("mnist").mkdir()
        for name in files:
            head = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28])
            Path("mnist", f"{name}-images-idx3-ubyte").write_bytes(head + bytes(2 * 28 * 28))

    return prepare


def a_table_of_splits(patch: Patch) -> None:
    import pyarrow.parquet

    data = Path("one folder/0.png").read_bytes()
    columns = {"image": [data, data], "split": ["train", "validation"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), "images.parquet")


def cifar(patch: Patch) -> None:
    import pickle

    Path("cifar").mkdir()
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        Path("cifar", name).write_bytes(pickle.dumps(batch))


def nothing_noted(patch: Patch) -> None:
    """A file that barlowctl did not write has no hash of its content."""
    from barlowctl.data.beton.reader import Beton

    packed(patch)
    patch.setattr(Beton, "noted_hash", property(lambda beton: None))


def unopenable(patch: Patch) -> None:
    """A packed file on a disk that fails, once."""
    from barlowctl.data.beton import reader as beton

    packed(patch)
    memmap, failed = np.memmap, list[bool]()

    def fails(*arguments: object, **options: object) -> object:
        if not failed:
            failed.append(True)
            raise OSError(5, "Input/output error")
        return memmap(*arguments, **options)  # type: ignore[call-overload]

    patch.setattr(beton.np, "memmap", fails)


def of_one_split(patch: Patch) -> None:
    """A folder with a packed training split, and with folders of both."""
    shutil.copytree("my images", "half packed")
    assert barlowctl(["data", "pack", "my images", "./half packed/train.beton", "--quiet"]) == 0


def of_another_name(patch: Patch) -> None:
    """A folder with a packed file that is called as no split is."""
    Path("files").mkdir()
    assert barlowctl(["data", "pack", "one folder", "./files/photos.beton", "--quiet"]) == 0


def archive(name: str, mode: str = "w", *, source: str = "one folder") -> Callable[[Patch], None]:
    """A tar of a folder."""

    def prepare(patch: Patch) -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(name, mode) as tar:  # type: ignore[call-overload]
            tar.add(source, arcname="images")

    return prepare


def zipped_in_a_tar(patch: Patch) -> None:
    shutil.make_archive("inner/photos", "zip", "one folder")
    archive("outer.tar", source="inner")(patch)


def zipped_in_a_folder(patch: Patch) -> None:
    """An archive that is skipped: beside it lies what is no image."""
    Path("downloads").mkdir()
    Path("downloads/readme.txt").write_text("hello")
    shutil.make_archive("downloads/deep", "zip", "one folder")
    Path("downloads/deep.zip").rename("downloads/photos.tar.zip")


def deep(patch: Patch) -> None:
    """Scans whose black and white are not said, and pictures of four bands."""
    import tifffile

    ramp = np.linspace(0, 3000, 1200).reshape(30, 40).astype(np.uint16)
    for folder, values in {"scans": ramp.astype(np.int16) - 1000, "bands": np.dstack([ramp // 12] * 4)}.items():
        Path(folder).mkdir()
        values = values if folder == "scans" else values.astype(np.uint8)
        tifffile.imwrite(Path(folder) / "a.tif", values, photometric="minisblack", planarconfig="contig")


def deep_bands(patch: Patch) -> None:
    """A tile of four bands whose black and white are not said."""
    import tifffile

    ramp = np.linspace(-1000, 2000, 1200).reshape(30, 40).astype(np.int16)
    Path("cubes").mkdir()
    tifffile.imwrite("cubes/a.tif", np.dstack([ramp] * 4), photometric="minisblack", planarconfig="contig")


def deep_bands_and_others(patch: Patch) -> None:
    """Such a tile beside a picture of 8 bits."""
    deep_bands(patch)
    shutil.copy("one folder/0.png", "cubes/b.png")


def deep_and_others(patch: Patch) -> None:
    """A scan whose black and white are not said, among pictures of 8 bits."""
    deep(patch)
    shutil.copy("one folder/0.png", "scans/b.png")


def of_bands(patch: Patch) -> None:
    """Tiles of four bands, and `bands.beton` of them."""
    deep(patch)
    assert barlowctl([*PACK, "bands", "./bands.beton", "--bands", "1-4", "--quiet"]) == 0


def without_an_end(patch: Patch) -> None:
    """A PNG whose pixels are there, and whose end is not."""
    Path("damaged").mkdir()
    Path("damaged/a.png").write_bytes(Path("one folder/0.png").read_bytes()[:-12])
    shutil.copy("one folder/1.png", "damaged/b.png")


def listed(patch: Patch) -> None:
    """A table of images of one split."""
    Path("list.csv").write_text("path,split\none folder/0.png,train\none folder/1.png,train\n")


def unlabelled(patch: Patch) -> None:
    for split in ("train", "unlabelled"):
        shutil.copytree("one folder", f"more/{split}")


def table(patch: Patch) -> None:
    """A folder whose table says the split of each image."""
    shutil.copytree("one folder", "told")
    Path("told/metadata.csv").write_text("file_name,label,split\n0.png,a,train\n1.png,b,train\n2.png,a,test\n")


def patients(patch: Patch) -> None:
    """A folder whose table says of which patient each image is, of some the ward, and of all the same country."""
    shutil.copytree("one folder", "told")
    rows = [f"{number}.png,{'ab'[number % 2]},{number},{ward},x" for number, ward in enumerate(("north", "", "south"))]
    Path("told/metadata.csv").write_text("\n".join(["file_name,label,patient,ward,country", *rows]))


def labelled_list(patch: Patch) -> None:
    """A list of paths and labels, without names of columns."""
    images = [f"my images/train/{label}/{number}.png\t{label}\n" for label in "ab" for number in range(3)]
    Path("list.txt").write_text("".join(images))


def some_sorted(patch: Patch) -> None:
    """Folders of a few images, beside more that nobody sorted."""
    shutil.copytree("one folder", "sorted")
    for label in ("a", "b"):
        shutil.copytree(f"my images/train/{label}", f"sorted/{label}")
    for number in range(20):
        shutil.copy("one folder/0.png", f"sorted/more{number}.png")


def folders_of_patients(patch: Patch) -> None:
    """Images two folders deep, patients first."""
    for patient in range(4):
        for kind in ("a", "b"):
            shutil.copytree(f"my images/train/{kind}", f"hospital/patient{patient}/{kind}")


def half_imagenet100(patch: Patch) -> None:
    assert barlowctl(["data", "pack", "my images", "imagenet100", "--quiet"]) == 0


def arrays(save: Callable[..., None] = np.savez) -> Callable[[Patch], None]:
    """Two splits of images in an archive of NumPy's, in a folder."""

    def prepare(patch: Patch) -> None:
        Path("arrays").mkdir()
        images = np.arange(8 * 12 * 12, dtype=np.uint8).reshape(8, 12, 12)
        save("arrays/all.npz", train_images=images, test_images=images, train_labels=np.arange(8) % 2)

    return prepare


def arrays_beyond_memory(patch: Patch) -> None:
    from barlowctl import memory

    arrays(np.savez_compressed)(patch)
    patch.setattr(memory, "available", lambda: 1000)


def hdf5(**arrays: object) -> Callable[[Patch], None]:
    """`all.h5` with arrays."""

    def prepare(patch: Patch) -> None:
        import h5py

        with h5py.File("all.h5", "w") as file:
            for name, values in arrays.items():
                file[name] = values

    return prepare


def hdf5_in_folders(patch: Patch) -> None:
    """Files of images in folders of two splits, and a file of slides, each a group."""
    for split in ("train", "test"):
        hdf5(images=SQUARES)(patch)
        Path("slides", split).mkdir(parents=True)
        Path("all.h5").rename(Path("slides", split, "1.h5"))
    hdf5(**{f"slide_{number}/{name}": SQUARES for number in (1, 2) for name in ("imgs",)}, kind=np.arange(8))(patch)


def two_of_labels(patch: Patch) -> None:
    """`x.h5`, and a file of labels beside it that has two arrays of them."""
    import h5py

    with h5py.File("x.h5", "w") as file:
        file["x"] = SQUARES
    with h5py.File("y.h5", "w") as file:
        file["y"], file["target"] = np.arange(8), np.arange(8)


def compressed_hdf5(patch: Patch) -> None:
    import gzip

    hdf5(images=SQUARES)(patch)
    Path("all.h5.gz").write_bytes(gzip.compress(Path("all.h5").read_bytes()))
    Path("all.h5").unlink()


SQUARES = np.arange(8 * 12 * 12, dtype=np.uint8).reshape(8, 12, 12)
PACK = ["data", "pack"]
EMBED = ["embed", "runs/done", "--out", "f.npz", "--data"]
PREVIEW = ["data", "preview", "--recipe", "quickstart", "--out", "v.png", "--data"]
FOUR = [
    word
    for change in ("data.channels=4", "views.mean=[0.3,0.3,0.3,0.3]", "views.std=[0.2,0.2,0.2,0.2]")
    for word in ("--set", change)
]
SCENARIOS = {
    "packed file there": Scenario([*PACK, "one folder", "./there.beton"]),
    "packed": Scenario([*PACK, "one folder", "./new.beton"], code=0),
    "packed a split": Scenario([*PACK, "my images", "new", "--split", "test"], code=0),
    "unreadable image": Scenario([*PACK, "with a bad one", "./new.beton", "--on-unreadable", "fail"]),
    "range not said": Scenario([*PACK, "scans", "./new.beton"], deep),
    "range not said of some": Scenario([*PACK, "scans", "./new.beton"], deep_and_others, code=0),
    "range not said of some, looked at": Scenario(["data", "info", "scans"], deep_and_others, code=0),
    "range not said, of one": Scenario([*PACK, "scans", "./new.beton", "--on-unreadable", "fail"], deep),
    "bands not said": Scenario([*PACK, "bands", "./new.beton"], deep),
    "bands not said, of one": Scenario([*PACK, "bands", "./new.beton", "--on-unreadable", "fail"], deep),
    "bands and range not said": Scenario([*PACK, "cubes", "./new.beton"], deep_bands),
    "bands and range not said of some": Scenario([*PACK, "cubes", "./new.beton"], deep_bands_and_others, code=0),
    "bands and range not said, looked at": Scenario(["data", "info", "cubes"], deep_bands_and_others, code=0),
    "bands and range not said, of one": Scenario(
        [*PACK, "cubes", "./new.beton", "--on-unreadable", "fail"], deep_bands
    ),
    "ranges of other bands": Scenario(
        [*PACK, "bands", "./new.beton", "--bands", "1-4", "--range", "0:9/0:9"], of_bands
    ),
    "bands of a packed file": Scenario([*PREVIEW, "./bands.beton"], of_bands),
    "bands of files": Scenario([*PREVIEW, "bands", *FOUR], of_bands),
    "bands for a run on others": Scenario([*EMBED, "./bands.beton"], of_bands),
    "packed bands": Scenario([*PACK, "bands", "./new.beton", "--bands", "1-4"], deep, code=0),
    "bands as JPEG": Scenario([*PACK, "bands", "./new.beton", "--bands", "1-4", "--store", "jpeg"], of_bands),
    "damaged image": Scenario([*PACK, "damaged", "./new.beton", "--on-unreadable", "fail"], without_an_end),
    "packed already": Scenario([*PACK, "./photos.beton", "./new.beton"], packed),
    "compressed tar": Scenario([*PACK, "photos.tar.gz", "./new.beton"], archive("photos.tar.gz", "w:gz")),
    "archives in a tar": Scenario([*PACK, "outer.tar", "./new.beton"], zipped_in_a_tar),
    "archives in a folder": Scenario([*PACK, "downloads", "./new.beton"], zipped_in_a_folder),
    "held out without labels": Scenario([*PACK, "one folder", "./new.beton", "--hold-out", "20"]),
    "held out of a pile with folders": Scenario([*PACK, "sorted", "./new.beton", "--hold-out", "20"], some_sorted),
    "a test split of a pile with folders": Scenario(
        ["data", "preview", "--data", "./sorted", "--split", "test"], some_sorted, slow=True
    ),
    "groups, nothing held out": Scenario([*PACK, "my images/train", "./new.beton", "--groups", "[0-9]+"]),
    "groups without a match": Scenario(
        [*PACK, "my images/train", "./new.beton", "--hold-out", "20", "--groups", "patient"]
    ),
    "groups of rows without names": Scenario(
        [*PACK, "images.parquet", "./new.beton", "--label-column", "kind", "--hold-out", "50", "--groups", "[0-9]+"],
        a_table_of_images,
    ),
    "groups of all images": Scenario([*PACK, "my images/train", "./new.beton", "--hold-out", "20", "--groups", "p?ng"]),
    "groups that are the classes": Scenario(
        [*PACK, "hospital", "./new.beton", "--hold-out", "20", "--groups", "patient[0-9]"], folders_of_patients
    ),
    "groups of images without labels": Scenario(
        [*PACK, "one folder", "./new.beton", "--hold-out", "20", "--groups", "[0-9]+"]
    ),
    "a column of groups, nothing held out": Scenario(
        [*PACK, "told", "./new.beton", "--groups-column", "patient"], patients
    ),
    "no such column of groups": Scenario(
        [*PACK, "told", "./new.beton", "--hold-out", "20", "--groups-column", "patiant"], patients
    ),
    "no column of groups": Scenario(
        [*PACK, "my images/train", "./new.beton", "--hold-out", "20", "--groups-column", "patient"]
    ),
    "no column of groups in a list without columns": Scenario(
        [*PACK, "list.txt", "./new.beton", "--hold-out", "20", "--groups-column", "patient"], labelled_list
    ),
    "a column of groups with gaps": Scenario(
        [*PACK, "told", "./new.beton", "--hold-out", "20", "--groups-column", "ward"], patients
    ),
    "one group in a column": Scenario(
        [*PACK, "told", "./new.beton", "--hold-out", "20", "--groups-column", "country"], patients
    ),
    "groups of no expression": Scenario([*PACK, "my images/train", "./new.beton", "--hold-out", "20", "--groups", "("]),
    "held out beside a test split": Scenario([*PACK, "my images", "./new.beton", "--hold-out", "20"]),
    "groups held out beside a test split": Scenario(
        [*PACK, "my images", "./new.beton", "--hold-out", "20", "--groups", "[0-9]+"]
    ),
    "no such part": Scenario(
        [*PACK, "my images/train", "./new.beton", "--hold-out", "20", "--split", "unlabelled"],
    ),
    "no shards": Scenario([*PACK, "one folder", "./new.beton", "--layout", "shards"]),
    "no folder": Scenario([*PACK, "shards", "./new.beton", "--layout", "folder"], archive("shards/a.tar")),
    "no member": Scenario([*PACK, "one folder", "./new.beton", "--member", "png"]),
    "split of shards": Scenario([*PACK, "shards", "./new.beton", "--split", "val"], archive("shards/train-0.tar")),
    "split of a tar": Scenario(
        [*PACK, "all.tar", "./new.beton", "--split", "unlabelled"], archive("all.tar", source="my images")
    ),
    "split of a table": Scenario([*PACK, "told", "./new.beton", "--split", "unlabelled"], table),
    "split of a list": Scenario([*PACK, "list.csv", "./new.beton", "--split", "val"], listed),
    "split of a zip file": Scenario([*PACK, "all.zip", "./new.beton", "--split", "unlabelled"], zipped),
    "split of IDX files": Scenario([*PACK, "mnist", "./new.beton", "--split", "unlabelled"], idx("train", "t10k")),
    "training images as IDX": Scenario([*PACK, "mnist", "./new.beton"], idx("t10k")),
    "test images as IDX": Scenario([*PACK, "mnist", "./new.beton", "--split", "test"], idx("train")),
    "split of CIFAR": Scenario([*PACK, "cifar", "./new.beton", "--split", "unlabelled"], cifar),
    "no such member": Scenario([*PACK, "pairs.tar", "./new.beton", "--member", "rgbb.png"], of_two_members),
    "several arrays of images": Scenario([*PACK, "all.h5", "./new.beton"], hdf5(optical=SQUARES, infrared=SQUARES)),
    "two arrays called images": Scenario([*PACK, "all.h5", "./new.beton"], hdf5(images=SQUARES, x=SQUARES)),
    "two arrays called labels": Scenario(
        [*PACK, "all.h5", "./new.beton"], hdf5(x=SQUARES, y=np.arange(8), target=np.arange(8))
    ),
    "two arrays of labels beside": Scenario([*PACK, "x.h5", "./new.beton"], two_of_labels),
    "no such split of HDF5 files in folders": Scenario(
        [*PACK, "slides", "./new.beton", "--split", "unlabelled"], hdf5_in_folders
    ),
    "no such labels in groups": Scenario([*PACK, "all.h5", "./new.beton", "--label-column", "kinds"], hdf5_in_folders),
    "no such array": Scenario([*PACK, "all.h5", "./new.beton", "--image-column", "image"], hdf5(images=SQUARES)),
    "no such array of labels": Scenario(
        [*PACK, "all.h5", "./new.beton", "--label-column", "kinds"], hdf5(images=SQUARES, kind=np.arange(8))
    ),
    "compressed HDF5": Scenario([*PACK, "all.h5.gz", "./new.beton"], compressed_hdf5),
    "split of arrays": Scenario([*PACK, "arrays/all.npz", "./new.beton", "--split", "unlabelled"], arrays()),
    "arrays beyond the memory": Scenario([*PACK, "arrays/all.npz", "./new.beton"], arrays_beyond_memory),
    "arrays in a folder": Scenario([*PACK, "arrays", "./new.beton"], arrays()),
    "no such split in a table": Scenario(
        [*PACK, "images.parquet", "./new.beton", "--split", "unlabelled"], a_table_of_splits
    ),
    "no such column": Scenario([*PACK, "images.parquet", "./new.beton", "--image-column", "phto"], a_table_of_images),
    "no such column of labels": Scenario(
        [*PACK, "images.parquet", "./new.beton", "--label-column", "kin"], a_table_of_images
    ),
    "split of a folder": Scenario([*PACK, "my images", "./new.beton", "--split", "unlabelled"]),
    "split of folders of shards": Scenario(
        [*PACK, "sharded", "./new.beton", "--split", "val"], archive("sharded/train/a.tar")
    ),
    "split not there": Scenario(
        ["data", "preview", "--data", "my images", "--split", "unlabelled"],
        unlabelled,
        person={"DATASET": "./more"},
        slow=True,
    ),
    "split to preview": Scenario(
        ["data", "preview", "--data", "one folder", "--split", "test"],
        slow=True,
    ),
    "info of a folder": Scenario(["data", "info", "./one folder"], code=0),
    "statistics of a folder": Scenario(["data", "info", "./one folder", "--statistics"]),
    "a list to preview": Scenario(["data", "preview", "--data", "./list.csv"], listed),
    "info of a split": Scenario(["data", "info", "./half packed", "--split", "test"], of_one_split),
    "info of another name": Scenario(["data", "preview", "--data", "./files"], of_another_name),
    "no hash": Scenario(["data", "info", "./photos.beton", "--verify"], nothing_noted),
    "names changed": Scenario(["data", "info", "./photos.beton", "--verify"], changed("names")),
    "images changed": Scenario(["data", "info", "./photos.beton", "--verify"], changed("an image")),
    "not packed": Scenario(["data", "info", "./photos.beton"], changed("beginning")),
    "nothing in it": Scenario(["data", "info", "./there.beton"]),
    "not to be opened": Scenario(["data", "info", "./photos.beton"], unopenable),
    "unreadable in it": Scenario(["data", "preview", "--data", "./photos.beton"], changed("an image")),
    "nothing to preview": Scenario(["data", "preview"], then="fashion-mnist"),
    "no picture to preview": Scenario(["data", "preview", "--data", "one folder", "--out", "sheet.gif"]),
    "preview there": Scenario(["data", "preview", "--data", "one folder", "--out", "one folder/0.png"]),
    "fast loader without a decoder": Scenario(
        ["data", "preview", "--data", "./photos.beton", "--loader", "fast"], without_decoder
    ),
    "fast loader of a folder": Scenario(["data", "preview", "--data", "one folder", "--loader", "fast"]),
    "something else there": Scenario(["data", "get", "cifar10", "--from", "my images"]),
    "no such data set": Scenario(
        ["data", "preview", "--data", "scans"],
        slow=True,
    ),
    "data set without a split": Scenario(["data", "preview", "--data", "digits", "--split", "unlabelled"]),
    "data set to be packed": Scenario(["data", "preview", "--data", "imagenet100"]),
    "data set to be packed, without a split": Scenario(
        ["data", "preview", "--data", "imagenet100", "--split", "val"], half_imagenet100
    ),
}
