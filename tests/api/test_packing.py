"""Images in memory where images are named: measured, packed, trained on, the same as by their name."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.models import resnet18

import barlowctl
from barlowctl.api import packing
from barlowctl.cli.app import run as command
from barlowctl.data import home
from barlowctl.data.beton.pack import pack
from barlowctl.data.beton.reader import Beton
from barlowctl.data.sources.items import Items
from barlowctl.data.sources.picture import Picked
from tests.api.test_network import without_places
from tests.api.test_pretrain import numbers, weights

SMALL = {
    "train": {"epochs": 1, "checkpoint_every_steps": 0, "batch_size": 8, "warmup_epochs": 0.0},
    "data": {"holdout": 4, "channels": 3},
    "views": {"mean": [0.5] * 3, "std": [0.25] * 3},
    "eval.bank": 10,
}


class Photos(Dataset[Any]):
    """The items of another data set, as a program writes a data set of its own."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        image, label = self.inner[index]
        return {"image": image, "label": label}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ with folders of two classes; JPEGs, and PNGs small enough to be stored as pixels."""
    root = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 12), ("test", 6)):
        for label, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng([label, number, count]).integers(0, 256, (24, 20 + number, 3), np.uint8)
                pixels //= 2 - label
                Image.fromarray(pixels).save(folder / f"{number:02}.{'png' if number % 2 else 'jpg'}")
    return root


@pytest.fixture
def network() -> barlowctl.Network:
    torch.manual_seed(0)
    return barlowctl.open_network(resnet18(), mean=[0.5] * 3, std=[0.25] * 3, size=32)


@pytest.fixture(autouse=True)
def own_home(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one that comes with `recipe`."""
    assert recipe.is_file()
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("BARLOWCTL_RUNS", str(tmp_path))


def test_features_of_an_image_folder_are_those_of_its_folder(photos: Path, network: barlowctl.Network) -> None:
    named, given = network.features(photos / "test"), network.features(ImageFolder(photos / "test"))
    assert np.array_equal(named.features, given.features)
    assert (named.names, named.class_names) == (given.names, given.class_names)
    assert np.array_equal(named.labels, given.labels)
    by_split = {"train": ImageFolder(photos / "train"), "test": ImageFolder(photos / "test")}
    assert np.array_equal(network.features(by_split, split="test").features, given.features)
    assert given.metadata["images"] == "ImageFolder"
    decoded = network.features(Photos(ImageFolder(photos / "test")))
    assert np.array_equal(decoded.features, given.features)
    assert np.array_equal(decoded.labels, given.labels)


def test_a_probe_of_image_folders_has_the_numbers_of_their_folder(photos: Path, network: barlowctl.Network) -> None:
    by_split = {name: ImageFolder(photos / name) for name in ("train", "test")}
    named, given = (network.probe(data, baselines=["pixels"]) for data in (photos, by_split))
    same = [without_places(dict(probed.values)) for probed in (named, given)]
    for values in same:
        del values["data"], values["identity"]
    assert same[0] == same[1]
    assert same[0]["knn"]["top1"] > 0
    assert given.file is not None
    assert given.file.name == "probe-ImageFolder.json"
    assert json.loads(given.file.read_text())["data"]["train"]["in_memory"] == "ImageFolder"
    with pytest.raises(barlowctl.UserError, match="ImageFolder has no test split") as refused:
        network.probe(by_split["train"])
    assert "hold_out=20" in str(refused.value.next)
    with pytest.raises(barlowctl.UserError, match="training and test images are the same"):
        network.probe({"train": by_split["train"], "test": by_split["train"]})


def test_packing_an_image_folder_writes_what_packing_its_folder_does(photos: Path, tmp_path: Path) -> None:
    assert command(["data", "pack", str(photos), "typed", "--quiet"]) == 0
    packed = barlowctl.pack({name: ImageFolder(photos / name) for name in ("train", "test")}, "called")
    assert repr(packed) == "Packed('called', train=24 images, test=12 images)"
    by_path = barlowctl.pack(str(photos), tmp_path / "path.beton", workers=1)
    typed, called = Beton.open(home.dataset_file("typed")), Beton.open(home.dataset_file("called"))
    assert typed.content_hash == called.content_hash == by_path.reports["train"].content_hash
    assert [typed.name_of(row) for row in range(24)] == [f"{called.name_of(row)}" for row in range(24)]
    assert called.class_names == ["cat", "dog"]
    assert called.info["kind"] == "images of torchvision.datasets.folder.ImageFolder"
    assert Beton.open(Path(by_path)).class_names == ["cat", "dog"]


