"""JPEG decoders in turns: pixels against ffcv's, and CPU time alone and within the fast loader.

    python benchmarks/jpeg_decoders.py [--images 200] [--rounds 9] [--threads 1] [--data FOLDER]

Alone: each decodes the same JPEGs into memory that is there already; Pillow's pixels are copied to it, torchvision's
stay where it puts them. Within the loader: two views of 224 pixels with the paper's distortions, by each decoder that
it has here. Without --data the JPEGs are crops of photographs (`barlowctl.bench.photographs`). imagecodecs is compared
where it is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from barlowctl.bench.photographs import jpegs_and_packed
from barlowctl.cores import usable_cores
from barlowctl.data.beton import decode, decoders
from barlowctl.data.beton.reader import Beton
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.views.spec import ViewSpec

Decode = Callable[[int], np.ndarray]
"""JPEG number i -> its pixels as flat uint8 RGB."""


def ways(beton: Beton) -> dict[str, Decode]:
    """The decoders, ffcv's first."""
    whole = np.asarray(beton.bytes)
    files = [beton.stored(i) for i in range(beton.num_samples)]
    tensors = [torch.from_numpy(file.copy()) for file in files]
    shapes = [(int(beton.heights[i]), int(beton.widths[i])) for i in range(beton.num_samples)]
    room = np.empty(max(height * width for height, width in shapes) * 3, np.uint8)
    ffcv = decoders.FfcvDecoder()

    def within(i: int) -> np.ndarray:
        target = room[: shapes[i][0] * shapes[i][1] * 3]
        place = int(beton.pointers[i]), int(beton.sizes[i])
        assert ffcv.read(whole, *place, *shapes[i], target) == decode.OK
        return target

    def by_simplejpeg(i: int) -> np.ndarray:
        return simplejpeg.decode_jpeg(files[i], colorspace="RGB", buffer=room).reshape(-1)

    def by_torchvision(i: int) -> np.ndarray:
        return decode_jpeg(tensors[i], ImageReadMode.RGB).permute(1, 2, 0).numpy().reshape(-1)

    def by_pillow(i: int) -> np.ndarray:
        target = room[: shapes[i][0] * shapes[i][1] * 3]
        target[:] = np.asarray(Image.open(io.BytesIO(files[i])).convert("RGB")).reshape(-1)
        return target

    by_name = {"ffcv": within, "simplejpeg": by_simplejpeg, "torchvision": by_torchvision, "pillow": by_pillow}
    if importlib.util.find_spec("imagecodecs") is not None:
        import imagecodecs

        def by_imagecodecs(i: int) -> np.ndarray:
            target = room[: shapes[i][0] * shapes[i][1] * 3]
            imagecodecs.jpeg8_decode(files[i].tobytes(), out=target.reshape(*shapes[i], 3))
            return target

        by_name["imagecodecs"] = by_imagecodecs
    return by_name


def in_turns(rounds: int, run: dict[str, Callable[[int], int]]) -> dict[str, list[float]]:
    """CPU milliseconds an image of each, round by round; the first round, which warms up, is left out."""
    times: dict[str, list[float]] = {name: [] for name in run}
    for number in range(rounds + 1):
        for name, call in run.items():
            begun = time.process_time()
            count = call(number)
            times[name].append((time.process_time() - begun) * 1e3 / count)
    return {name: values[1:] for name, values in times.items()}


def show(title: str, times: dict[str, list[float]], same: dict[str, bool]) -> None:
    """A table: medians and ranges, and ratios to ffcv's round by round."""
    print(f"\n| {title} | CPU ms/image | to ffcv's | same bytes |\n|---|---|---|---|")
    for name, values in times.items():
        ratios = [value / first for value, first in zip(values, times["ffcv"], strict=True)]
        cells = [
            f"{statistics.median(numbers):.3f} ({min(numbers):.3f}-{max(numbers):.3f})" for numbers in (values, ratios)
        ]
        print(f"| {name} | {cells[0]} | {cells[1]} | {'yes' if same[name] else 'NO'} |")


def alone(beton: Beton, rounds: int) -> None:
    """The decoders by themselves, in one thread."""
    by_name = ways(beton)

    def all_of(one: Decode) -> Callable[[int], int]:
        return lambda _: sum(one(i).size > 0 for i in range(beton.num_samples))

    digests = {
        name: [hashlib.sha256(one(i).tobytes()).digest() for i in range(beton.num_samples)]
        for name, one in by_name.items()
    }
    same = {name: digest == digests["ffcv"] for name, digest in digests.items()}
    show("decoder", in_turns(rounds, {name: all_of(one) for name, one in by_name.items()}), same)


def in_the_loader(beton: Beton, rounds: int, threads: int) -> None:
    """The fast loader with each of its decoders."""
    views = [ViewSpec(224), ViewSpec(224, blur=0.1, solarize=0.2)]
    options = {"views": views, "batch_size": min(100, beton.num_samples), "seed": 0, "threads": threads}
    there, _ = decoders.by_package()
    loaders = {name: FastLoader(beton, decoder=decoder, **options) for name, decoder in there.items()}

    def digest(loader: FastLoader) -> bytes:
        whole = hashlib.sha256()
        for batch in loader.epoch(0):
            for view in batch.views:
                whole.update(view.numpy().tobytes())
        return whole.digest()

    def epoch_of(loader: FastLoader) -> Callable[[int], int]:
        return lambda number: sum(len(batch.indices) for batch in loader.epoch(number))

    digests = {name: digest(loader) for name, loader in loaders.items()}
    times = in_turns(rounds, {name: epoch_of(loader) for name, loader in loaders.items()})
    show(f"two views, {threads} threads", times, {name: one == digests["ffcv"] for name, one in digests.items()})
    for loader in loaders.values():
        loader.close()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    if not decode.available()[0]:
        raise SystemExit(f"the others are compared with ffcv's decoder: {decode.available()[1]}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        _, path = jpegs_and_packed(arguments.data, Path(name), arguments.images, 1, print)
        beton = Beton.open(path)
        pixels = int((beton.heights * beton.widths).mean())
        print(f"{beton.num_samples} JPEGs of {pixels:,} pixels and {int(beton.sizes.mean()):,} bytes")
        print(f"n = {arguments.rounds}; load {os.getloadavg()[0]:.1f} before, {usable_cores()} cores")
        alone(beton, arguments.rounds)
        in_the_loader(beton, arguments.rounds, arguments.threads)


if __name__ == "__main__":
    main()
