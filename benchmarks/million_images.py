"""Packing a great many images: memory, and images per CPU-second, as the number packed grows.

    python benchmarks/million_images.py [--images 1000000] [--shard 10000] [--workers 2] [--lines 10] [--folder FOLDER]

Tiny JPEGs (16 x 16, a thousand different ones over and over) in tar shards with a label each, written to a temporary
folder (about 3.5 KB an image with the packed file, below FOLDER) and packed by `data pack`'s own function, in a process
of its own so that writing the shards does not count.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from barlowctl.data.beton.pack import pack
from barlowctl.data.sources import open_source

DIFFERENT, CLASSES = 1000, 1000


def write_shards(folder: Path, images: int, per_shard: int) -> None:
    """`images` JPEGs and `.cls` files in shards of `per_shard`."""
    random = np.random.default_rng(0)
    contents = []
    for _ in range(DIFFERENT):
        stream = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(stream, "JPEG", quality=75)
        contents.append(stream.getvalue())
    for shard, first in enumerate(range(0, images, per_shard)):
        with tarfile.open(folder / f"train-{shard:06}.tar", "w") as archive:
            for number in range(first, min(first + per_shard, images)):
                for suffix, data in (("jpg", contents[number % DIFFERENT]), ("cls", b"%d" % (number % CLASSES))):
                    header = tarfile.TarInfo(f"{number:09}.{suffix}")
                    header.size = len(data)
                    archive.addfile(header, io.BytesIO(data))
                archive.members = []  # it would keep every header


def resident() -> float:
    """MB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(folder: Path, workers: int, lines: int) -> None:
    """Pack what lies in `folder`, and print a line after every `lines`-th part of it."""
    empty, started = resident(), time.process_time()
    source = open_source(folder)
    count = len(source)
    print(f"{count:,} images in {folder.name}, {workers} threads, load {os.getloadavg()[0]:.1f}")
    print(f"process {empty:.0f} MB, with the index {resident():.0f} MB after {time.process_time() - started:.1f} CPU-s")
    print("   images  resident MB  images per CPU-second  per second")
    step = max(1, count // lines)
    done, cpu, wall = 0, time.process_time(), time.perf_counter()

    def progress(n: int) -> None:
        nonlocal done, cpu, wall
        done += n
        if done % step == 0:
            spent, passed = time.process_time() - cpu, time.perf_counter() - wall
            print(f"{done:9,}  {resident():11.0f}  {step / spent:21,.0f}  {step / passed:10,.0f}", flush=True)
            cpu, wall = time.process_time(), time.perf_counter()

    report = pack(source, folder / "packed.beton", workers=workers, progress=progress)
    print(f"packed {report.samples:,}, {report.bytes / 1e6:,.0f} MB, in {report.seconds:.1f} s; {resident():.0f} MB")


def main() -> None:
    """Write the shards, then measure in another process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--shard", type=int, default=10_000, help="images in a shard")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lines", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--pack", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pack:
        measure(arguments.pack, arguments.workers, arguments.lines)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="million-") as name:
        write_shards(Path(name), arguments.images, arguments.shard)
        command = [sys.executable, __file__, "--pack", name, "--workers", str(arguments.workers)]
        subprocess.run([*command, "--lines", str(arguments.lines)], check=True)


if __name__ == "__main__":
    main()