def test_one_call_holds_images_out_and_packs_both_splits() -> None:
    images = FakeData(30, (3, 8, 8), 2)
    packed = barlowctl.pack(images, "held", hold_out=20)
    assert {split: report.samples for split, report in packed.reports.items()} == {"train": 24, "test": 6}
    assert (packed.data, home.available()) == ("held", {"held": ["test", "train"]})
    alone = barlowctl.pack(images, "alone", "test", hold_out=20)
    assert alone.reports["test"].content_hash == packed.reports["test"].content_hash


def test_a_split_that_is_packed_later_has_the_classes_of_the_training_split() -> None:
    image = np.zeros((8, 8), np.uint8)
    barlowctl.pack([(image + 1, "b"), (image, "a"), (image + 2, "c")], "words")
    barlowctl.pack([(image + 3, "c")], "words", "test")
    assert Beton.open(home.dataset_file("words", "test")).labels.tolist() == [2]
    with pytest.raises(barlowctl.UserError, match="has the class 'd', which the training set lacks"):
        barlowctl.pack([(image + 3, "d")], "words", "test", overwrite=True)


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(barlowctl.UserError) as error:
        call()
    return "\n".join([str(error.value), *error.value.__notes__])


def test_what_pack_refuses(photos: Path, tmp_path: Path) -> None:
    images, pack = FakeData(4, (3, 8, 8), 2), barlowctl.pack
    barlowctl.pack(images, "there")
    assert "next: overwrite=True, or another name" in refused(lambda: pack(images, "there"))
    by_split = {"train": images, "test": FakeData(4, (3, 9, 9), 2)}
    assert "next: barlowctl.pack(images, 'both')" in refused(lambda: pack(by_split, tmp_path / "both.beton"))
    assert "next: without split" in refused(lambda: pack(by_split, "both", "test"))
    assert "member is 'jpg', but FakeData is read as images of torchvision" in refused(
        lambda: pack(images, "x", member="jpg")
    )
    assert "hold_out is 20, but FakeData has held-out images: test" in refused(lambda: pack(by_split, "x", hold_out=20))
    assert "next: split='test'" in refused(lambda: pack(images, "x", "tset"))  # type: ignore[arg-type]
    damaged = [np.zeros((8, 8), np.uint8), None]
    assert "images[1] cannot be read: it is None" in refused(lambda: pack(damaged, "x"))
    assert not home.dataset_file("x").parent.exists()
    assert pack(damaged, "x", on_unreadable="skip").reports["train"].unreadable == [("images[1]", "it is None")]


