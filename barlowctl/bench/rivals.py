"""The other ways to make two views of each image, each written as its own users write it.

Every function takes a `Task` and returns a function that runs one round and says how many images it made.
All make two 224 x 224 views with the paper's distortions; where a library's own differ, its docstring says so.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from barlowctl.data.views.spec import ViewSpec
from barlowctl.datasets import IMAGENET

MEAN, STD = IMAGENET.mean, IMAGENET.std
IN_FLIGHT = 2  # batches that DALI works on at a time, its default
PIECE = 16  # images that torch distorts together on a CPU
Round = Callable[[int], int]


@dataclass(frozen=True)
class Task:
    """What every pipeline is given.

    folder: JPEGs in class folders.    packed: the same bytes as a `.beton`.    images: per round, of all there are.
    """

    folder: Path
    packed: Path
    images: int
    batch: int
    size: int
    workers: int

    def views(self) -> tuple[ViewSpec, ViewSpec]:
        """The paper's two views."""
        return ViewSpec(self.size), ViewSpec(self.size, blur=0.1, solarize=0.2)


class RoundSampler(torch.utils.data.Sampler[int]):
    """Another `images` of `count` positions at every iteration."""

    def __init__(self, count: int, images: int) -> None:
        self.count, self.images = count, images
        self.generator = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return self.images

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self.count, generator=self.generator)[: self.images].tolist()


class Endless(torch.utils.data.Sampler[int]):
    """All of `count` positions in one random order after another, without an end."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.generator = torch.Generator().manual_seed(0)

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from torch.randperm(self.count, generator=self.generator).tolist()


def data_loader(dataset: Any, task: Task) -> Round:
    """Rounds through torch's DataLoader; its workers live from round to round."""
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=task.batch,
        sampler=RoundSampler(len(dataset), task.images),
        num_workers=task.workers,
        persistent_workers=task.workers > 0,
    )

    def run(number: int) -> int:
        return sum(len(views[0]) for views, _ in loader)

    return run


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


def authors(task: Task) -> Round:
    """Float tensors, normalised."""
    return data_loader(authors_images(task), task)


def authors_images(task: Task) -> Any:
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
                T.Normalize(MEAN, STD),
            ]
        )

    return datasets.ImageFolder(str(task.folder), TwoViews(view(1.0, 0.0), view(0.1, 0.2)))


# ---- torchvision's second version of its transforms, on uint8 tensors ------------------------------------


def read_tensor(path: str) -> torch.Tensor:
    """uint8 (3, H, W) of a JPEG file."""
    from torchvision.io import ImageReadMode, decode_image, read_file

    return decode_image(read_file(path), ImageReadMode.RGB)


def torchvision_v2(task: Task) -> Round:
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


def lightly(task: Task) -> Round:
    """Its BYOLTransform, which its documentation gives for Barlow Twins too, at its defaults but for the size."""
    return data_loader(lightly_images(task), task)


def lightly_images(task: Task) -> Any:
    """Images with their views and labels."""
    from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform
    from torchvision import datasets

    transform = BYOLTransform(BYOLView1Transform(input_size=task.size), BYOLView2Transform(input_size=task.size))
    return datasets.ImageFolder(str(task.folder), transform)


# ---- stock FFCV ------------------------------------------------------------------------------------------


def ffcv_stock(task: Task) -> Round:
    """Its Loader with two RandomResizedCrop decoders, which decode each image twice; uint8 out.

    FFCV has none of the paper's photometric distortions: both views go through a chain batched in torch
    (`views.batched`, parameters per image), in pieces that stay in cache. Its crops are area-averaged, not bicubic.
    """
    from ffcv.fields.decoders import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.pipeline.pipeline_spec import PipelineSpec
    from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage

    from barlowctl.data.views import batched

    def view() -> Any:
        decoder = RandomResizedCropRGBImageDecoder((task.size, task.size))
        transforms = [RandomHorizontalFlip(), ToTensor(), ToTorchImage(channels_last=False)]
        return PipelineSpec("image", decoder, transforms)

    loader = Loader(
        str(task.packed),
        batch_size=task.batch,
        num_workers=task.workers,
        order=OrderOption.RANDOM,
        indices=np.arange(task.images),
        os_cache=True,
        drop_last=False,
        pipelines={"image": view(), "second": view(), "label": None},
    )
    count, specs = loader.reader.num_samples, task.views()
    generator = np.random.default_rng(0)

    def run(number: int) -> int:
        loader.indices = generator.permutation(count)[: task.images]
        made = 0
        for views in loader:
            for position, (pixels, spec) in enumerate(zip(views, specs, strict=True)):
                for low in range(0, len(pixels), PIECE):
                    piece = pixels[low : low + PIECE].to(torch.float32)
                    keys = np.arange(made + low, made + low + len(piece))
                    parameters = batched.draw_parameters(spec, 0, number, keys, position)
                    pixels[low : low + PIECE] = batched.distort(piece, parameters).add_(0.5)
            made += len(views[0])
        return made

    return run


# ---- DALI on the CPU -------------------------------------------------------------------------------------


def dali(task: Task) -> Round:
    """Its CPU operators: decode once, two crops, colour twist (one order of jitter), blur; uint8 out.

    What a draw does not need is skipped: its conditional execution runs an operator on the images it concerns.
    """
    from nvidia.dali import fn, pipeline_def, types

    def chance(probability: float) -> Any:
        return fn.random.coin_flip(probability=probability, dtype=types.BOOL)

    def around(centre: float, width: float) -> Any:
        return fn.random.uniform(range=[centre - width, centre + width])

    def view(images: Any, blur: float, solarize: float) -> Any:
        crop = fn.random_resized_crop(
            images, size=[task.size, task.size], random_area=[0.08, 1.0], interp_type=types.INTERP_CUBIC, antialias=True
        )
        crop = fn.flip(crop, horizontal=fn.random.coin_flip(probability=0.5))
        if chance(0.8):
            crop = fn.color_twist(
                crop,
                brightness=around(1.0, 0.4),
                contrast=around(1.0, 0.4),
                saturation=around(1.0, 0.2),
                hue=around(0.0, 36.0),
            )
        if chance(0.2):
            crop = fn.saturation(crop, saturation=0.0)
        if chance(blur):
            crop = fn.gaussian_blur(crop, sigma=around(1.05, 0.95), window_size=13)
        if chance(solarize):
            inverted = fn.cast(crop >= 128, dtype=types.UINT8)
            crop = fn.cast(crop * (1 - inverted) + (255 - crop) * inverted, dtype=types.UINT8)
        return crop

    @pipeline_def(
        batch_size=task.batch,
        num_threads=task.workers,
        device_id=None,
        seed=0,
        enable_conditionals=True,
        prefetch_queue_depth=IN_FLIGHT,
    )
    def build() -> Any:
        encoded, _ = fn.readers.file(file_root=str(task.folder), random_shuffle=True, name="files")
        images = fn.decoders.image(encoded, device="cpu")
        return view(images, 1.0, 0.0), view(images, 0.1, 0.2)

    pipeline = build()
    pipeline.build()

    def run(number: int) -> int:
        """Ends with no batch in the making: those that `pipeline.run()` starts ahead would fall outside the round."""
        left, made = math.ceil(task.images / task.batch), 0
        waiting = min(left, IN_FLIGHT)
        for _ in range(waiting):
            pipeline.schedule_run()
        while waiting:
            made += len(pipeline.share_outputs()[0])
            pipeline.release_outputs()
            left, waiting = left - 1, waiting - 1
            if left > waiting:
                pipeline.schedule_run()
                waiting += 1
        return made

    return run
