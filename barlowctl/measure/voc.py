"""VOC07 with a network, as the benchmark's code does: whole pictures, four windows of res5, one SVM per class."""

from __future__ import annotations

import hashlib
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from barlowctl.amounts import counted
from barlowctl.assemble.data import choices_of, pictures_of
from barlowctl.assemble.evaluation import Extracted, extract_readable
from barlowctl.assemble.labelled import check_distinct
from barlowctl.assemble.machine import Runtime, choose_device, set_threads
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.data.sources import benchmarks
from barlowctl.datasets import VOC07
from barlowctl.errors import UserError
from barlowctl.eval import meaning, svm
from barlowctl.measure.identity import identify
from barlowctl.measure.subjects import Subject
from barlowctl.model import Preprocessing, QuarterPooling, last_map_shape
from barlowctl.train.events import Measuring, Sink

SPLITS = ("trainval", "test")
Pooling = Literal["2x2", "average"]


@dataclass(frozen=True)
class SvmOptions:
    """Of the task voc07.

    Attributes:
        costs: to choose from. low_shot: also from so many positives per class.
        pooling: of the last map: "2x2" windows as the benchmark's code, or the network's own "average".
    """

    costs: tuple[float, ...] = svm.COSTS
    low_shot: tuple[int, ...] = ()
    pooling: Pooling = "2x2"


def measure_voc07(
    subject: Subject,
    path: Path,
    runtime: Runtime,
    options: SvmOptions,
    on_unreadable: OnMeasuring = "raise",
    emit: Sink = lambda event: None,
) -> dict[str, Any]:
    """SVMs on the trainval pictures of `path`, measured on its test pictures. Precisions are in percent.

    With "skip", pictures that cannot be read are left out and named in `unreadable`. `emit` hears of each part, and of
    each class whose SVM is fitted.

    Raises:
        UserError: not VOC2007's layout, a class with too few images, or no scikit-learn.
    """
    sources = [benchmarks.open_voc07(path, split) for split in SPLITS]
    if on_unreadable == "raise":
        benchmarks.check_present(*sources)
    targets = [source.targets.astype(np.int64) for source in sources]
    _check_classes(targets, options.low_shot)
    svm.require_library()
    device = choose_device(runtime.device)
    threads = set_threads(runtime)
    preprocessing = replace(subject.preprocessing, squash=True)
    network, pooled = _pooled(subject, options.pooling, device)
    training = sources[0]
    choices = choices_of(preprocessing)
    opened = [pictures_of(choices, training), pictures_of(choices, sources[1], lambda: training)]
    prints = {split: opened_split.fingerprint for split, opened_split in zip(SPLITS, opened, strict=True)}
    identity = identify(subject, prints, _settings(pooled, options, targets)).as_dict()
    overlapping = check_distinct(*opened)
    read = []
    for split, pictures in zip(SPLITS, opened, strict=True):
        emit(Measuring(f"features of {counted(pictures.num_samples, f'{split} image')}"))
        read.append(extract_readable(network, pictures, preprocessing, runtime, device, on_unreadable=on_unreadable))
    if why := meaning.of_features(torch.cat([extracted.features for extracted in read])):
        raise UserError(f"no precision of '{subject.name}' would mean anything: {why}")
    features = [extracted.features.numpy() for extracted in read]
    targets = [matrix[extracted.positions] for matrix, extracted in zip(targets, read, strict=True)]
    _check_classes(targets, options.low_shot)
    everything = (features[0], targets[0], features[1], targets[1])
    fitted = svm.voc_svm(*everything, costs=options.costs, threads=threads, begin=_say_class(emit))
    few = [_few_positives(everything, shots, options.costs, threads, emit) for shots in options.low_shot]
    return {
        **_precisions(fitted, options, pooled, preprocessing),
        "low_shot": few,
        "notes": [note for note in (pooled.note, overlapping) if note],
        "crop": preprocessing.crop,
        "interpolation": preprocessing.interpolation,
        "identity": identity,
        **_images(sources, read),
        "measured": {"features": features[0].shape[1]},
    }


def _images(sources: Sequence[benchmarks.Voc], read: Sequence[Extracted]) -> dict[str, Any]:
    """Where the pictures of both splits are, and which of them could not be read."""
    return {
        "data": {
            split: {"path": str(source.path), "images": len(source), **source.scan_report.nonempty()}
            for split, source in zip(SPLITS, sources, strict=True)
        },
        "unreadable": [
            replace(problem, split=split).as_dict()
            for split, extracted in zip(SPLITS, read, strict=True)
            for problem in extracted.unreadable
        ],
    }


def _say_class(emit: Sink) -> Callable[[int], None]:
    """What is called with each class when its SVM begins; several may at a time."""
    names, lock = VOC07.class_names, threading.Lock()

    def say(label: int) -> None:
        with lock:
            emit(Measuring(f"SVM of {names[label]}, {label + 1} of {len(names)}"))

    return say


