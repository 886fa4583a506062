"""Other ways to make two views of each image with torch's DataLoader, each written as its own users write it.

Every function takes a `LoaderTask` and returns a function that runs one round and says how many images it made.
All make two 224 x 224 views with the paper's distortions; where a library's own differ, its docstring says so.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch

from barlowctl.bench.loader_task import LoaderTask, Round, data_loader
from barlowctl.datasets import IMAGENET

MEAN, STD = IMAGENET.mean, IMAGENET.std


# ---- the authors' pipeline: PIL, ImageFolder, DataLoader (section 2.2 and appendix A of the paper) -------


class PillowBlur:
    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: Any) -> Any:
        from PIL import ImageFilter

        if random.random() >= self.p:
            return image
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class PillowSolarize:
    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: Any) -> Any:
        from PIL import ImageOps

        return ImageOps.solarize(image) if random.random() < self.p else image


class TwoViews:
    """An image -> both its views."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second

    def __call__(self, image: Any) -> tuple[Any, Any]:
        return self.first(image), self.second(image)


def authors(task: LoaderTask) -> Round:
    """Float tensors, normalised."""
    return data_loader(authors_images(task), task)


def authors_images(task: LoaderTask) -> Any:
    """Images with their views and labels."""
    from torchvision import datasets
    from torchvision import transforms as T

    def view(blur: float, solarize: float) -> Any:
        return T.Compose(
            [
                T.RandomResizedCrop(task.size, interpolation=T.InterpolationMode.BICUBIC),
                T.RandomHorizontalFlip(),
                T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
                T.RandomGrayscale(0.2),
                PillowBlur(blur),
                PillowSolarize(solarize),
                T.ToTensor(),
                T.Normalize(MEAN[: task.channels], STD[: task.channels]),
            ]
        )

    return datasets.ImageFolder(str(task.folder), TwoViews(view(1.0, 0.0), view(0.1, 0.2)), loader=_reader(task))


# ---- torchvision's second version of its transforms, on uint8 tensors ------------------------------------


def read_tensor(path: str) -> torch.Tensor:
    """uint8 (3, H, W) of a JPEG file."""
    from torchvision.io import ImageReadMode, decode_image, read_file

    return decode_image(read_file(path), ImageReadMode.RGB)


def torchvision_v2(task: LoaderTask) -> Round:
    """Float tensors, normalised. Blur has torchvision's fixed kernel size, 13: the taps of the largest sigma."""
    from torchvision import datasets
    from torchvision.transforms import InterpolationMode, v2

    def view(blur: float, solarize: float) -> Any:
        return v2.Compose(
            [
                v2.RandomResizedCrop(task.size, interpolation=InterpolationMode.BICUBIC, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
                v2.RandomGrayscale(0.2),
                v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], p=blur),
                v2.RandomSolarize(128, solarize),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    transform = TwoViews(view(1.0, 0.0), view(0.1, 0.2))
    return data_loader(datasets.ImageFolder(str(task.folder), transform, loader=read_tensor), task)


# ---- lightly -------------------------------------------------------------------------------------------


def lightly(task: LoaderTask) -> Round:
    """Its BYOLTransform, which its documentation gives for Barlow Twins too, at its defaults except for the size."""
    return data_loader(lightly_images(task), task)


def lightly_images(task: LoaderTask) -> Any:
    """Images with their views and labels."""
    from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform
    from torchvision import datasets

    own = {
        "input_size": task.size,
        "normalize": {"mean": MEAN[: task.channels], "std": STD[: task.channels]},  # its default, if of three channels
    }
    transform = BYOLTransform(BYOLView1Transform(**own), BYOLView2Transform(**own))
    return datasets.ImageFolder(str(task.folder), transform, loader=_reader(task))


def _reader(task: LoaderTask) -> Callable[[str], Any]:
    """torchvision's reader of a file; of a network for grey images one that reads them grey, as of its MNIST."""
    from PIL import Image
    from torchvision.datasets.folder import default_loader

    def grey(path: str) -> Any:
        with Image.open(path) as image:
            return image.convert("L")

    return grey if task.channels == 1 else default_loader
