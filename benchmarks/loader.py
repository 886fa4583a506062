"""The two-view loader against the authors' pipeline, in turns (A B A B ...), on the same JPEGs.

    python benchmarks/loader.py [--rounds 5] [--images 384] [--workers 2]

Images: crops of scikit-image's photographs, 500 x 375, quality 90. Both give two 224 x 224 views with the
paper's distortions; the alternative is written from the paper: PIL transforms, ImageFolder, DataLoader.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import skimage.data
import torch
import torchvision
import torchvision.transforms as T
from PIL import Image, ImageFilter, ImageOps

from barlowctl.data.beton import Beton
from barlowctl.data.loader import FastLoader
from barlowctl.data.pack import pack
from barlowctl.data.sources import open_source
from barlowctl.data.views import ViewSpec

BATCH = 64
PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "hubble_deep_field.jpg", "ihc.png")


def write_images(folder: Path, count: int) -> None:
    """`count` JPEGs, each a random crop of a photograph."""
    generator = random.Random(0)
    (folder / "a").mkdir(parents=True)
    data = Path(skimage.data.__file__).parent
    photographs = [Image.open(data / name).convert("RGB") for name in PHOTOGRAPHS if (data / name).is_file()]
    for number in range(count):
        picture = photographs[number % len(photographs)]
        scale = min(picture.width / 500, picture.height / 375) * generator.uniform(0.6, 1.0)
        width, height = 500 * scale, 375 * scale
        left = generator.uniform(0, picture.width - width)
        top = generator.uniform(0, picture.height - height)
        box = (left, top, left + width, top + height)
        picture.resize((500, 375), Image.Resampling.BICUBIC, box=box).save(
            folder / "a" / f"{number:05d}.jpg", quality=90
        )


class Blur:
    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: Image.Image) -> Image.Image:
        if random.random() >= self.p:
            return image
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class Solarize:
    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: Image.Image) -> Image.Image:
        return ImageOps.solarize(image) if random.random() < self.p else image


def chain(blur: float, solarize: float) -> T.Compose:
    """One view of the paper's table."""
    return T.Compose(
        [
            T.RandomResizedCrop(224, interpolation=T.InterpolationMode.BICUBIC),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            T.RandomGrayscale(0.2),
            Blur(blur),
            Solarize(solarize),
            T.ToTensor(),
            T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )


class TwoViews:
    def __init__(self) -> None:
        self.first, self.second = chain(1.0, 0.0), chain(0.1, 0.2)

    def __call__(self, image: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
        return self.first(image), self.second(image)


def cpu_seconds() -> float:
    """Of this process and of worker processes that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(rows: dict[str, Callable[[int], None]], rounds: int, images: int) -> dict[str, list[tuple[float, float]]]:
    """(images per second, CPU milliseconds per image) of each row, round by round; the first round warms up."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for number in range(rounds + 1):
        for name, run in rows.items():
            wall, cpu = time.perf_counter(), cpu_seconds()
            run(number)
            if number:
                wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
                found[name].append((images / wall, 1e3 * cpu / images))
    return found


def main() -> None:
    """Print a Markdown table of medians, spreads and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        write_images(folder, arguments.images)
        pack(open_source(folder), Path(name) / "images.beton")
        views = [ViewSpec(224), ViewSpec(224, blur=0.1, solarize=0.2)]
        source = Beton.open(Path(name) / "images.beton")
        loader = FastLoader(source, views=views, batch_size=BATCH, seed=0, threads=arguments.workers)
        dataset = torchvision.datasets.ImageFolder(str(folder), TwoViews())

        def authors(epoch: int) -> None:
            for _ in torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, num_workers=arguments.workers):
                pass

        def ours(epoch: int) -> None:
            for _ in loader.epoch(epoch):
                pass

        found = measure({"authors": authors, "ours": ours}, arguments.rounds, arguments.images)
        loader.close()
    cpu = statistics.median(row[1] for row in found["authors"])
    rate = statistics.median(row[0] for row in found["authors"])
    print(f"{arguments.images} images of 500 x 375, two 224 views, {arguments.workers} workers, n = {arguments.rounds}")
    print("| pipeline | images/s, median (min-max) | CPU ms/image (min-max) | CPU ratio | wall ratio |")
    print("|---|---|---|---|---|")
    for label, rows in found.items():
        rates, times = [row[0] for row in rows], [row[1] for row in rows]
        print(
            f"| {label} | {statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f}) | "
            f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f}) | "
            f"{cpu / statistics.median(times):.1f} | {statistics.median(rates) / rate:.1f} |"
        )


if __name__ == "__main__":
    main()
