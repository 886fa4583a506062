"""Transfer to detection and segmentation, the paper's table 4: detectors fine-tuned on a backbone, and tested."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.assemble import detection_images
from barlowctl.assemble.data import choices_of
from barlowctl.assemble.detection import DetectionJob, named, newest_step
from barlowctl.assemble.detection_settings import DetectionSettings
from barlowctl.assemble.machine import Runtime, device_of_rank, set_threads
from barlowctl.assemble.same_on_ranks import check_trial
from barlowctl.assemble.start import read_same
from barlowctl.channels import are_bands
from barlowctl.data.images.conversion import Choices
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.detect.annotations import DetectionImages
from barlowctl.detect.coco_results import write_results
from barlowctl.detect.detections import Detections
from barlowctl.detect.pictures import save_pictures
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.eval.features import backbone_digest
from barlowctl.files import write_text
from barlowctl.measure.baselines import baseline, from_weights
from barlowctl.measure.identity import Identity
from barlowctl.measure.subjects import Subject
from barlowctl.measure.trials import by_class, by_class_in_latex, over_trials, published, read_back, rounded
from barlowctl.model import Preprocessing
from barlowctl.output_paths import Outputs, whole
from barlowctl.runs import rundir
from barlowctl.runs.environment import environment
from barlowctl.signals import stop_requests
from barlowctl.train.events import Measuring, Notice, RunStarted, Sink

PICTURES = 12
"""Test images that are drawn with what was detected in them, spread evenly over the test images."""


@dataclass(frozen=True)
class Task:
    """What is to be measured.

    Attributes:
        name: "voc0712" or "coco". data: the images' folder; None: in the data home.
        seeds: how many trials: seeds 0, 1, ...; one trial has the network's own seed.
        init: other weights to train the network from too, as `read_weights` takes them.
        random_init: train from its untrained weights too.
    """

    name: str
    settings: DetectionSettings
    data: str | None = None
    seeds: int = 1
    init: tuple[str, ...] = ()
    random_init: bool = False
    on_unreadable: OnMeasuring = "raise"


def measure_detection(
    subject: Subject,
    task: Task,
    runtime: Runtime,
    *,
    folder: Path,
    emit: Sink = lambda event: None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Fine-tune detectors on a network and test them. The same call goes on where it was stopped.

    Every rank makes this call; rank 0 alone touches `folder`, and gets the result.

    Args:
        folder: where the trials go, each into a folder named after all that decides it.
        emit: shows the events of the trainings.

    Returns:
        `value` (AP, percent, the mean over trials) and everything that was measured; `published`: the paper's rows,
        where the images are the benchmark's.

    Raises:
        UserError: a network that cannot be a detector's, images in another layout, or a loss that is not finite.
        RunStopped: it was asked to stop; the state is saved.
    """
    beside = baselines(subject, task, ranks)  # what does not fit is refused before anything is trained
    measuring = _Measuring(task, runtime, folder, emit, ranks, subject.preprocessing)
    result = measuring.of(subject)
    if beside:
        result["floors"] = [{"name": other.name, **other.metadata, **measuring.of(other)} for other in beside]
    return {"task": task.name, **result, "published": published(task.name) if measuring.of_benchmark else {}}


def baselines(subject: Subject, task: Task, ranks: Ranks = ALONE) -> list[Subject]:
    """The same network from the other weights that the task names.

    Raises:
        UserError: they cannot be read, differ between ranks, or are of another network; the network's images are bands.
    """
    if are_bands(channels := subject.preprocessing.channels):
        raise UserError(f"'{subject.name}' takes {channels} bands", allowed="a detector's images are grey or RGB")
    if (bands := choices_of(subject.preprocessing)).channels:
        raise UserError(
            f"{counted(bands.channels, 'band')} are chosen (data.bands), and a detector's images are grey or RGB",
            allowed="three bands, red, green and blue, or one for grey",
            next=shell.line("--set", f"data.bands=[{','.join(map(str, bands.bands[:3]))}]"),
        )
    others = [from_weights(subject, read_same(what, ranks)) for what in dict.fromkeys(task.init)]
    return others + ([baseline(subject, "random-init")] if task.random_init else [])


def _normalization(preprocessing: Preprocessing) -> dict[str, list[float]]:
    return {"mean": list(preprocessing.mean), "std": list(preprocessing.std)}


