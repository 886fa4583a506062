"""Every layout that can be read, made small; and what is refused."""

from __future__ import annotations

import gzip
import os
import pickle
import tarfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.data.sources import open_source
from barlowctl.data.sources.array_sources import read_idx
from barlowctl.errors import UserError


def picture(path: Path, value: int = 0, size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def idx(path: Path, array: np.ndarray) -> None:
    shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
    content = b"\0\0\x08" + bytes([array.ndim]) + shape + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def names(source) -> list[tuple[str, int]]:
    return [source.describe(i) for i in range(len(source))]


# ---- image folders ---------------------------------------------------------------------------------------


def test_class_folders_sorted_as_torchvision_sorts_them(tmp_path):
    from torchvision.datasets import ImageFolder

    for name in ("b/2.png", "b/10.png", "a/x/1.PNG", "a/0.jpg", "Z/1.jpeg", "é/1.jpg"):
        picture(tmp_path / name)
    (tmp_path / "b/notes.txt").write_text("no image")
    picture(tmp_path / "b/._2.png")
    source = open_source(tmp_path)
    assert source.class_names == ["Z", "a", "b", "é"]
    assert names(source) == [
        ("Z/1.jpeg", 0),
        ("a/0.jpg", 1),
        ("a/x/1.PNG", 1),
        ("b/10.png", 2),
        ("b/2.png", 2),
        ("é/1.jpg", 3),
    ]
    (tmp_path / "b/._2.png").unlink()
    theirs = ImageFolder(str(tmp_path))
    assert [(os.path.relpath(name, tmp_path), label) for name, label in theirs.samples] == names(source)
    assert source[1].data == (tmp_path / "a/0.jpg").read_bytes()
    assert source[1].label == 1


def test_flat_pile_is_unlabelled_at_any_depth(tmp_path):
    for name in ("b.png", "a.jpg", "holiday/2019/c.jpg"):
        picture(tmp_path / name)
    source = open_source(tmp_path)
    assert names(source) == [("a.jpg", -1), ("b.png", -1), ("holiday/2019/c.jpg", -1)]
    assert source.class_names == []
    assert "without class" in source.kind


def test_one_image(tmp_path):
    picture(tmp_path / "only.webp")
    assert names(open_source(tmp_path)) == [("only.webp", -1)]


def test_file_names_that_are_not_utf_8(tmp_path):
    os.rename(picture(tmp_path / "a.png"), os.fsencode(tmp_path) + b"/\xff.png")
    source = open_source(tmp_path)
    assert source[0].data.startswith(b"\x89PNG")


@pytest.mark.parametrize("make", [lambda path: None, lambda path: (path / "a" / "b").mkdir(parents=True)])
def test_empty_folder(tmp_path, make):
    make(tmp_path)
    with pytest.raises(UserError, match="no images under") as caught:
        open_source(tmp_path)
    assert "IDX" in caught.value.allowed


def test_missing_path_and_unknown_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_source(tmp_path / "none")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as shard:
        shard.addfile(tarfile.TarInfo("data_batch_1"))
    with pytest.raises(UserError, match="compressed tar") as caught:
        open_source(tmp_path / "cifar-10-python.tar.gz")
    assert caught.value.next.startswith("tar xf")
    with pytest.raises(UserError, match="split 'trian'"):
        open_source(tmp_path, "trian")


def test_imagenet_layout_counts_classes_as_the_training_set_does(tmp_path):
    for name in ("train/n01/1.jpg", "train/n02/2.jpg", "train/n03/3.jpg", "val/n01/4.jpg", "val/n03/5.jpg"):
        picture(tmp_path / name)
    train, val = open_source(tmp_path, "train"), open_source(tmp_path, "val")
    assert names(train) == [("n01/1.jpg", 0), ("n02/2.jpg", 1), ("n03/3.jpg", 2)]
    assert names(val) == [("n01/4.jpg", 0), ("n03/5.jpg", 2)]
    assert val.class_names == train.class_names == ["n01", "n02", "n03"]
    assert names(open_source(tmp_path, "test")) == names(val)
    with pytest.raises(UserError, match="no unlabelled split"):
        open_source(tmp_path, "unlabelled")


def test_val_class_that_the_training_set_lacks(tmp_path):
    for name in ("train/a/1.jpg", "val/a/2.jpg", "val/b/3.jpg"):
        picture(tmp_path / name)
    with pytest.raises(UserError, match="class folder 'b'"):
        open_source(tmp_path, "val")


def test_flat_val_of_a_labelled_training_set_is_unlabelled(tmp_path):
    for name in ("train/a/1.jpg", "val/ILSVRC_1.jpg"):
        picture(tmp_path / name)
    assert names(open_source(tmp_path, "val")) == [("ILSVRC_1.jpg", -1)]


def test_a_class_called_train_makes_no_split(tmp_path):
    for name in ("bus/1.jpg", "train/2.jpg", "car/3.jpg"):
        picture(tmp_path / name)
    assert open_source(tmp_path).class_names == ["bus", "car", "train"]


def test_class_names_that_read_alike_are_refused(tmp_path):
    for form in ("NFC", "NFD"):
        picture(tmp_path / unicodedata.normalize(form, "café") / "1.jpg")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system holds the two names for the same")
    with pytest.raises(UserError, match="both read 'café'"):
        open_source(tmp_path)


def test_a_link_that_leads_back_up_ends(tmp_path):
    picture(tmp_path / "a/1.jpg")
    picture(tmp_path / "b/2.jpg")
    (tmp_path / "a/up").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "b/linked.jpg").symlink_to(tmp_path / "a/1.jpg")
    assert names(open_source(tmp_path)) == [("a/1.jpg", 0), ("b/2.jpg", 1), ("b/linked.jpg", 1)]


