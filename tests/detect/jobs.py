"""A small detector trained on the generated set, alone or over ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from barlowctl.assemble.detection import DetectionJob, newest_step
from barlowctl.assemble.detection_images import open_images
from barlowctl.assemble.detection_settings import DetectionSettings, detection_settings
from barlowctl.assemble.machine import Runtime
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import RunStopped
from barlowctl.model import Preprocessing
from barlowctl.train.events import Evaluated, StepDone
from tests.detect.detectors import narrow_resnet

ITERATIONS = 6
SMALL = (
    "short_sides=[48, 64]", "test_short_side=64", "anchor_sizes=[16.0, 32.0]", "anchors_per_image=16",
    "rois_per_image=8", "before_nms={train = 50, test = 50}", "proposals={train = 30, test = 20}", "mask_channels=8",
    "statistics=2", "warmup_iterations=2", "lr=0.01",
)  # fmt: skip


def settings(task: str = "coco", *overrides: str, **options: Any) -> DetectionSettings:
    return detection_settings(
        task, iterations=ITERATIONS, batch_size=4, overrides=[*SMALL, *overrides], **{"micro_batch": 0, **options}
    )


def job(folder: str, chosen: DetectionSettings, ranks: Ranks = ALONE, *, double: bool = False) -> DetectionJob:
    """Of the generated set in `folder`; in float64 where sums over ranks are compared."""
    images, tested_on = open_images(chosen.protocol.name, folder)
    made = DetectionJob(
        narrow_resnet(),
        Preprocessing(interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), resize=64, crop=64),
        images,
        tested_on,
        chosen,
        Runtime("cpu"),
        torch.device("cpu"),
        seed=3,
        ranks=ranks,
    )
    if double:
        made.detector.double()
    return made


def train(
    made: DetectionJob, folder: Path, stop: Callable[[int], bool] = lambda steps: False
) -> tuple[list[float], list[Mapping[str, float]]]:
    """Losses of the steps, and what was measured between them. stop: steps taken -> whether to stop."""
    losses: list[float] = []
    measured: list[Mapping[str, float]] = []

    def sink(event: Any) -> None:
        if isinstance(event, StepDone):
            losses.append(event.values["loss"])
        elif isinstance(event, Evaluated):
            measured.append(event.values)

    folder.mkdir(exist_ok=True)
    made.stop = lambda: stop(len(losses))
    made.train(folder, "digest", sink)
    made.stop = lambda: False
    return losses, measured


def everything(ranks: Ranks, shapes: str, folder: str) -> dict[str, Any]:
    """A training in float64 with a test in its middle, its state, the statistics taken for a test, what is detected."""
    made = job(shapes, settings("coco", "test_every=3"), ranks, double=True)
    losses, measured = train(made, Path(folder))
    trained = {name: value.numpy().copy() for name, value in made.detector.state_dict().items()}
    made.take_statistics()
    detections = made.test()
    return {
        "losses": np.array(losses),
        "measured": measured,
        "trained": trained,
        "tested": {name: value.numpy().copy() for name, value in made.detector.named_buffers()},
        "boxes": [of_image.boxes.numpy() for of_image in detections],
        "scores": [of_image.scores.numpy() for of_image in detections],
    }


def stopped_in_a_test(ranks: Ranks, shapes: str, folder: str) -> tuple[str, int | None, list[float]]:
    """The last rank is asked to stop in the test in the middle; then training goes on.

    Returns:
        What was raised, the step that was saved, and the losses of the rest.
    """
    made = job(shapes, settings("coco", "test_every=3"), ranks)
    take_statistics, begun = made.take_statistics, []

    def take() -> None:
        begun.append(True)
        take_statistics()

    made.take_statistics = take  # type: ignore[method-assign]
    raised = "nothing"
    try:
        train(made, Path(folder), lambda steps: bool(begun) and ranks.rank == ranks.size - 1)
    except RunStopped:
        raised = "RunStopped"
    saved = ranks.from_first(newest_step(Path(folder)) if ranks.first else None)
    losses, _ = train(job(shapes, settings("coco", "test_every=3"), ranks), Path(folder))
    return raised, saved, losses
