"""What a newcomer who types a page's lines has, in small: pictures, sizes that let a step take milliseconds, runs."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.train import sinks
from barlowctl.train.events import Event, Sink

# What the recipe is otherwise (stem, optimizer, views) stays.
SMALL = (
    *("train.batch_size=8", "train.epochs=1", "train.warmup_epochs=0", "data.holdout=8", "model.projector=[8,8]"),
    *("eval.bank=16", "eval.max_queries=8", "views.size=16", "eval.resize=16", "eval.crop=16"),
)
NARROW = ("model.backbone=resnet10t", "model.backbone_args={channels=[8,8,8,8],stem_width=8}")


def sets(*values: str) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def pictures(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for index in range(count):
        pixels = np.clip(random.normal(40 + 60 * seed % 200, 40, (20, 24, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")


def newest(recipe: str = "") -> str:
    return max((str(run) for run in Path("runs").glob(f"{recipe}*-2*")), key=lambda run: Path(run).stat().st_mtime)


def interrupt_the_next_run() -> None:
    """Ctrl-C as the next run records its first step: however slow the machine, it is in the middle of the run."""
    patch, plain = pytest.MonkeyPatch(), sinks.json_lines

    def json_lines(path: Path, *, start_step: int = 0) -> Sink:
        patch.undo()
        record, interrupts = plain(path, start_step=start_step), [signal.SIGINT]

        def sink(event: Event) -> None:
            record(event)
            if sinks.record_of(event) and interrupts:
                signal.raise_signal(interrupts.pop())

        return sink

    patch.setattr(sinks, "json_lines", json_lines)
