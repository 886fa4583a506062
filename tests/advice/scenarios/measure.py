"""Networks that are measured, and images that are embedded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from barlowctl import memory
from barlowctl.bench import photographs
from barlowctl.cli.app import run as barlowctl
from barlowctl.datasets import VOC07
from barlowctl.errors import RunDiverged
from tests.advice.scenario import Scenario
from tests.advice.scenarios.data import archive, changed, deep, deep_bands_and_others, packed_jpegs
from tests.advice.scenarios.training import failing

Patch = pytest.MonkeyPatch
SMALL = ["--set", "eval.resize=16", "--set", "eval.crop=16", "--threads", "1"]
EMBED = ["embed", "test_resnet", "one folder", *SMALL]
PROBE = ["probe", "runs/done", "--threads", "1"]
BENCH = ["bench", "loader", "--samples", "8", "--rounds", "1", "--per-round", "8", "--size", "16", "--rows", "ours"]
STEP = [
    "bench",
    "profile",
    "--backbone",
    "test_resnet",
    "--size",
    "32",
    "--batch",
    "16",
    "--steps",
    "1",
    "--warmup",
    "0",
]
TWO_CHANNELS = [
    *STEP[2:],
    *("--rows", "ours", "--rounds", "1", "--widths", "16x2", "--set", "data.channels=2"),
    *("--set", "views.mean=[0.5, 0.5]", "--set", "views.std=[0.2, 0.2]"),
]
QUICK = ["--recipe", "quickstart", "--widths", "16x2"]
TRAINED = ["--set", "epochs=1"]
MODERN = ["--finetune-protocol", "modern", *TRAINED]


def one_class(patch: Patch) -> None:
    for split in ("train", "test"):
        shutil.copytree(f"my images/{split}/a", f"one class/{split}/a")


def without_labels(patch: Patch) -> None:
    for split in ("train", "test"):
        shutil.copytree(f"my images/{split}/a", f"no classes/{split}")


def alone(patch: Patch) -> None:
    Path("alone").mkdir()
    shutil.copy("one folder/0.png", "alone")


def the_same(patch: Patch) -> None:
    shutil.copytree("my images/train", "the same/train")
    shutil.copytree("my images/train", "the same/test")


def listed(*names: str) -> Callable[[Patch], object]:
    return lambda patch: Path("names.txt").write_text("".join(f"{name}\n" for name in names))


def of_memory(size: int) -> Callable[[Patch], object]:
    return lambda patch: patch.setattr(memory, "total", lambda: size)


def a_small_disk(patch: Patch) -> None:
    patch.setattr(photographs, "free_bytes", lambda folder: 4_000_000)


def there(*names: str) -> Callable[[Patch], object]:
    """Files that are no results of ours."""
    return lambda patch: [Image.new("RGB", (8, 8)).save(name, "png") for name in names]


def deep_beside_others(patch: Patch) -> None:
    deep(patch)
    shutil.copy("one folder/0.png", "scans/b.png")


def no_room_for_notes(patch: Patch) -> None:
    """A disk that is full when a training begins, and not before: its folder is there already."""
    from barlowctl import files

    left, write_bytes = [OSError(28, "No space left on device")], files.write_bytes

    def write(path: Path, content: bytes, **options: Any) -> None:
        if path.name == "run.json" and left:
            raise left.pop()
        write_bytes(path, content, **options)

    patch.setattr(files, "write_bytes", write)


def trained_and_damaged(patch: Patch) -> None:
    """A classifier whose checkpoints are no files any more."""
    assert barlowctl([*PROBE, "--linear", "--protocol", "paper", *TRAINED, "--quiet"]) == 0
    (folder,) = (file.parent for file in Path("runs/done/probe-digits").rglob("scores.safetensors"))
    (folder / "result.json").unlink()
    for file in (folder / "checkpoints").rglob("*.safetensors"):
        file.write_bytes(b"nothing")


def training_alone(patch: Patch) -> None:
    assert barlowctl(["data", "pack", "my images", "./training/train.beton", "--quiet"]) == 0


def packed_alone(*options: str) -> Callable[[Patch], object]:
    """The training images in the data home as `alone`, without a test split."""
    return lambda patch: barlowctl(["data", "pack", "my images/train", "alone", *options, "--quiet"])


def shards_alone(patch: Patch) -> None:
    """Labelled images in a tar file, without a test split."""
    Path("shards").mkdir()
    for label in "ab":
        for number in range(3):
            for ending in ("png", "cls"):
                file = Path(f"samples/{label}{number}.{ending}")
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(Path(f"my images/train/{label}/{number}.png").read_bytes())
            file.write_text(str("ab".index(label)))
    archive("shards/0.tar", source="samples")(patch)


def packed_splits(patch: Patch) -> None:
    """Both splits as packed files of a folder."""
    for split in ("train", "test"):
        assert barlowctl(["data", "pack", "my images", f"./both/{split}.beton", "--split", split, "--quiet"]) == 0


def wrong_data(patch: Patch) -> None:
    """Half of an image, in a folder that is probed on."""
    shutil.copytree("my images", "half")
    whole = Path("half/train/a/0.png").read_bytes()
    Path("half/train/a/0.png").write_bytes(whole[: len(whole) // 2])


def voc07_of_few(patch: Patch) -> None:
    """VOC2007 with three pictures of each class to train on and one to test on."""
    lists = Path("VOCdevkit/VOC2007/ImageSets/Main")
    lists.mkdir(parents=True)
    pictures = lists.parent.parent / "JPEGImages"
    pictures.mkdir()
    for split, names in (("trainval", range(60)), ("test", range(60, 80))):
        for name in names:
            Image.new("RGB", (16, 16), (3 * name, 12 * (name % 20), 90)).save(pictures / f"{name}.jpg")
        for number, label in enumerate(VOC07.class_names):
            lines = [f"{name} {1 if name % 20 == number else -1}\n" for name in names]
            (lists / f"{label}_{split}.txt").write_text("".join(lines))


def voc07_without_an_image(patch: Patch) -> None:
    """Its lists have one more than there is."""
    voc07_of_few(patch)
    for file in Path("VOCdevkit/VOC2007/ImageSets/Main").glob("*_trainval.txt"):
        with file.open("a") as listed:
            listed.write(f"999999 {1 if file.name.startswith('cat_') else -1:2d}\n")


def inat18_of_few(patch: Patch) -> None:
    """iNaturalist 2018 with four pictures of two classes to train on and as many to test on."""
    images = Path("inat/train_val2018")
    images.mkdir(parents=True)
    for split, names in (("train", range(8)), ("val", range(8, 16))):
        for name in names:
            Image.new("RGB", (16, 16), (15 * name, 120 * (name % 2), 90)).save(images / f"{name}.jpg")
        document = {
            "images": [{"id": name, "file_name": f"train_val2018/{name}.jpg"} for name in names],
            "annotations": [{"image_id": name, "category_id": name % 2} for name in names],
            "categories": [{"id": number} for number in (0, 1)],
        }
        Path(f"inat/{split}2018.json").write_text(json.dumps(document))


def no_photographs(patch: Patch) -> None:
    """A machine without scikit-image and scikit-learn, and with JPEGs."""
    from barlowctl.bench import photographs

    packed_jpegs(patch)
    patch.setattr(photographs, "_photographs", list)


SCENARIOS = {
    "backbone of a timm name": Scenario([*EMBED, "--backbone", "resnet18", "--out", "features.npz"]),
    "stem of a timm name": Scenario([*EMBED, "--set", "model.stem=cifar", "--out", "features.npz"]),
    "no repository on the Hub": Scenario(["probe", "hf-hub:", "--data", "digits"]),
    "embed nothing": Scenario(EMBED),
    "one photo": Scenario(["embed", "test_resnet", "./one folder/0.png", "--out", "f.npz", *SMALL]),
    "images named twice": Scenario(
        ["embed", "test_resnet", "one folder", "--data", "my images", "--out", "f.npz", *SMALL]
    ),
    "features there": Scenario([*EMBED, "--out", "f.npz"], lambda patch: Path("f.npz").touch()),
    "map there": Scenario(["embed", "test_resnet", "my images", *SMALL, "--map", "m.png"], there("m.png")),
    "neighbours there": Scenario([*EMBED, "--neighbours", "0", "--neighbours-out", "n.png"], there("n.png")),
    "unreadable image to embed": Scenario(["embed", "test_resnet", "with a bad one", "--out", "f.npz", *SMALL]),
    "range not said, to embed": Scenario(
        ["embed", "test_resnet", "scans", "--out", "f.npz", *SMALL],
        deep_beside_others,
        slow=True,
    ),
    "bands and range not said, to embed": Scenario(
        ["embed", "test_resnet", "cubes", "--out", "f.npz", *SMALL], deep_bands_and_others, slow=True
    ),
    "damaged packed file": Scenario(
        ["embed", "test_resnet", "photos.beton", "--out", "f.npz", *SMALL], changed("an image"), then="cannot be read"
    ),
    "crop too small": Scenario(
        ["embed", "vit_tiny_patch16_224", "one folder", "--out", "f.npz", "--set", "eval.crop=32", "--threads", "1"],
        slow=True,
    ),
    "no such run to embed with": Scenario(["embed", "runs/none", "one folder", "--out", "f.npz"]),
    "no such network": Scenario(["embed", "resnet1001", "one folder", "--out", "f.npz"]),
    "no data to probe on": Scenario(["probe", "test_resnet", "--knn", *SMALL]),
    "no room for the notes of a training": Scenario([*PROBE, "--finetune", *TRAINED], no_room_for_notes, slow=True),
    "pooling that the family lacks": Scenario([*PROBE, "--set", "model.pooling=token"]),
    "one class": Scenario([*PROBE, "--data", "one class"], one_class),
    "LiDAR of an image": Scenario([*PROBE, "--data", "alone", "--lidar"], alone),
    "LiDAR of no run": Scenario(["probe", "test_resnet", "--data", "digits", "--lidar", *SMALL]),
    "no labels": Scenario([*PROBE, "--data", "no classes"], without_labels),
    "same images": Scenario([*PROBE, "--data", "the same"], the_same),
    "no test images of classes": Scenario([*PROBE, "--data", "./my images/train"]),
    "a benchmark as images": Scenario([*PROBE, "--data", "VOCdevkit"], voc07_of_few),
    "no test images": Scenario([*PROBE, "--data", "./one folder"]),
    "no such protocol value": Scenario(
        [*PROBE, "--set", "lr_heads=3"], then="changes a protocol that is not asked for"
    ),
    "no such protocol values": Scenario(
        [*PROBE, "--set", "xyz=3", "--set", "epochs=0", "--set", "lr_haed=1"],
        then="changes a protocol that is not asked for",
    ),
    "no protocol value at all": Scenario([*PROBE, "--set", "xyz=3"]),
    "packed training images alone": Scenario([*PROBE, "--data", "./training"], training_alone),
    "packed images without a test split": Scenario(
        [*PROBE, "--data", "alone"], packed_alone(), then="data set 'alone-2' has no test split"
    ),
    "packed images whose held-out part is not packed": Scenario(
        [*PROBE, "--data", "alone"], packed_alone("--hold-out", "20")
    ),
    "shards without a test split": Scenario([*PROBE, "--data", "./shards"], shards_alone, then="are the same"),
    "packed training images of two splits": Scenario([*PROBE, "--data", "./both/train.beton"], packed_splits),
    "protocol not asked for": Scenario([*PROBE, *TRAINED]),
    "classifier damaged": Scenario([*PROBE, "--linear", "--protocol", "paper", *TRAINED], trained_and_damaged),
    "patches of no kind": Scenario([*EMBED, "--patches", "maps.npz"]),
    "layer that is not there": Scenario([*EMBED, "--patches", "m.png", "--layer", "9"]),
    "layer of nothing": Scenario([*EMBED, "--layer", "2"]),
    "patches that are there": Scenario([*EMBED, "--patches", "m.safetensors"], there("m.safetensors")),
    "image size that does not fit": Scenario(
        ["embed", "pit_ti_224", "one folder", "--patches", "m.png", "--image-size", "64", "--threads", "1"]
    ),
    "nothing to fine-tune": Scenario([*PROBE, "--data", "my images", *MODERN]),
    "warm-up too long": Scenario(
        [*PROBE, "--data", "my images", "--finetune", *MODERN, "--set", "warmup_epochs=4"],
    ),
    "value that changes nothing": Scenario(
        [*PROBE, "--data", "my images", "--finetune", *TRAINED, "--set", "mixup_prob=0.5"]
    ),
    "no drop path": Scenario(["probe", "ghostnet_050", "--data", "my images", "--finetune", *MODERN, *SMALL]),
    "layers without names": Scenario(
        ["probe", "pit_ti_224", "--data", "my images", "--finetune", *MODERN, "--threads", "1"], slow=True
    ),
    "diverges": Scenario(
        [*PROBE, "--linear", "--protocol", "paper", *TRAINED],
        failing("barlowctl.measure.classification.engine.train", RunDiverged("the loss is nan at step 3")),
    ),
    "list of no subset": Scenario(
        [*PROBE, "--semi-list", "names.txt", *TRAINED, "--data", "my images"],
        listed("0.png", "a/1.png", "b/1.png"),
        then="more than one image has that name",
    ),
    "list of two subsets": Scenario(
        [*PROBE, "--semi", "1", "--semi", "10", "--semi-list", "names.txt", *TRAINED, "--data", "my images"],
        listed("0.png", "a/1.png", "b/1.png"),
        then="more than one image has that name",
    ),
    "no memory to probe": Scenario(
        PROBE, failing("barlowctl.measure.probing._probe", torch.OutOfMemoryError("Tried to allocate 9 GiB"))
    ),
    "unreadable image to probe on": Scenario([*PROBE, "--data", "half"], wrong_data),
    "flag of another task": Scenario(["transfer", "runs/done", "--cost", "1", "--protocol", "fast", "--threads", "1"]),
    "untrained network beside features": Scenario(["transfer", "runs/done", "--random-init", "--threads", "1"]),
    "too few for so many positives": Scenario(
        ["transfer", "runs/done", "--task", "voc07", "--data", "VOCdevkit", "--low-shot", "--cost", "1"], voc07_of_few
    ),
    "folder of another benchmark": Scenario(
        ["transfer", "runs/done", "--data", "inat", "--set", "epochs=1", "--protocol", "paper", "--threads", "1"],
        inat18_of_few,
    ),
    "benchmark without an image": Scenario(
        ["transfer", "runs/done", "--task", "voc07", "--data", "VOCdevkit", "--cost", "1"], voc07_without_an_image
    ),
    "benchmark not there": Scenario(["transfer", "runs/done", "--task", "voc07"], then="VOCtrainval"),
    "no JPEG of two channels": Scenario(["bench", "step", *TWO_CHANNELS, "--loading"], slow=True),
    "nothing to bench with": Scenario(BENCH, no_photographs, slow=True),
    "no JPEGs to bench with": Scenario([*BENCH, "--data", "my images"], slow=True),
    "trace of a profile": Scenario(
        [*STEP, "--widths", "16x2", "--trace", "there.json"], lambda patch: Path("there.json").touch(), slow=True
    ),
    "widths of a step": Scenario([*STEP, "--widths", "wide"], slow=True),
    "rows of a bench": Scenario([*BENCH[:-1], "our"], slow=True),
    "batch too large": Scenario(
        ["bench", "profile", *QUICK, "--steps", "1", "--warmup", "0", "--batch", "9000"], of_memory(2**28), slow=True
    ),
    "sizes too large": Scenario(
        ["bench", "loss", "--sizes", "16x100000", "--rounds", "1", "--rows", "ours"], of_memory(2**34), slow=True
    ),
    "samples too many": Scenario([*BENCH, "--samples", "100"], a_small_disk, slow=True),
    "rows of commas": Scenario(["bench", "loss", "--sizes", "64x64", "--rounds", "1", "--rows", ","], slow=True),
    "fp16 on a CPU": Scenario([*STEP, "--precision", "fp16"], slow=True),
    "rows of a loss": Scenario(["bench", "loss", "--sizes", "64x64", "--rounds", "1", "--rows", "our"], slow=True),
}