def test_imagenette_layout_below_the_root(tmp_path):
    for name in ("imagenette2/train/n1/1.JPEG", "imagenette2/val/n1/2.JPEG"):
        picture(tmp_path / name.replace("JPEG", "jpg")).rename(tmp_path / name)
    assert names(open_source(tmp_path, "val")) == [("n1/2.JPEG", 0)]


# ---- IDX -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("inside", ["", "FashionMNIST/raw", "raw"])
def test_idx(tmp_path, suffix, inside):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3))
    folder = tmp_path / inside
    idx(folder / f"train-images-idx3-ubyte{suffix}", images)
    idx(folder / f"train-labels-idx1-ubyte{suffix}", np.array([0, 2, 1, 2, 0]))
    idx(folder / f"t10k-images-idx3-ubyte{suffix}", images[:2])
    idx(folder / f"t10k-labels-idx1-ubyte{suffix}", np.array([1, 1]))
    train, test = open_source(tmp_path, "train"), open_source(tmp_path, "test")
    assert [label for _, label in names(train)] == [0, 2, 1, 2, 0]
    assert np.array_equal(train[3].data, images[3])
    assert train[3].data.shape == (4, 3)
    assert train.class_names == ["0", "1", "2"]
    assert len(test) == 2
    assert [label for _, label in names(open_source(tmp_path, "val"))] == [1, 1]
    with pytest.raises(UserError, match="no unlabelled split"):
        open_source(tmp_path, "unlabelled")
    only = open_source(folder / f"train-images-idx3-ubyte{suffix}")
    assert names(only) == names(train)


def test_idx_without_labels_or_without_a_split(tmp_path):
    idx(tmp_path / "train-images-idx3-ubyte", np.zeros((2, 4, 4)))
    assert names(open_source(tmp_path)) == [("train[0]", -1), ("train[1]", -1)]
    with pytest.raises(UserError, match="no IDX files of the test split"):
        open_source(tmp_path, "test")


def test_damaged_idx_is_named(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    idx(path, np.arange(40).reshape(10, 2, 2))
    whole = path.read_bytes()
    for content in (
        whole[:-12],
        whole[:20],
        gzip.compress(b"\0\0\x08\x03"),
        gzip.compress(b"\0\0\x0d\x01abcd"),
        b"",
        b"hi",
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz"):
            open_source(tmp_path)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    with pytest.raises(UserError, match="55 bytes, 56 expected"):
        read_idx(path)


def test_idx_labels_of_another_length(tmp_path):
    idx(tmp_path / "train-images-idx3-ubyte", np.zeros((2, 4, 4)))
    idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(3))
    with pytest.raises(UserError, match="2 images but 3 labels"):
        open_source(tmp_path)


# ---- CIFAR -----------------------------------------------------------------------------------------------


def cifar10(folder: Path, n: int = 4, key=lambda name: name) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (6, n, 32, 32, 3), dtype=np.uint8)
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        planes = images[i].transpose(0, 3, 1, 2).reshape(n, 3072)
        batch = {key("data"): planes, key("labels"): [(i + j) % 10 for j in range(n)], key("batch_label"): name}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({key("label_names"): [f"c{i}" for i in range(10)]}, protocol=2))
    return images


