"""A detector on a backbone, put together from its settings, trained by the engine and tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from barlowctl.assemble.detection_settings import DetectionSettings
from barlowctl.assemble.machine import Runtime, memory_explained
from barlowctl.cores import usable_cores
from barlowctl.data.images.unreadable import OnMeasuring, Problem, UnreadableImage
from barlowctl.detect import coco_metric, precise_bn, voc_metric
from barlowctl.detect.annotations import DetectionImages
from barlowctl.detect.batch import DetectionBatch
from barlowctl.detect.build import build
from barlowctl.detect.detections import Detections
from barlowctl.detect.loader import DetectionLoader, undistorted_images
from barlowctl.detect.method import Detection
from barlowctl.detect.parameter_groups import parameter_groups
from barlowctl.detect.scores import DetectionScores
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import RunDiverged, RunStopped, UserError
from barlowctl.generators import own_generator
from barlowctl.model import Preprocessing, synchronize_batch_norm
from barlowctl.modes import in_mode
from barlowctl.train import checkpoint, engine, sinks
from barlowctl.train.events import Sink, broadcast
from barlowctl.train.gradient import autocast, buffers_kept
from barlowctl.train.schedule import warmup_drops

INTERVAL = 1000
"""Iterations between two checkpoints, at most; a short training has twenty of them."""
STATISTICS_SEED = 1 << 20
"""Added to the seed for the batches of PreciseBN, which are others than those trained on."""


@dataclass
class DetectionJob:
    """One training of a detector and its test; over several ranks each has one, and calls its methods with the others.

    Attributes:
        backbone: stays as it is; the detector has a copy.
        on_unreadable: "skip": another image stands in for one that cannot be trained on, and nothing is detected in one
            that cannot be tested on.
        stop: whether to stop, if on one rank on all of them; asked after every step, and after every image of the test.
        problems: images that could not be read.
    """

    backbone: nn.Module
    preprocessing: Preprocessing
    images: DetectionImages
    tested_on: DetectionImages
    settings: DetectionSettings
    runtime: Runtime
    device: torch.device
    seed: int = 0
    ranks: Ranks = ALONE
    on_unreadable: OnMeasuring = "raise"
    stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self.problems: list[Problem] = []

    @cached_property
    def detector(self) -> Detection:
        """On its device, with batch norm over all ranks."""
        detector = build(
            self.backbone,
            num_classes=len(self.images.classes),
            head=self.settings.head,
            masks=self.settings.protocol.masks,
            settings=self.settings.model,
            mean=self.preprocessing.mean,
            std=self.preprocessing.std,
            ranks=self.ranks,
            seed=self.seed,
        )
        if self.ranks.size > 1:
            synchronize_batch_norm(detector, self.ranks, self.device)
        return detector.to(self.device)

    @property
    def interval(self) -> int:
        """Iterations of what the engine calls an epoch."""
        protocol = self.settings.protocol
        return protocol.test_every or min(INTERVAL, max(1, protocol.iterations // 20))

    def loader(self, seed: int, interval: int) -> DetectionLoader:
        """This rank's part of an endless stream of batches, in intervals of so many."""
        protocol, workers = self.settings.protocol, self.runtime.workers
        if workers is None:
            workers = 0 if self.device.type == "cpu" else max(1, usable_cores() // self.ranks.local_size)
        return DetectionLoader(
            self.images,
            batch_size=protocol.batch_size,
            seed=seed,
            interval=interval,
            rank=self.ranks.rank,
            world_size=self.ranks.size,
            short_sides=protocol.short_sides,
            longest=protocol.longest,
            flip=protocol.flip,
            workers=workers,
            pin_memory=self.device.type == "cuda",
            on_unreadable="replace" if self.on_unreadable == "skip" else "raise",
        )

    def optimizer(self) -> torch.optim.Optimizer:
        """SGD over all of the detector."""
        protocol = self.settings.protocol
        groups = parameter_groups(self.detector, lr=protocol.lr, weight_decay=protocol.weight_decay)
        return torch.optim.SGD(groups, lr=protocol.lr, momentum=protocol.momentum)

    def engine_settings(self) -> engine.Settings:
        """How long and how the engine trains."""
        protocol = self.settings.protocol
        return engine.Settings(
            epochs=protocol.iterations / self.interval,
            steps_per_epoch=self.interval,
            warmup_epochs=0.0,
            final_lr_scale=0.0,
            precision=protocol.precision,
            log_every_steps=max(1, min(50, self.interval)),
            checkpoint_every_epochs=1,
            keep_checkpoints=1,
            evaluate_every_epochs=1 if protocol.test_every else 0,
            lr_schedule=self._lr_factor,
            micro_batch=self.settings.micro_batch,
            activation_checkpointing=self.settings.model.recompute,
        )

    def _lr_factor(self, step: int) -> float:
        protocol = self.settings.protocol
        return warmup_drops(
            step,
            warmup_steps=protocol.warmup_iterations,
            start_scale=protocol.warmup_start,
            drops=protocol.drops,
            factor=protocol.drop_factor,
        )

    def train(self, folder: Path, digest: str, emit: Sink) -> dict[str, Any]:
        """Train to the end, or go on where a checkpoint in `folder` was; returns what the engine reports.

        Args:
            digest: of all that decides the result. emit: rank 0's sink of the events; metrics.jsonl is written beside.

        Raises:
            RunStopped: `stop()` became true; the state is saved.
            UserError: loss, gradient or weights are not finite, or memory ran out.
        """
        protocol, file = self.settings.protocol, folder / "metrics.jsonl"
        record, newest, evaluated = None, None, None
        if self.ranks.first:
            newest = newest_step(folder)
            evaluated = sinks.evaluation_at(file, newest) if newest is not None else None
            record = sinks.json_lines(file, start_step=newest or 0)
        newest, evaluated = self.ranks.from_first((newest, evaluated))
        try:
            with (
                self.loader(self.seed, self.interval) as loader,
                memory_explained(self._less_memory()),
                self._drawing(self.seed),
            ):
                values = engine.train(
                    self.detector,
                    loader,
                    self.optimizer(),
                    self.engine_settings(),
                    to_input=None,
                    device=self.device,
                    emit=broadcast(emit, record) if record else emit,
                    checkpoints=folder / "checkpoints",
                    recipe_digest=digest,
                    evaluate=self.test_meanwhile if protocol.test_every else None,
                    evaluated=evaluated,
                    evaluate_together=True,
                    stop=self.stop,
                    resume=newest is not None,
                    ranks=self.ranks,
                    go_on="barlowctl ...",
                )
        except RunDiverged as diverged:
            raise UserError(diverged.message, next=f"--set lr={protocol.lr / 4:g}") from None
        self._note(loader.problems.values(), "train")
        return values

    def _less_memory(self) -> str:
        """What to type where memory ran out."""
        at_a_time = self.settings.micro_batch or self.settings.images_per_device(self.ranks.size)
        fewer = f"--micro-batch {at_a_time // 2}" if at_a_time > 1 else "--device cpu"
        return fewer if self.settings.model.recompute else f"--recompute\n{fewer}"

    def take_statistics(self) -> None:
        """Let batch norm's running statistics be those of the weights as they are now (PreciseBN)."""
        if (count := self.settings.protocol.statistics) and precise_bn.batch_norms(self.detector):
            seed = self.seed + STATISTICS_SEED
            with self.loader(seed, count) as loader, self._computing(), self._drawing(seed):
                precise_bn.recompute(self.detector, self._pieces(loader.epoch(0)), self.ranks)

    def _pieces(self, batches: Iterator[DetectionBatch]) -> Iterator[DetectionBatch]:
        """Batches on the device, as many images at a time as in training."""
        for batch in batches:
            at_a_time = self.settings.micro_batch or len(batch)
            for piece in batch.parts(-(-len(batch) // at_a_time)):
                if any(map(any, self.ranks.all_gather_ints([self.stop()]))):  # batch norm needs all of them or none
                    raise _stopped()
                yield piece.to(self.device)

    def test(self) -> list[Detections]:
        """What is detected in the test images, in their order, on every rank; each rank looks at its share of them."""
        own = range(self.ranks.rank, len(self.tested_on), self.ranks.size)
        with in_mode(self.detector, training=False), self._computing():
            detected = dict(self._detected(own))
        gathered: dict[int, Detections] = {}
        for share in self.ranks.objects(detected):
            gathered |= share
        if len(gathered) < len(self.tested_on):
            raise _stopped()
        return [gathered[position] for position in range(len(self.tested_on))]

    def _detected(self, positions: Sequence[int]) -> Iterator[tuple[int, Detections]]:
        """Positions of test images and what is detected there, until it is to stop."""
        protocol, remaining = self.settings.protocol, list(positions)
        workers = self.runtime.workers or (0 if self.device.type == "cpu" else 2)
        while remaining:
            images = undistorted_images(
                self.tested_on,
                positions=remaining,
                short_side=protocol.test_short_side,
                longest=protocol.longest,
                workers=workers,
            )
            try:
                for image, size in images:
                    if self.stop():
                        return
                    on_device = image.to(self.device, non_blocking=True)
                    yield remaining.pop(0), self.detector.predict([on_device], [size])[0]
            except UnreadableImage as error:
                if self.on_unreadable == "raise":
                    raise
                self._note([Problem(error.name, error.reason)], "test")
                yield remaining.pop(0), nothing()

    def test_meanwhile(self) -> Mapping[str, float]:
        """Scores while training goes on, the same on every rank, with statistics that are taken for them alone."""
        with buffers_kept(self.detector):
            self.take_statistics()
            detections = self.test()
        scores: Mapping[str, float] = self.ranks.from_first(named(self.scores(detections)) if self.ranks.first else {})
        return scores

    def scores(self, detections: Sequence[Detections]) -> DetectionScores:
        """Average precision by the task's metric."""
        metric = {"voc0712": voc_metric, "coco": coco_metric}[self.settings.protocol.name]
        scores: DetectionScores = metric.evaluate(self.tested_on, detections)
        return scores

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with autocast(self.device, self.settings.protocol.precision), memory_explained(self._less_memory()):
            yield

    def _drawing(self, seed: int) -> AbstractContextManager[None]:
        """What a backbone draws in training, as drop path does, is of a seed and differs between ranks."""
        return own_generator(seed + (self.ranks.rank << 32), self.device)

    def _note(self, problems: Any, split: str) -> None:
        self.problems += [Problem(problem.name, problem.reason, split) for problem in problems]


def _stopped() -> RunStopped:
    return RunStopped("stopped before the test was finished; what was trained is saved", next="barlowctl ...")


def nothing() -> Detections:
    """No detection."""
    return Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), [])


def named(scores: DetectionScores) -> dict[str, float]:
    """AP, AP50 and AP75 of boxes, and of masks where there are any."""
    names = ("AP", "AP50", "AP75")
    values = {name: scores.box[name] for name in names}
    return values | ({f"mask {name}": scores.mask[name] for name in names} if scores.mask is not None else {})


def newest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint that can be read; None: there are none."""
    if not checkpoint.list_checkpoints(folder / "checkpoints"):
        return None
    return checkpoint.load_latest(folder / "checkpoints", model_only=True).state.step
