"""What every pipeline of the loader's benchmark gets, and rounds through torch's DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from barlowctl.data.views.spec import ViewSpec

Round = Callable[[int], int]
"""Runs round n, and returns how many images it made."""


@dataclass(frozen=True)
class LoaderTask:
    """What every pipeline makes views of.

    folder: JPEGs in class folders.    packed: the same bytes as a `.beton`.    images: per round, of all there are.
    channels: of the images that the network gets, 3 or 1 (grey).
    """

    folder: Path
    packed: Path
    images: int
    batch: int
    size: int
    workers: int
    channels: int = 3

    def views(self) -> tuple[ViewSpec, ViewSpec]:
        """The paper's two views."""
        return ViewSpec(self.size), ViewSpec(self.size, blur=0.1, solarize=0.2)

    def small_views(self) -> list[ViewSpec]:
        """SwAV's six beside them, 96 pixels where the two have 224."""
        return [ViewSpec(max(8, round(self.size * 96 / 224)), crop_scale=(0.05, 0.14), blur=0.5)] * 6


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


def data_loader(dataset: Any, task: LoaderTask) -> Round:
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