def test_an_item_that_is_no_image_stops_a_run_and_a_probe_or_is_left_out(
    network: barlowctl.Network, recipe: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    items = [(image, index % 2) for index, image in enumerate(random.integers(0, 256, (40, 9, 9), np.uint8))]
    train, test = [(None, 0), *items[:30]], [*items[30:], (None, 1)]
    overrides = {**SMALL, "data": {"holdout": 4, "channels": 1}, "views": {}}
    message = r"images\[0\] cannot be read: it is None"
    with pytest.raises(barlowctl.UserError, match=message):
        barlowctl.pretrain(recipe, data=train, overrides=overrides, out=tmp_path / "run", threads=1)
    assert not (tmp_path / "run").exists()
    overrides["data"] = {"holdout": 4, "channels": 1, "on_unreadable": "replace"}
    run = barlowctl.pretrain(recipe, data=train, overrides=overrides, out=tmp_path / "run", threads=1)
    assert json.loads((run.path / "run.json").read_text())["data"]["images"] == 30
    by_split = {"train": train, "test": test}
    with pytest.raises(barlowctl.UserError, match=message):
        network.probe(by_split, measures=["knn"])
    probed = network.probe(by_split, measures=["knn"], on_unreadable="skip")
    assert [problem["name"] for problem in probed.values["unreadable"]] == ["images[0]", "images[10]"]


def test_training_on_an_image_folder_is_training_on_its_folder(photos: Path, recipe: Path, tmp_path: Path) -> None:
    runs = [
        barlowctl.pretrain(recipe, data=data, overrides=SMALL, out=tmp_path / str(number), threads=1)
        for number, data in enumerate((photos / "train", ImageFolder(photos / "train")))
    ]
    assert numbers(runs[0].path) == numbers(runs[1].path)
    assert weights(runs[0]) == weights(runs[1])
    recorded = [json.loads((run.path / "run.json").read_text())["data"] for run in runs]
    assert recorded[0] == recorded[1]
    assert not home.data_home().exists()


def test_training_on_a_data_set_is_training_on_it_packed_and_goes_on(
    photos: Path, recipe: Path, tmp_path: Path
) -> None:
    """Packed once: the run notes the name, and goes on from the command line."""
    dataset = Photos(ImageFolder(photos / "train"))
    packed = barlowctl.pack(dataset, "mine")
    expected = barlowctl.pretrain(recipe, data=packed, overrides=SMALL, out=tmp_path / "packed", threads=1)
    stopped = barlowctl.pretrain(
        recipe, data=dataset, overrides=SMALL, out=tmp_path / "given", threads=1, stop=stop_after(1)
    )
    assert not stopped.finished
    recorded = json.loads((stopped.path / "run.json").read_text())["data"]
    (name,) = set(home.available()) - {"mine"}
    assert name.startswith("Photos-")
    assert recorded["dataset"] == name
    assert recorded["content_hash"] == packed.reports["train"].content_hash
    file = home.dataset_file(name)
    written = file.stat().st_mtime_ns
    assert command(["pretrain", "--resume", str(stopped.path), "--quiet"]) == 0
    assert numbers(stopped.path)[-1] == numbers(expected.path)[-1]
    assert weights(stopped) == weights(expected)
    again = barlowctl.pretrain(recipe, data=dataset, overrides=SMALL, out=tmp_path / "again", threads=1)
    assert weights(again) == weights(expected)
    assert file.stat().st_mtime_ns == written
    assert set(home.available()) == {"mine", name}


def stop_after(steps: int) -> Callable[[], bool]:
    more = iter(range(steps))
    return lambda: next(more, None) is None


def test_a_run_on_splits_is_measured_on_its_own_images(photos: Path, recipe: Path, tmp_path: Path) -> None:
    by_split = {name: Photos(ImageFolder(photos / name)) for name in ("train", "test")}
    run = barlowctl.pretrain(recipe, data=by_split, overrides=SMALL, out=tmp_path / "run", threads=1)
    assert run.probe(measures=["knn"]).values["data"]["test"]["images"] == 12
    other = Photos(Subset(by_split["train"].inner, range(20)))
    with pytest.raises(barlowctl.UserError, match="is finished"):
        barlowctl.pretrain(resume=run, data=other)


def test_a_run_does_not_go_on_with_other_images(photos: Path, recipe: Path, tmp_path: Path) -> None:
    dataset = Photos(ImageFolder(photos / "train"))
    stopped = barlowctl.pretrain(
        recipe, data=dataset, overrides=SMALL, out=tmp_path / "run", threads=1, stop=stop_after(1)
    )
    with pytest.raises(barlowctl.UserError, match="images"):
        barlowctl.pretrain(resume=stopped, data=Photos(Subset(dataset.inner, range(20))), threads=1)
    assert barlowctl.pretrain(resume=stopped, data=dataset, threads=1).finished


def test_a_recipe_that_cannot_be_is_refused_before_images_are_packed(recipe: Path) -> None:
    class Untouched(Photos):
        def __getitem__(self, index: int) -> Any:
            raise AssertionError("no image is read")

    with pytest.raises(barlowctl.UserError, match="epochs"):
        barlowctl.pretrain(recipe, data=Untouched([1]), overrides={"train.epochs": -1})
    assert "a DataLoader gives batches" in refused(lambda: barlowctl.pretrain(recipe, data=DataLoader(Photos([1]))))


def test_several_processes_are_refused_with_the_call_that_packs(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29999")
    text = refused(lambda: barlowctl.pretrain(recipe, data=FakeData(8, (3, 8, 8)), overrides=SMALL))
    assert "each of 2 processes would pack them" in text
    assert "barlowctl.pack(dataset, 'NAME')" in text


def test_a_preview_is_the_commands_picture(photos: Path, recipe: Path, tmp_path: Path) -> None:
    """Of images in memory too, whatever they are."""
    out = tmp_path / "typed.png"
    arguments = ["--recipe", str(recipe), "--data", str(photos / "train"), "--out", str(out), "--samples", "3"]
    assert command(["data", "preview", *arguments, "--quiet"]) == 0
    expected = np.asarray(Image.open(out))
    own: Any = Photos(ImageFolder(photos / "train"))
    own.classes = own.inner.classes
    for data in (photos / "train", own.inner, own):
        assert np.array_equal(np.asarray(barlowctl.preview(recipe, data, samples=3)), expected)
    with pytest.raises(barlowctl.UserError, match=r"images of images have 5 bands, and data\.channels is 1"):
        barlowctl.preview(recipe, np.zeros((4, 9, 9, 5), np.uint8))
    assert not home.data_home().exists()


@pytest.mark.parametrize(
    "images", [lambda root: Photos(ImageFolder(root / "train")), lambda root: sorted(root.glob("train/*/*"))]
)
def test_what_a_refused_run_made_in_the_data_home_is_removed(
    recipe: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Callable[[Path], Any]
) -> None:
    """Packed images and folders of links; what an earlier run has made there stays, and so does what a run needs."""
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    given = images(photos)

    def made() -> list[str]:
        return sorted(str(path.relative_to(tmp_path / "home")) for path in (tmp_path / "home").rglob("*"))

    too_many = {**SMALL, "data.holdout": 1000}
    for _ in range(2):
        with pytest.raises(barlowctl.UserError):
            barlowctl.pretrain(recipe, data=given, overrides=too_many, out=tmp_path / "refused", threads=1)
        assert made() == []
    barlowctl.pretrain(recipe, data=given, overrides=SMALL, out=tmp_path / "run", threads=1)
    needed = made()
    assert needed
    with pytest.raises(barlowctl.UserError):
        barlowctl.pretrain(recipe, data=given, overrides=too_many, out=tmp_path / "refused", threads=1)
    assert made() == needed


def test_a_split_that_was_packed_before_another_was_refused_is_removed(
    recipe: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    written, write = list[Path](), packing.write_packed

    def write_once(items: Any, target: Path, **options: Any) -> Any:
        if written:
            raise barlowctl.UserError("no room")
        written.append(target)
        return write(items, target, **options)

    monkeypatch.setattr(packing, "write_packed", write_once)
    splits = {split: Photos(ImageFolder(photos / split)) for split in ("train", "test")}
    with pytest.raises(barlowctl.UserError, match="no room"):
        barlowctl.pretrain(recipe, data=splits, overrides=SMALL, out=tmp_path / "refused", threads=1)
    assert written
    assert list((tmp_path / "home").rglob("*")) == []


class Database(Photos):
    """Items of a data base: sqlite3 lets the thread that has opened a connection read it, and no other."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._connection = sqlite3.connect(":memory:")

    def __getitem__(self, index: int) -> Any:
        self._connection.execute("select 1")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_data_set_that_belongs_to_one_thread_is_read_by_it(photos: Path, tmp_path: Path, workers: int) -> None:
    inner = ImageFolder(str(photos / "train"))
    files = [pack(Items(of(inner)), tmp_path / f"{of.__name__}.beton", workers=workers) for of in (Database, Photos)]
    assert files[0].content_hash == files[1].content_hash
    assert (files[0].samples, files[0].unreadable) == (24, [])
    some = Picked(Items(Database(inner)), np.array([5, 3]))
    assert pack(some, tmp_path / "some.beton", workers=workers).samples == 2


def test_items_that_raise_are_named_in_order_where_the_thread_that_packs_reads(photos: Path, tmp_path: Path) -> None:
    inner = ImageFolder(str(photos / "train"))

    class Gaps(Photos):
        def __getitem__(self, index: int) -> Any:
            if index in (3, 8):
                raise KeyError(index)
            return super().__getitem__(index)

    report = pack(Items(Gaps(inner)), tmp_path / "gaps.beton", on_unreadable="skip")
    assert [name for name, _ in report.unreadable] == ["images[3]", "images[8]"]
    assert (report.samples, "KeyError: 3" in report.unreadable[0][1]) == (22, True)
