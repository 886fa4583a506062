"""Images that a program has in hand, as a source: what each kind of item becomes, and what is refused."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision import transforms
from torchvision.datasets import FakeData, ImageFolder

from barlowctl.data.images.array_axes import bands_last
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.sources import open_source
from barlowctl.data.sources.in_memory import InMemory
from barlowctl.data.sources.items import Items
from barlowctl.errors import UserError

GREY = np.random.default_rng(0).integers(0, 256, (4, 9, 7), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (4, 9, 7, 3), np.uint8)


class Own(Dataset[Any]):
    """A data set of somebody's, whose item is what a function gives."""

    def __init__(self, item: Callable[[int], Any], length: int = 4) -> None:
        self.item, self.length, self.read = item, length, list[int]()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        return self.item(index)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of two classes, JPEGs and PNGs."""
    root = tmp_path_factory.mktemp("photos")
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir()
        for number in range(5):
            pixels = np.random.default_rng([label, number]).integers(0, 256, (12, 10, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    return root


def pixels(items: Items) -> list[np.ndarray]:
    pictures = Pictures(items)
    return [pictures.image(index) for index in range(len(items))]


@pytest.mark.parametrize(
    "item",
    [
        lambda i: Image.fromarray(COLOUR[i]),
        lambda i: COLOUR[i],
        lambda i: COLOUR[i].transpose(2, 0, 1),
        lambda i: torch.from_numpy(COLOUR[i]).permute(2, 0, 1),
        lambda i: transforms.ToTensor()(Image.fromarray(COLOUR[i])),
        lambda i: transforms.ToTensor()(Image.fromarray(COLOUR[i])).double(),
        lambda i: (Image.fromarray(COLOUR[i]), i % 2),
        lambda i: [COLOUR[i], torch.tensor(i % 2)],
        lambda i: (COLOUR[i], np.int64(i % 2), f"{i}.png"),
        lambda i: {"image": COLOUR[i], "label": i % 2},
        lambda i: {"fine_label": i % 2, "img": Image.fromarray(COLOUR[i])},
    ],
)
def test_items_of_every_form_are_the_same_pixels(item: Callable[[int], Any]) -> None:
    items = Items(Own(item))
    for made, expected in zip(pixels(items), COLOUR, strict=True):
        assert np.array_equal(made, expected)
    labelled = not isinstance(item(0), Image.Image | np.ndarray | torch.Tensor)
    assert [items.describe(i)[1] for i in range(4)] == ([0, 1, 0, 1] if labelled else [-1] * 4)
    assert items.class_names == (["0", "1"] if labelled else [])


def test_bands_of_an_array_are_its_shorter_end_as_in_files() -> None:
    bands = np.random.default_rng(2).integers(0, 256, (9, 7, 5), np.uint8)
    for array in (bands, bands.transpose(2, 0, 1)):
        assert np.array_equal(Items([array, array])[0].data, bands_last(array))
        assert np.array_equal(bands_last(array), bands)
    rows = COLOUR[0][:2]  # two of them, of three colours
    for image in (rows, torch.from_numpy(rows)):
        assert np.array_equal(Items([image])[0].data, rows)


def test_black_and_white_is_read_as_of_files() -> None:
    for image in (GREY[0] > 100, torch.from_numpy(GREY[0] > 100)):
        assert np.array_equal(Items([image])[0].data, (GREY[0] > 100) * np.uint8(255))


def test_two_images_are_no_image_and_its_labels() -> None:
    assert len(Items((GREY[0], GREY[1]))) == 2
    several = Items((GREY, np.ones((4, 3))))
    assert len(several) == 4
    assert "several labels an image" in several.scan_report.notes[0]


def test_every_level_of_a_float_tensor_of_0_to_1_is_its_level_of_8_bits() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for dtype in (torch.float32, torch.float64, torch.float16):
        tensor = (torch.from_numpy(levels).float() / 255).to(dtype)[None]
        assert np.array_equal(pixels(Items([tensor]))[0][..., 0], levels), dtype


@pytest.mark.parametrize(
    "images",
    [
        GREY,
        list(GREY),
        (GREY, [0, 1, 0, 1]),
        (GREY, np.array([[0], [1], [0], [1]])),
        (GREY, np.array([[1, 0], [0, 1], [1, 0], [0, 1]])),
        (list(GREY), torch.eye(2).repeat(2, 1)),
        (torch.from_numpy(GREY), torch.tensor([0, 1, 0, 1])),
        (list(map(Image.fromarray, GREY)), ("0", "1", "0", "1")),
        torch.from_numpy(GREY)[:, None],
        TensorDataset(torch.from_numpy(GREY)[:, None], torch.tensor([0, 1, 0, 1])),
        (image for image in GREY),
    ],
)
def test_arrays_lists_and_labels_beside_them(images: Any) -> None:
    items = Items(images)
    assert np.array_equal(np.stack(pixels(items))[..., 0], GREY)
    labels = [items.describe(i)[1] for i in range(4)]
    assert labels == ([0, 1, 0, 1] if isinstance(images, tuple | TensorDataset) else [-1] * 4)
    assert items.describe(2)[0] == "images[2]"


def test_an_image_folder_is_read_as_its_folder_is(photos: Path) -> None:
    """Bytes, names, labels and classes; no item is asked for."""
    dataset, folder = ImageFolder(photos), open_source(photos)
    items = Items(dataset)
    assert items.class_names == folder.class_names == ["cat", "dog"]
    for row in range(len(folder)):
        assert items.describe(row) == folder.describe(row)
        assert items[row].data == folder[row].data
    assert Pictures(items).fingerprint == Pictures(folder).fingerprint
    assert items.root == photos


def test_subsets_and_concatenations_of_image_folders_are_files_in_their_order(photos: Path) -> None:
    dataset = ImageFolder(photos)
    chosen = Items(Subset(dataset, [7, 0, 3]))
    assert [chosen.describe(i) for i in range(3)] == [("dog/2.jpg", 1), ("cat/0.jpg", 0), ("cat/3.png", 0)]
    assert (chosen.class_names, chosen.title, chosen.root) == (["cat", "dog"], "ImageFolder", None)
    both = Items(ConcatDataset([Subset(dataset, [9]), dataset]))
    assert [both.describe(i)[0] for i in (0, 1)] == ["dog/4.jpg", "cat/0.jpg"]
    assert both.file(0) == photos / "dog" / "4.jpg"
    transformed = ImageFolder(photos, transform=transforms.Resize(6))
    assert [image.shape for image in pixels(Items(transformed))[:1]] == [(7, 6, 3)]
    assert Items(transformed).describe(0) == ("images[0]", 0)
    assert Items(ConcatDataset([dataset, FakeData(2, (3, 8, 8), 2)])).class_names == ["0", "1"]


def test_class_names_are_those_of_the_data_set_unless_it_changes_its_labels(photos: Path) -> None:
    relabelled = ImageFolder(photos, target_transform=lambda label: 1 - label)
    assert Items(relabelled).class_names == ["0", "1"]
    assert Items(relabelled).describe(0)[1] == 1
    with_names = Own(lambda i: {"image": GREY[i], "label": i % 2})
    feature = type("ClassLabel", (), {"names": ["cat", "dog"]})()
    with_names.features = {"image": None, "label": feature}  # type: ignore[attr-defined]
    assert Items(with_names).class_names == ["cat", "dog"]
    words = Items(Own(lambda i: (GREY[i], "ba"[i % 2])))
    assert (words.class_names, words.describe(0)[1]) == (["a", "b"], 1)
    other = {"train": Own(lambda i: (GREY[i], "bac"[i % 3])), "test": Own(lambda i: (COLOUR[i], "c"))}
    assert InMemory(other).open("test").describe(0)[1] == 2
    fractions = Items(Own(lambda i: (GREY[i], i / 3)))
    assert fractions.describe(1)[1] == -1
    assert "targets of a regression" in fractions.scan_report.notes[0]
    masks = Items(Own(lambda i: (GREY[i], Image.fromarray(GREY[i]))))
    assert "several labels an image" in masks.scan_report.notes[0]


def test_what_a_data_set_raises_is_an_image_that_cannot_be_read() -> None:
    def item(index: int) -> Any:
        if index == 0:
            return open("gone.png")
        return {2: None, 1: GREY[index]}.get(index, GREY[index]) if index != 3 else dict[str, int]()["key"]

    line = item.__code__.co_firstlineno
    raised = f"KeyError: 'key', in {__file__}, line {line + 3}"
    labelled = Items(Own(lambda i: (item(i or 1), i)))
    assert [labelled.describe(i)[1] for i in range(4)] == [0, 1, 2, -1]
    assert labelled.scan_report.notes == [f"1 image cannot be read, and so without a label: images[3]: {raised}"]
    leaves = Own(lambda i: sys.exit("no more"))
    with pytest.raises(
        UserError, match=r"images\[0\]: RuntimeError: SystemExit\('no more'\), which would end .*, line \d+$"
    ):
        Pictures(Items(leaves)).image(0)
    pictures = Pictures(Items(Own(item)))
    assert np.array_equal(pictures.image(1)[..., 0], GREY[1])
    missing = "FileNotFoundError: [Errno 2] No such file or directory: 'gone.png'"
    for index, reason in ((2, "it is None"), (3, raised), (0, f"{missing}, in {__file__}, line {line + 2}")):
        with pytest.raises(UserError, match=rf"^Own: images\[{index}\] cannot be read: {re.escape(reason)}$"):
            pictures.image(index)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[int]:
        raise AssertionError("nothing is read")


class NoLength(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        raise AssertionError("nothing is read")


def normalised(index: int) -> torch.Tensor:
    return transforms.Normalize([0.5] * 3, [0.5] * 3)(transforms.ToTensor()(COLOUR[index]))


@pytest.mark.parametrize(
    ("images", "message", "advice"),
    [
        (Own(normalised), r"Own: images\[0\] has values from -0.984 to 1: it is normalised", "transform = None"),
        ([normalised(0)], "it is normalised already", "transform = None"),
        (
            Own(lambda i: transforms.RandomCrop(5)(Image.fromarray(COLOUR[i]))),
            r"Own: images\[\d\] is another image each time it is read, as by a random transform",
            "transform = None",
        ),
        (Own(lambda i: ([COLOUR[i], COLOUR[i]], 0)), r"images\[0\] is a list of 2: views", "transform = None"),
        (DataLoader(Own(lambda i: GREY[i])), "a DataLoader gives batches", "loader.dataset"),
        (Endless(), "an Endless is a stream", "list(dataset)"),
        (NoLength(), "images are a NoLength, which has no __len__", None),
        (Own(lambda i: GREY[i], 0), "there are no images", None),
        ([], "there are no images", None),
        (Own(lambda i: None), r"Own: no image of 4 can be read; images\[0\]: it is None", None),
        (Own(lambda i: {"x": 1}), "its keys are x, and none is called image", None),
        ((GREY, [0, 1]), "4 images and 2 labels", None),
        (5, "images are an int", None),
        (np.zeros((4, 4)), r"an ndarray of shape \(4, 4\) is no images", None),
        (
            ConcatDataset([type("A", (Own,), {"classes": ["a"]})(lambda i: GREY[i]),
                           type("B", (Own,), {"classes": ["b"]})(lambda i: GREY[i])]),
            "a ConcatDataset of different classes: a, and b",
            "labels are words",
        ),
    ],
)  # fmt: skip
def test_what_is_no_set_of_images_is_refused(images: Any, message: str, advice: str | None) -> None:
    with pytest.raises(UserError, match=message) as refused:
        Items(images)
    assert advice is None or advice in str(refused.value.next)


@pytest.mark.parametrize(
    "give",
    [normalised, lambda i: ([COLOUR[i], COLOUR[i]], 0), lambda i: COLOUR[i] + np.random.default_rng().integers(9)],
)
@pytest.mark.parametrize("within", [lambda dataset: dataset, lambda dataset: Subset(dataset, range(3))])
def test_a_transform_of_hugging_faces_is_taken_away_by_its_format(give: Any, within: Any) -> None:
    """Their data sets have no attribute `transform`: one that is set changes nothing."""

    class Dataset(Own):
        def reset_format(self) -> None: ...

    with pytest.raises(UserError) as refused:
        Items(within(Dataset(give)))
    assert str(refused.value.next).startswith("dataset.reset_format(); or a transform that gives the same")


def test_a_random_transform_that_the_first_looks_miss_is_seen_when_images_are_used() -> None:
    dataset = Own(lambda i: GREY[i % 4] + (len(dataset.read) > 200 and i == 77), 90)
    items = Items(dataset)
    assert len(dataset.read) < 120
    while len(dataset.read) <= 200:
        items[1]
    with pytest.raises(UserError, match=r"images\[77\] is another image each time"):
        items[77]


def test_of_measured_values_the_range_may_be_said() -> None:
    items = Items(Own(lambda i: GREY[i].astype(np.float32) - 100), ranged=True)
    assert len(items) == 4


def test_items_of_somebodys_code_are_read_by_one_thread_at_a_time() -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import get_ident
    from time import sleep

    inside = set[int]()

    def item(index: int) -> np.ndarray:
        inside.add(get_ident())
        sleep(0.002)
        assert inside == {get_ident()}
        inside.clear()
        return GREY[index % 4]

    items = Items(Own(item, 20))
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(items.__getitem__, range(20)))) == 20


def test_a_dictionary_has_splits() -> None:
    whole = InMemory({"train": GREY, "validation": COLOUR})
    assert len(whole.open("train")) == len(whole.open("test")) == 4
    assert whole.open("val") is whole.open("test")
    with pytest.raises(UserError, match="images has no test split"):
        InMemory(GREY).open("test")
    with pytest.raises(UserError, match="the keys image, label is no images by split") as refused:
        InMemory({"image": GREY, "label": [0]})
    assert "(images, labels)" in str(refused.value.allowed)


def test_encoded_files_in_memory_are_files(photos: Path) -> None:
    file = photos / "cat" / "0.jpg"
    expected = pixels(Items([file]))[0]
    for image in (file.read_bytes(), {"bytes": file.read_bytes(), "path": None}, {"bytes": None, "path": str(file)}):
        assert np.array_equal(pixels(Items([{"image": image}]))[0], expected)
    assert Items([os.fspath(file)]).file(0) == file