class _Measuring:
    """One call of `measure_detection`, whose arguments these are. preprocessing: of the network that is measured."""

    def __init__(
        self, task: Task, runtime: Runtime, folder: Path, emit: Sink, ranks: Ranks, preprocessing: Preprocessing
    ) -> None:
        self.normalization = _normalization(preprocessing)
        self.task, self.runtime, self.emit, self.ranks = task, runtime, emit, ranks
        self.folder = folder / f"detection-{task.name}"
        self.device = device_of_rank(runtime.device, ranks)
        self.threads = set_threads(runtime, ranks=ranks)
        self.per_device = task.settings.images_per_device(ranks.size)
        self.images, self.tested_on = detection_images.open_images(task.name, task.data, choices_of(preprocessing))
        self.images.reading.conversion.ranges.decide()  # a range that is measured is part of what a trial is named by
        choices = self.images.reading.conversion.for_others()
        self.choices = {} if choices == Choices() else {"choices": asdict(choices)}
        self.of_benchmark = detection_images.are_published(task.name, self.images, self.tested_on)
        self.notes = [*self.images.notices, *self.tested_on.notices]
        self.settings = self._settings()
        both = {"train": self.images, "test": self.tested_on}
        self.prints = {name: detection_images.digest(images) for name, images in both.items()}

    def _settings(self) -> DetectionSettings:
        """Without masks where the images have no outlines."""
        settings = self.task.settings
        if settings.protocol.masks and self.images.annotation(0).polygons is None:
            self.notes.append("the images have no outlines: boxes only, no masks")
            return replace(settings, protocol=settings.protocol.model_copy(update={"masks": False}))
        return settings

    def job(self, subject: Subject, seed: int) -> DetectionJob:
        return DetectionJob(
            subject.backbone,
            subject.preprocessing,
            self.images,
            self.tested_on,
            self.settings,
            self.runtime,
            self.device,
            seed,
            self.ranks,
            self.task.on_unreadable,
        )

    def of(self, subject: Subject) -> dict[str, Any]:
        """The trials of a network, and their mean."""
        protocol = {**self.settings.as_dict(), "seeds": self.task.seeds, **self.choices}
        if self.task.on_unreadable == "skip":
            protocol["on_unreadable"] = "skip"
        identity = Identity(
            backbone_digest(subject.backbone), self.prints, _normalization(subject.preprocessing), protocol
        )
        seeds = [subject.seed] if self.task.seeds == 1 else list(range(self.task.seeds))
        trials = [self.trial(subject, seed) for seed in seeds]
        return {
            "metric": "AP",
            **over_trials(trials),
            "head": self.settings.head,
            "protocol": self.settings.protocol.describe(),
            "settings": self.settings.as_dict(),
            "data": {
                "train": _described(self.images), "test": _described(self.tested_on),
                "classes": list(self.images.classes),
            },
            "identity": identity.as_dict(),
            "notes": self._all_notes(subject),
            "trials": trials,
            "unreadable": [problem for trial in trials for problem in trial["unreadable"]],
            "ranks": self.ranks.size,
        }  # fmt: skip

    def _all_notes(self, subject: Subject) -> list[str]:
        """What should be known of the images, the settings, and a network of other weights."""
        of_files = self.images.reading.conversion.notes()
        return [*self.notes, *of_files, *self._departures(), *(subject.notes if "init" in subject.metadata else ())]

    def _departures(self) -> list[str]:
        """What is not the paper's, in sentences."""
        settings, notes = self.settings, []
        if settings.head != "c4":
            notes.append("the paper's numbers are of C4; a feature pyramid's are not comparable with them")
        if settings.micro_batch and settings.micro_batch < self.per_device:
            seen = counted(settings.micro_batch * self.ranks.size, "image")
            notes.append(f"batch norm saw {seen} at a time, not the batch of {settings.protocol.batch_size}")
        return notes

    def trial(self, subject: Subject, seed: int) -> dict[str, Any]:
        """One training and its test: made, gone on with, or read back."""
        job = self.job(subject, seed)
        trial = {
            "weights": backbone_digest(subject.backbone), "seed": seed, "images": self.prints,
            "settings": self.settings.as_dict(), **self.choices,
        }  # fmt: skip
        if (normalization := _normalization(subject.preprocessing)) != self.normalization:
            trial["normalization"] = normalization  # of other weights; the network's own goes with its weights
        digest = hashlib.sha256(json.dumps(trial, sort_keys=True).encode()).hexdigest()[:16]
        check_trial(digest, self.ranks)
        folder = self.folder / f"seed{seed}-{digest[:8]}"
        finished = None
        if self.ranks.first:
            finished, damage = read_back(folder / "result.json", ("seed", "box", "per_class", "training"))
            if damage:
                self.emit(Notice(f"'{folder}' is damaged ({damage}): its test images are scored again"))
        finished = self.ranks.from_first(finished)
        return finished if finished is not None else self._made(job, subject, seed, folder, trial, digest)

    def _made(
        self, job: DetectionJob, subject: Subject, seed: int, folder: Path, about: Mapping[str, Any], digest: str
    ) -> dict[str, Any]:
        with ExitStack() as held:
            job.stop = held.enter_context(stop_requests())
            _ = job.detector  # what cannot be is refused by every rank before anything is written
            if self.ranks.first:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(rundir.lock(folder))
                rundir.write_json(folder / "run.json", {**environment(), **about, "ranks": self.ranks.size})
                self.emit(self._started(job, subject, seed, folder))
            values = job.train(folder, digest, self.emit)
            self.emit(Measuring(f"trained; testing on {counted(len(self.tested_on), 'image')}"))
            job.take_statistics()
            detections = job.test()
            left_out = [problem for own in self.ranks.objects(job.problems) for problem in own]
            result = None
            if self.ranks.first:
                scores = job.scores(detections)
                per_class = {name: rounded(row) for name, row in scores.per_class.items()}
                result = {
                    "seed": seed,
                    **rounded(named(scores)),
                    "box": rounded(scores.box),
                    "mask": None if scores.mask is None else rounded(scores.mask),
                    "per_class": per_class,
                    "unreadable": [problem.as_dict() for problem in left_out],
                    "training": values,
                    "folder": str(folder),
                }
                result |= self._files(folder, detections, per_class)
                rundir.write_json(folder / "result.json", whole(result))
            return self.ranks.from_first(result)

    def _files(
        self, folder: Path, detections: Sequence[Detections], per_class: Mapping[str, Mapping[str, float | None]]
    ) -> dict[str, Any]:
        """Detections as COCO JSON, AP by class as a table, pictures; which were written, and which could not be."""
        outputs = Outputs()
        results, table, pictures = folder / "detections.json", folder / "per-class.csv", folder / "pictures"
        with outputs.writing(results):
            write_results(results, self.tested_on, detections)
        with outputs.writing(table):
            write_text(table, by_class(per_class))
            write_text(table.with_suffix(".tex"), by_class_in_latex(per_class))
        count = len(self.tested_on)
        chosen = sorted({round(number * (count - 1) / max(PICTURES - 1, 1)) for number in range(PICTURES)})
        with outputs.writing(pictures):
            save_pictures(pictures, self.tested_on, detections, chosen)
        return {"files": outputs.files, "not_written": outputs.problems}

    def _started(self, job: DetectionJob, subject: Subject, seed: int, folder: Path) -> RunStarted:
        settings = job.engine_settings()
        protocol, size = self.settings.protocol, self.ranks.size
        passes = self.settings.micro_batch and f", {self.settings.micro_batch} at a time"
        lines = {
            "network": f"{subject.name}, seed {seed}",
            "detector": job.detector.describe(protocol.batch_size, size),
            "images": f"{len(self.images.trainable):,} to train on, {len(self.tested_on):,} to test on",
            "schedule": protocol.describe(),
            "devices": f"{size} x {self.device.type}, {counted(self.per_device, 'image')} on each{passes or ''}",
            "computes in": protocol.precision,
        }
        return RunStarted(
            folder, lines, settings.epochs, settings.steps_per_epoch, settings.total_steps, newest_step(folder) or 0,
            tuple(term for term in job.detector.terms if term != "mask" or protocol.masks), iterations=True,
        )  # fmt: skip


def _described(images: DetectionImages) -> dict[str, Any]:
    return {"path": str(images.path), "images": len(images), "objects": images.objects}
