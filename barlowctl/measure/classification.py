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

from barlowctl.assemble import precision
from barlowctl.assemble.data import build_loader
from barlowctl.assemble.evaluation import extract_readable
from barlowctl.assemble.labelled import Labelled
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import own_generator
from barlowctl.assemble.synthetic_steps import SyntheticSteps
from barlowctl.data.images.unreadable import OnMeasuring, Problem
from barlowctl.data.views.spec import ViewSpec
from barlowctl.errors import RunDiverged, UserError, one_line
from barlowctl.eval.features import backbone_digest, check_unchanged
from barlowctl.files import atomic_write
from barlowctl.measure.subjects import Subject
from barlowctl.methods import Classifier
from barlowctl.model import Preprocessing, feature_width
from barlowctl.recipe.protocol import Protocol
from barlowctl.runs import rundir
from barlowctl.signals import stop_requests
from barlowctl.train import checkpoint, engine, sinks
from barlowctl.train.events import Notice, Sink, broadcast
from barlowctl.train.schedule import epoch_cosine, epoch_drops

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
    preprocessing = replace(subject.preprocessing, interpolation=protocol.interpolation)
    members = np.arange(data.train.num_samples) if subset is None else np.asarray(subset)
    before = backbone_digest(subject.backbone)
    about = {
        "protocol": protocol.model_dump(mode="json"),
        "seed": seed,
        "backbone": before,
        "train": data.train.fingerprint.as_dict(),
        "test": data.test.fingerprint.as_dict(),
        "subset": hashlib.sha256(members.astype("<i8").tobytes()).hexdigest(),
        **({"on_unreadable": "skip"} if on_unreadable == "skip" else {}),
        "preprocessing": preprocessing.as_dict(),
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    folder = folder / f"{protocol.name}-seed{seed}-{digest[:8]}"
    try:
        if finished := _read_back(folder, len(members)):
            return finished
    except (SafetensorError, KeyError, UserError) as damaged:
        emit(Notice(f"'{folder}' is damaged ({one_line(damaged)}): its test images are scored again"))
    folder.mkdir(parents=True, exist_ok=True)
    with rundir.lock(folder), own_generator(device=device):
        method = _build(subject, data, protocol, seed, device)
        chosen = _precision(method, preprocessing, protocol, device, len(members), precision.recorded_by(folder))
        about["precision"] = precision.record(chosen, device)
        rundir.write_json(folder / "run.json", {**rundir.environment(), **about})
        values, left_out = _train(
            method,
            data,
            members,
            preprocessing,
            protocol,
            runtime,
            device,
            chosen.used,
            seed=seed,
            folder=folder,
            digest=digest,
            emit=emit,
            stop=stop,
            on_unreadable=on_unreadable,
        )
        if protocol.frozen:
            check_unchanged(method.backbone, before, protocol.name)
        extracted = extract_readable(
            _Logits(method), data.test, preprocessing, runtime, device, on_unreadable=on_unreadable
        )
        scores, labels = extracted.features, extracted.labels
        left_out += [replace(problem, split="test") for problem in extracted.unreadable]
        with atomic_write(folder / "scores.safetensors") as temporary:
            save_file({"scores": scores, "labels": labels}, temporary)
        noted = {"unreadable": [problem.as_dict() for problem in left_out]}
        rundir.write_json(folder / "result.json", {**values, **noted})
    return Fitted(scores, labels, folder, len(members), float(values["cpu_seconds"]), left_out)


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


def _build(subject: Subject, data: Labelled, protocol: Protocol, seed: int, device: torch.device) -> Classifier:
    torch.manual_seed(seed)
    backbone = copy.deepcopy(subject.backbone).to(device)
    try:
        width = feature_width(backbone)
    except AttributeError:  # no timm model: what it returns for one image says it
        raise UserError(f"'{subject.name}' cannot be trained on: only networks can") from None
    return Classifier(backbone, width=width, num_classes=data.num_classes, frozen=protocol.frozen).to(device)


def _precision(
    method: Classifier,
    preprocessing: Preprocessing,
    protocol: Protocol,
    device: torch.device,
    images: int,
    earlier: precision.Precision | None,
) -> precision.Precision:
    """What the classifier is trained in: measured on a copy of it, and kept where it goes on."""

    def time_steps() -> precision.Precision:
        batch = max(2, min(protocol.batch_size, images, TIMED_PIXELS // preprocessing.crop**2))
        trained = copy.deepcopy(method).train()
        synthetic_steps = SyntheticSteps(preprocessing, trained, device, batch, sizes=[preprocessing.crop])
        return precision.faster(
            protocol.precision, synthetic_steps.cpu_seconds, f"steps of {batch} images on one thread"
        )

    return precision.choose(protocol.precision, device, time_steps, earlier)


def _train(
    method: Classifier,
    data: Labelled,
    members: np.ndarray,
    preprocessing: Preprocessing,
    protocol: Protocol,
    runtime: Runtime,
    device: torch.device,
    computed_in: str,
    *,
    seed: int,
    folder: Path,
    digest: str,
    emit: Sink,
    stop: Callable[[], bool],
    on_unreadable: OnMeasuring,
) -> tuple[dict[str, Any], list[Problem]]:
    """What the engine reports, and the training images that others stood in for."""
    batch_size = min(protocol.batch_size, len(members))
    whole, rest = divmod(len(members), batch_size)
    drop_last = rest == 1 and not protocol.frozen  # batch norm needs two images
    steps = whole + (1 if rest and not drop_last else 0)
    if len(members) < 2:
        raise UserError(f"{len(members)} training image", allowed="at least 2", next="use more labelled images")
    settings = engine.Settings(
        epochs=protocol.epochs,
        steps_per_epoch=steps,
        warmup_epochs=0.0,
        final_lr_scale=0.0,
        precision=computed_in,
        log_every_steps=max(1, min(50, steps)),
        checkpoint_every_epochs=1,
        keep_checkpoints=1,
        evaluate_every_epochs=0,
        epoch_schedule=schedule(protocol),
    )
    loader = build_loader(
        data.train,
        [training_view(protocol, preprocessing.crop)],
        preprocessing.channels,
        runtime,
        device,
        seed=seed,
        batch_size=batch_size,
        drop_last=drop_last,
        subset=members,
        on_unreadable="replace" if on_unreadable == "skip" else "raise",
    )
    resume = bool(checkpoint.list_checkpoints(folder / "checkpoints"))
    start = checkpoint.load_latest(folder / "checkpoints", model_only=True).state.step if resume else 0
    record = sinks.json_lines(folder / "metrics.jsonl", start_step=start)
    try:
        with loader, stop_requests() as stop_requested:
            values = engine.train(
                method,
                loader,
                optimizer(method, protocol),
                settings,
                to_input=preprocessing.normalization().to(device),
                device=device,
                emit=broadcast(emit, record),
                checkpoints=folder / "checkpoints",
                recipe_digest=digest,
                stop=lambda: stop() or stop_requested(),
                resume=resume,
                go_on="barlowctl ...",
            )
    except RunDiverged as diverged:
        raise UserError(diverged.message, next="--set lr_head=0.03") from None
    return values, [replace(loader.problems[index], split="train") for index in loader.unreadable]


def training_view(protocol: Protocol, size: int) -> ViewSpec:
    """RandomResizedCrop and flip, and nothing else."""
    return ViewSpec(
        size=size,
        interpolation=protocol.interpolation,
        crop_scale=protocol.crop_scale,
        flip=protocol.flip,
        jitter=0.0,
        grayscale=0.0,
        blur=0.0,
        solarize=0.0,
    )


def schedule(protocol: Protocol) -> Callable[[int], float]:
    """Epoch -> share of the learning rates."""
    if protocol.schedule == "cosine":
        return lambda epoch: epoch_cosine(epoch, epochs=protocol.epochs)
    return lambda epoch: epoch_drops(epoch, drops=protocol.drops, factor=protocol.drop_factor)


def optimizer(method: Classifier, protocol: Protocol) -> torch.optim.SGD:
    """SGD over the classifier and, where it is trained, the backbone; weight decay on everything, as the authors'."""
    groups: list[dict[str, Any]] = [_group("head", method.head, protocol.lr_head)]
    if not protocol.frozen:
        groups.append(_group("backbone", method.backbone, protocol.lr_backbone))
    return torch.optim.SGD(groups, lr=protocol.lr_head, momentum=protocol.momentum, weight_decay=protocol.weight_decay)


def _group(name: str, module: nn.Module, lr: float) -> dict[str, Any]:
    return {"name": name, "params": list(module.parameters()), "lr": lr, "peak_lr": lr}
