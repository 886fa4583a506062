"""A classifier trained on the engine: the paper's linear protocol, semi-supervised and full fine-tuning."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from barlowctl import shell
from barlowctl.assemble import precision
from barlowctl.assemble.data import build_loader
from barlowctl.assemble.evaluation import extract_readable
from barlowctl.assemble.labelled import Labelled
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.synthetic_steps import SyntheticSteps
from barlowctl.data.images.unreadable import OnMeasuring, Problem
from barlowctl.data.loaders.base import ViewLoader
from barlowctl.errors import RunDiverged, UserError, one_line
from barlowctl.eval.features import backbone_digest, check_unchanged
from barlowctl.files import atomic_write
from barlowctl.generators import own_generator
from barlowctl.measure.drop_path import with_drop_path
from barlowctl.measure.protocol import classifier, optimizer, training_view
from barlowctl.measure.subjects import Subject
from barlowctl.methods import Classifier
from barlowctl.model import Preprocessing, choose_convolutions, feature_width
from barlowctl.recipe.protocol import Protocol
from barlowctl.runs import rundir
from barlowctl.runs.environment import environment
from barlowctl.signals import stop_requests
from barlowctl.train import checkpoint, engine, sinks
from barlowctl.train.events import Notice, Sink, broadcast

TIMED_PIXELS = 8 * 224**2  # of a step that is timed to find the faster precision


@dataclass(frozen=True)
class Fitted:
    """A classifier's scores `(M, C)` on the test images and their labels, and where its records lie.

    unreadable: test images without a score, and training images that others stood in for.
    """

    scores: Tensor
    labels: Tensor
    folder: Path
    images: int
    cpu_seconds: float
    unreadable: list[Problem]


class _Logits(nn.Module):
    """The classifier as a module from images to scores, so that it can be run over a split like a backbone."""

    def __init__(self, method: Classifier) -> None:
        super().__init__()
        self.method = method

    def forward(self, images: Tensor) -> Tensor:
        return self.method.logits(images)


def fit(
    subject: Subject,
    data: Labelled,
    protocol: Protocol,
    runtime: Runtime,
    device: torch.device,
    *,
    folder: Path,
    seed: int,
    subset: np.ndarray | None = None,
    emit: Sink = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
    on_unreadable: OnMeasuring = "raise",
) -> Fitted:
    """Train a classifier on the subject's backbone and score the test images with its last epoch.

    The subject stays as it is: its backbone is copied. The state is saved after every epoch below `folder`, in a
    folder named after everything that decides the result: the same call goes on where it was stopped, and one
    that was finished is read back.

    Args:
        subset: positions of the training images to use; None: all.
        seed: of the classifier's first weights and of the order and crops of training images.
        on_unreadable: "skip": another training image stands in for one that cannot be read, with its own label; a
            test image that cannot be read has no score.

    Raises:
        UserError: fewer images than one batch can be made of, or a loss that is not finite.
        RunStopped: `stop()` became true; the state is saved.
    """
    members = np.arange(data.train.num_samples) if subset is None else np.asarray(subset)
    return _Fit(subject, data, protocol, runtime, device, members, seed, emit, stop, on_unreadable).result(folder)


def _read_back(folder: Path, images: int) -> Fitted | None:
    """What was finished there; None: nothing was.

    Raises:
        SafetensorError, KeyError, UserError: it is damaged.
    """
    if not ((folder / "result.json").is_file() and (folder / "scores.safetensors").is_file()):
        return None
    saved = load_file(folder / "scores.safetensors")
    values = rundir.read_json(folder / "result.json")
    left_out = [Problem(**problem) for problem in values.get("unreadable", ())]  # not noted by earlier versions
    return Fitted(saved["scores"], saved["labels"], folder, images, values["cpu_seconds"], left_out)


@dataclass(frozen=True)
class _Fit:
    """One call of `fit`, whose arguments these are. members: positions of the training images."""

    subject: Subject
    data: Labelled
    protocol: Protocol
    runtime: Runtime
    device: torch.device
    members: np.ndarray
    seed: int
    emit: Sink
    stop: Callable[[], bool]
    on_unreadable: OnMeasuring

    @property
    def preprocessing(self) -> Preprocessing:
        return replace(self.subject.preprocessing, interpolation=self.protocol.interpolation)

    def result(self, folder: Path) -> Fitted:
        """The classifier's scores, trained below `folder` or read back from there."""
        before = backbone_digest(self.subject.backbone)
        identity = self._identity(before)
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        folder = folder / f"{self.protocol.name}-seed{self.seed}-{digest[:8]}"
        try:
            if finished := _read_back(folder, len(self.members)):
                return finished
        except (SafetensorError, KeyError, UserError) as damaged:
            self.emit(Notice(f"'{folder}' is damaged ({one_line(damaged)}): its test images are scored again"))
        folder.mkdir(parents=True, exist_ok=True)
        with rundir.lock(folder), own_generator(self.seed, self.device):
            method = self._build()
            chosen = self._precision(method, precision.recorded_by(folder))
            about = {**identity, "precision": precision.record(chosen, self.device)}
            rundir.write_json(folder / "run.json", {**environment(), **about})
            values, left_out = self._train(method, chosen.used, folder, digest)
            if self.protocol.frozen:
                check_unchanged(method.backbone, before, self.protocol.name)
            return self._score(method, folder, values, left_out)

    def _identity(self, backbone: str) -> dict[str, Any]:
        """Everything that decides the result."""
        return {
            "protocol": self.protocol.as_dict(),
            "seed": self.seed,
            "backbone": backbone,
            "train": self.data.train.fingerprint.as_dict(),
            "test": self.data.test.fingerprint.as_dict(),
            "subset": hashlib.sha256(self.members.astype("<i8").tobytes()).hexdigest(),
            **({"on_unreadable": "skip"} if self.on_unreadable == "skip" else {}),
            "preprocessing": self.preprocessing.as_dict(),
        }

    def _build(self) -> Classifier:
        drop_path = 0.0 if self.protocol.frozen else self.protocol.drop_path
        backbone = with_drop_path(self.subject, drop_path).to(self.device)
        try:
            width = feature_width(backbone)
        except AttributeError:  # no timm model: what it returns for one image says it
            raise UserError(f"'{self.subject.name}' cannot be trained on: only networks can") from None
        method = classifier(self.protocol, backbone, width=width, num_classes=self.data.num_classes, seed=self.seed)
        choose_convolutions(method, self.device)
        return method.to(self.device)

    def _precision(self, method: Classifier, earlier: precision.Precision | None) -> precision.Precision:
        """What the classifier is trained in: measured on a copy of it, and kept where it goes on."""
        crop, requested = self.preprocessing.crop, self.protocol.precision

        def time_steps() -> precision.Precision:
            batch = max(2, min(self.protocol.batch_size, len(self.members), TIMED_PIXELS // crop**2))
            trained = copy.deepcopy(method).train()
            synthetic_steps = SyntheticSteps(self.preprocessing, trained, self.device, batch, sizes=[crop])
            with own_generator(device=self.device):  # how often it is timed changes nothing that training draws
                return precision.faster(
                    requested, synthetic_steps.cpu_seconds, f"steps of {batch} images on one thread"
                )

        return precision.choose(requested, self.device, time_steps, earlier)

    def _train(
        self, method: Classifier, computed_in: str, folder: Path, digest: str
    ) -> tuple[dict[str, Any], list[Problem]]:
        """What the engine reports, and the training images that others stood in for."""
        batch_size, steps, drop_last = self._batches()
        loader = self._loader(batch_size, drop_last)
        resume = bool(checkpoint.list_checkpoints(folder / "checkpoints"))
        start = checkpoint.load_latest(folder / "checkpoints", model_only=True).state.step if resume else 0
        record = sinks.json_lines(folder / "metrics.jsonl", start_step=start)
        try:
            with loader, stop_requests() as stop_requested:
                values = engine.train(
                    method,
                    loader,
                    optimizer(method, self.protocol),
                    self._settings(steps, computed_in),
                    to_input=self.preprocessing.normalization().to(self.device),
                    device=self.device,
                    emit=broadcast(self.emit, record),
                    checkpoints=folder / "checkpoints",
                    recipe_digest=digest,
                    stop=lambda: self.stop() or stop_requested(),
                    resume=resume,
                    go_on="barlowctl ...",
                )
        except RunDiverged as diverged:
            smaller = shell.line("--set", f"lr_head={self.protocol.lr_head / 10:g}")
            raise UserError(diverged.message, next=smaller) from None
        return values, [replace(loader.problems[index], split="train") for index in loader.unreadable]

    def _batches(self) -> tuple[int, int, bool]:
        """Images of a batch, steps of an epoch, and whether its last batch is dropped."""
        count = len(self.members)
        if count < 2:
            raise UserError(f"{count} training image", allowed="at least 2", next="use more labelled images")
        return self.protocol.batches(count)

    def _settings(self, steps: int, computed_in: str) -> engine.Settings:
        return engine.Settings(
            epochs=self.protocol.epochs,
            steps_per_epoch=steps,
            warmup_epochs=self.protocol.warmup_epochs,
            final_lr_scale=self.protocol.final_lr_scale,
            precision=computed_in,
            log_every_steps=max(1, min(50, steps)),
            checkpoint_every_epochs=1,
            keep_checkpoints=1,
            evaluate_every_epochs=0,
            schedule="cosine" if self.protocol.schedule == "cosine" else "step",
            schedule_every=self.protocol.schedule_every,
            milestones=self.protocol.drops,
            milestone_factor=self.protocol.drop_factor,
        )

    def _loader(self, batch_size: int, drop_last: bool) -> ViewLoader:
        return build_loader(
            self.data.train,
            [training_view(self.protocol, self.preprocessing.crop)],
            self.preprocessing.channels,
            self.runtime,
            self.device,
            seed=self.seed,
            batch_size=batch_size,
            drop_last=drop_last,
            subset=self.members,
            on_unreadable="replace" if self.on_unreadable == "skip" else "raise",
        )

    def _score(self, method: Classifier, folder: Path, values: dict[str, Any], left_out: list[Problem]) -> Fitted:
        """Score the test images, and keep scores and result."""
        extracted = extract_readable(
            _Logits(method),
            self.data.test,
            self.preprocessing,
            self.runtime,
            self.device,
            on_unreadable=self.on_unreadable,
        )
        scores, labels = extracted.features, extracted.labels
        left_out = left_out + [replace(problem, split="test") for problem in extracted.unreadable]
        with atomic_write(folder / "scores.safetensors") as temporary:
            save_file({"scores": scores, "labels": labels}, temporary)
        noted = {"unreadable": [problem.as_dict() for problem in left_out]}
        rundir.write_json(folder / "result.json", {**values, **noted})
        return Fitted(scores, labels, folder, len(self.members), float(values["cpu_seconds"]), left_out)