@pytest.mark.parametrize("key", [lambda name: name, lambda name: name.encode()], ids=["str", "bytes"])
def test_cifar10(tmp_path, key):
    images = cifar10(tmp_path / "cifar-10-batches-py", key=key)
    train, test = open_source(tmp_path, "train"), open_source(tmp_path, "test")
    assert (len(train), len(test)) == (20, 4)
    assert np.array_equal(train[5].data, images[1, 1])
    assert np.array_equal(test[2].data, images[5, 2])
    assert train[5].label == 2
    assert train.class_names[3] == "c3"


def test_cifar10_agrees_with_torchvision(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    cifar10(tmp_path / "cifar-10-batches-py")
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    theirs, ours = CIFAR10(str(tmp_path)), open_source(tmp_path)
    for i in range(len(ours)):
        image, label = theirs[i]
        assert np.array_equal(ours[i].data, np.array(image))
        assert ours[i].label == label


def test_cifar100(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
    batch = {"data": images, "fine_labels": [7, 99, 0], "coarse_labels": [1, 2, 3]}
    for name in ("train", "test"):
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"fine_label_names": [f"f{i}" for i in range(100)], "coarse_label_names": []}
    (tmp_path / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    source = open_source(tmp_path, "val")
    assert [source[i].label for i in range(3)] == [7, 99, 0]
    assert source.class_names[99] == "f99"
    assert np.array_equal(source[1].data[:, :, 2].ravel(), images[1, 2048:])


class Malicious:
    """Unpickling runs a command that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_malicious_pickle_is_refused_and_not_run(tmp_path):
    cifar10(tmp_path)
    proof = tmp_path / "proof"
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps({"data": Malicious(proof), "labels": []}))
    with pytest.raises(UserError, match=r"data_batch_3 is not .*safe.*system"):
        open_source(tmp_path)
    assert not proof.exists()
    pickle.loads((tmp_path / "data_batch_3").read_bytes())
    assert proof.exists()  # the pickle was a live one


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        pickle.dumps([1]),
        pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [0, 0]}),
        pickle.dumps({"data": np.zeros((2, 3072), np.float32), "labels": [0, 0]}),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": "ab"}),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 0]})[:-4000],
    ],
)
def test_damaged_cifar_is_named(tmp_path, content):
    cifar10(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(content)
    with pytest.raises(UserError, match="data_batch_2 is not a CIFAR batch"):
        open_source(tmp_path)


def test_cifar_without_its_test_batch(tmp_path):
    cifar10(tmp_path)
    (tmp_path / "test_batch").unlink()
    assert len(open_source(tmp_path)) == 20
    with pytest.raises(UserError, match="no test split"):
        open_source(tmp_path, "test")


# ---- STL-10 ----------------------------------------------------------------------------------------------


def test_stl10(tmp_path):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    for part in ("train", "test", "unlabeled"):
        (folder / f"{part}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
    for part in ("train", "test"):
        (folder / f"{part}_y.bin").write_bytes(bytes([1, 10, 3]))
    (folder / "class_names.txt").write_text("\n".join(f"k{i}" for i in range(10)))
    train, unlabelled = open_source(tmp_path), open_source(tmp_path, "unlabelled")
    assert [train[i].label for i in range(3)] == [0, 9, 2]
    assert np.array_equal(train[1].data, images[1])
    assert train.class_names[9] == "k9"
    assert [unlabelled[i].label for i in range(3)] == [-1] * 3
    (folder / "train_X.bin").write_bytes(b"short")
    with pytest.raises(UserError, match="no multiple of 27648"):
        open_source(tmp_path)
    (folder / "test_X.bin").unlink()
    with pytest.raises(UserError, match=r"no test_X\.bin"):
        open_source(tmp_path, "val")
