"""Every data set that has a name here: what it is and how large. A leaf: plain values, standard library only.

Read by everything that must know: what `data get` brings, the sizes of a plan made before the images are there, the
evaluation's default crop, the benchmarks of `transfer`. How files are found and read is in `data/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What is published of a data set.

    Attributes:
        name: in the data home, in recipes and on the command line.
        title: as people write it.
        access: "download": `data get` brings it; "own copy": nobody may hand it out, it is packed from the user's;
            "benchmark": read by `transfer` where it lies, in its published layout; "detection": so too, its objects
            have boxes.
        images: split -> number of images, in the order of the splits.
        classes: number of classes.
        class_names: in the order of the labels; empty where the data set's own files name them.
        mean, std: per channel, of training pixels in [0, 1], as the field normalises with; empty where nothing here
            reads them.
        hub: its identifier on the Hugging Face Hub; empty where nobody there is known to keep it as published.
        resize, crop: as the field evaluates: shorter side, then side of the central square, in pixels; 0 as above.
    """

    name: str
    title: str
    access: Literal["download", "own copy", "benchmark", "detection"]
    images: Mapping[str, int]
    classes: int
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    hub: str = ""
    resize: int = 0
    crop: int = 0

    @property
    def held_out(self) -> int:
        """Number of images of the split that is measured on."""
        return self.images["test" if "test" in self.images else "val"]


# Xiao et al. 2017, arXiv 1708.07747.
FASHION_MNIST = Dataset(
    name="fashion-mnist", title="Fashion-MNIST", access="download",
    images={"train": 60_000, "test": 10_000}, classes=10,
    class_names=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    mean=(0.286,), std=(0.353,),
    hub="zalando-datasets/fashion_mnist",
)  # fmt: skip
# Krizhevsky 2009, "Learning multiple layers of features from tiny images".
CIFAR10 = Dataset(
    name="cifar10", title="CIFAR-10", access="download",
    images={"train": 50_000, "test": 10_000}, classes=10,
    mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616), resize=32, crop=32,
    hub="uoft-cs/cifar10",
)  # fmt: skip
CIFAR100 = Dataset(
    name="cifar100", title="CIFAR-100", access="download",
    images={"train": 50_000, "test": 10_000}, classes=100,
    hub="uoft-cs/cifar100",
)  # fmt: skip
# Coates et al. 2011, "An analysis of single-layer networks in unsupervised feature learning".
STL10 = Dataset(
    name="stl10", title="STL-10", access="download",
    images={"train": 5_000, "test": 8_000, "unlabelled": 100_000}, classes=10,
)  # fmt: skip
# github.com/fastai/imagenette, its second edition.
IMAGENETTE = Dataset(
    name="imagenette", title="Imagenette", access="download",
    images={"train": 9_469, "val": 3_925}, classes=10,
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),  # ImageNet's, of which it is a part
    hub="frgfm/imagenette",
    class_names=(
        "tench", "English springer", "cassette player", "chain saw", "church", "French horn", "garbage truck",
        "gas pump", "golf ball", "parachute",
    ),
)  # fmt: skip
# Russakovsky et al. 2015, arXiv 1409.0575: ILSVRC 2012.
IMAGENET = Dataset(
    name="imagenet", title="ImageNet", access="own copy",
    images={"train": 1_281_167, "val": 50_000}, classes=1000,
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize=256, crop=224,
    hub="ILSVRC/imagenet-1k",
)  # fmt: skip
# The 100 classes of Tian et al. 2019, arXiv 1906.05849.
IMAGENET100 = Dataset(
    name="imagenet100", title="ImageNet-100", access="own copy",
    images={"train": 126_689, "val": 5_000}, classes=100,
    mean=IMAGENET.mean, std=IMAGENET.std, resize=IMAGENET.resize, crop=IMAGENET.crop,
)  # fmt: skip
# Zhou et al. 2014, "Learning deep features for scene recognition using Places database".
PLACES205 = Dataset(
    name="places205", title="Places-205", access="benchmark",
    images={"train": 2_448_873, "val": 20_500}, classes=205,
)  # fmt: skip
# Van Horn et al. 2018, arXiv 1707.06642, and the challenge of 2018.
INAT18 = Dataset(
    name="inat18", title="iNaturalist 2018", access="benchmark",
    images={"train": 437_513, "val": 24_426}, classes=8142,
)  # fmt: skip
# Everingham et al. 2010, "The Pascal visual object classes (VOC) challenge"; an image may have several classes.
VOC07 = Dataset(
    name="voc07", title="VOC 2007", access="benchmark",
    images={"trainval": 5_011, "test": 4_952}, classes=20,
    class_names=(
        "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
        "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    ),
)  # fmt: skip
# Training on trainval of 2007 and of 2012, test on 2007's test.
VOC0712 = Dataset(
    name="voc0712", title="VOC 2007 + 2012", access="detection",
    images={"train": 16_551, "test": 4_952}, classes=20, class_names=VOC07.class_names,
)  # fmt: skip
# Lin et al. 2014, arXiv 1405.0312: the splits of 2017.
COCO = Dataset(
    name="coco", title="COCO 2017", access="detection",
    images={"train": 118_287, "val": 5_000}, classes=80,
)  # fmt: skip

DATASETS = {
    dataset.name: dataset
    for dataset in (
        FASHION_MNIST, CIFAR10, CIFAR100, STL10, IMAGENETTE, IMAGENET, IMAGENET100, PLACES205, INAT18, VOC07,
        VOC0712, COCO,
    )
}  # fmt: skip


def _with_access(access: str) -> tuple[str, ...]:
    return tuple(name for name, dataset in DATASETS.items() if dataset.access == access)


DOWNLOADABLE = _with_access("download")
"""What `barlowctl data get` brings."""
TO_BE_PACKED = _with_access("own copy")
"""What recipes name and nobody may hand out: packed from the user's own copy."""
BENCHMARKS = _with_access("benchmark")
"""Tasks of `barlowctl transfer` that are read where they lie."""
DETECTION = _with_access("detection")
"""Tasks of `barlowctl transfer` that train a detector."""


def training_images(name: str) -> int | None:
    """The published number of training images of a data set; None where it is not known here, or has no such split."""
    dataset = DATASETS.get(name)
    return dataset.images.get("train") if dataset else None