@dataclass(frozen=True)
class _Pooled:
    """How features were pooled. text: for the protocol; note: where it is not what was asked for."""

    name: Pooling
    text: str
    note: str = ""


def _settings(pooled: _Pooled, options: SvmOptions, targets: list[np.ndarray]) -> dict[str, Any]:
    """What, beside network and pictures, the result depends on."""
    return {
        "pooling": pooled.name,
        "squashed": True,
        "costs": list(options.costs),
        "low_shot": list(options.low_shot),
        "targets": hashlib.sha256(np.concatenate(targets).tobytes()).hexdigest(),
    }


def _precisions(
    fitted: svm.SvmResult, options: SvmOptions, pooled: _Pooled, preprocessing: Preprocessing
) -> dict[str, Any]:
    """What was measured, and how, of classifiers trained on all of trainval."""
    names = list(VOC07.class_names)
    pictures = f"whole pictures squashed to {preprocessing.crop} x {preprocessing.crop} ({preprocessing.interpolation})"
    return {
        "metric": svm.AREA,
        "value": _percent(fitted.mean_area),
        "map_area": _percent(fitted.mean_area),
        "map_11_points": _percent(fitted.mean_eleven_point),
        "protocol": f"{pictures}; {pooled.text}; unit length; one linear SVM per class, its cost out of "
        f"{len(options.costs)} by {svm.FOLDS}-fold cross-validation on trainval, positives weighted twice; test images "
        "where a class is only difficult are left out for it",
        "pictures": pictures,
        "pooling": pooled.name,
        "per_class": _by_class(names, fitted.area),
        "per_class_11_points": _by_class(names, fitted.eleven_point),
        "costs": dict(zip(names, fitted.costs, strict=True)),
        "not_converged": fitted.not_converged,
    }


def _pooled(subject: Subject, requested: Pooling, device: torch.device) -> tuple[nn.Module, _Pooled]:
    """The network that makes the features, on the device and in evaluation mode."""
    backbone, preprocessing = subject.backbone.to(device).eval(), subject.preprocessing
    if requested == "average":
        return backbone, _Pooled("average", "the network's own pooling")
    last = last_map_shape(backbone, preprocessing.crop, in_chans=preprocessing.channels)
    if last is None or min(last[1:]) < 2:
        what = "no map of features before its pooling" if last is None else f"a last map of {last[1]} x {last[2]}"
        note = f"{subject.name} has {what} at {preprocessing.crop} pixels, so its own pooling was used"
        note += " and not 2 x 2 windows"
        return backbone, _Pooled("average", "the network's own pooling", note)
    width, height, breadth = last
    windows = f"{height - 1} x {breadth - 1} of the last map's {height} x {breadth}"
    text = f"2 x 2 windows ({windows}, one step apart) of {width:,} channels: {4 * width:,} numbers"
    return QuarterPooling(backbone), _Pooled("2x2", text)


def _few_positives(
    everything: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    shots: int,
    costs: tuple[float, ...],
    threads: int,
    emit: Sink,
) -> dict[str, Any]:
    """Mean and standard deviation over the draws, by both measures."""
    emit(Measuring(f"SVMs from {counted(shots, 'positive')} of each class, {svm.LOW_SHOT_DRAWS} draws"))
    draws = [
        svm.low_shot(*everything, shots=shots, draw=draw, costs=costs, threads=threads)
        for draw in range(svm.LOW_SHOT_DRAWS)
    ]
    area = [100 * draw.mean_area for draw in draws]
    eleven = [100 * draw.mean_eleven_point for draw in draws]
    return {
        "shots": shots,
        "map_area": round(statistics.fmean(area), 4),
        "map_area_sd": round(statistics.stdev(area), 4),
        "map_11_points": round(statistics.fmean(eleven), 4),
        "map_11_points_sd": round(statistics.stdev(eleven), 4),
        "draws": area,
    }


def _by_class(names: list[str], shares: tuple[float, ...]) -> dict[str, float]:
    return {name: _percent(share) for name, share in zip(names, shares, strict=True)}


def _percent(share: float) -> float:
    return round(100.0 * share, 4)


def _check_classes(targets: list[np.ndarray], low_shot: tuple[int, ...]) -> None:
    """Refuse splits in which a class has too few images, by name, before anything is computed."""
    needed = (max((svm.FOLDS, *low_shot)), 1)
    for split, matrix, at_least in zip(SPLITS, targets, needed, strict=True):
        counts = (matrix == 1).sum(axis=0)
        short = [f"{name} ({n})" for name, n in zip(VOC07.class_names, counts, strict=True) if n < at_least]
        if short:
            more = "" if len(short) <= 5 else f" and {len(short) - 5} more"
            raise UserError(
                f"too few {split} images show {', '.join(short[:5])}{more}",
                allowed=f"at least {at_least} of every class" + (" with --low-shot" if at_least > svm.FOLDS else ""),
                next="unpack the archives again" if min(counts) < min(at_least, svm.FOLDS) else "without --low-shot",
            )
