"""Transfer to other datasets with fixed features: Places-205, iNaturalist 2018, VOC 2007, anyone's folder."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.assemble.evaluation import extract
from barlowctl.assemble.labelled import Labelled, check_labelled, open_labelled
from barlowctl.assemble.machine import Runtime, choose_device, cores, set_threads
from barlowctl.assemble.probing import Tasks, measure
from barlowctl.assemble.subjects import Subject
from barlowctl.data import benchmarks, home
from barlowctl.data.plain import Pictures
from barlowctl.errors import UserError, did_you_mean
from barlowctl.eval import svm
from barlowctl.eval.published import TRANSFER
from barlowctl.train.events import Sink

TASKS = ("places205", "inat18", "voc07", "folder")


@dataclass(frozen=True)
class SvmOptions:
    """Of the task voc07. costs: to choose from. low_shot: also from few positives per class."""

    costs: tuple[float, ...] = svm.COSTS
    low_shot: tuple[int, ...] = ()


def transfer(
    subject: Subject,
    task: str,
    data: str | None,
    runtime: Runtime,
    *,
    protocol: str = "paper",
    tasks: Tasks | None = None,
    options: SvmOptions | None = None,
    folder: Path,
    emit: Callable[[str], Sink] = lambda task: lambda event: None,
) -> dict[str, Any]:
    """Measure a frozen backbone on a task.

    Args:
        data: the benchmark's folder, in its published layout; of "folder" any labelled dataset.
        protocol: of the tasks with one label per image: "paper" or "fast" (features extracted once).
        tasks: seeds and overrides of a trained protocol.

    Returns:
        `metric` (its name), `value` (percent), and everything that was measured; `published`: the paper's column.

    Raises:
        UserError: an unknown task, or a layout that is not the benchmark's.
    """
    if task not in TASKS:
        raise UserError(f"--task is '{task}'{did_you_mean(task, TASKS)}", allowed=", ".join(TASKS))
    if task == "voc07":
        found = _voc07(subject, _place(task, data), runtime, options or SvmOptions())
    else:
        found = _one_label(subject, task, data, runtime, protocol, tasks or Tasks(), folder, emit)
    published = dict(TRANSFER.column(task)) if task in TRANSFER.columns else {}
    return {"task": task, **found, "published": published}


def _one_label(
    subject: Subject,
    task: str,
    data: str | None,
    runtime: Runtime,
    protocol: str,
    tasks: Tasks,
    folder: Path,
    emit: Callable[[str], Sink],
) -> dict[str, Any]:
    labelled = open_task(subject, task, data)
    trained = "linear" if task == "folder" else task
    fast = protocol == "fast"
    wanted = Tasks(
        knn=fast,
        linear=fast,
        trained=() if fast else (trained,),
        seeds=tasks.seeds,
        overrides=tasks.overrides,
    )
    ((_, values),) = measure(subject, labelled, runtime, tasks=wanted, folder=folder / f"transfer-{task}", emit=emit)
    key = "linear" if fast else "linear_paper"
    result = values[key]
    describe = "logistic regression on features extracted once, settings chosen on a tenth of the training set"
    return {
        "metric": "top-1",
        "value": result["top1"],
        **({"sd": result["top1_sd"]} if "top1_sd" in result else {}),
        "protocol": describe if fast else result["describe"],
        "data": labelled.facts(),
        "measured": values,
    }


def open_task(subject: Subject, task: str, data: str | None) -> Labelled:
    """The labelled splits of a task with one label per image."""
    match task:
        case "places205":
            path = _place(task, data)
            train, test = (Pictures(benchmarks.open_places205(path, split)) for split in ("train", "val"))
        case "inat18":
            path = _place(task, data)
            train, test = (Pictures(benchmarks.open_inat18(path, split)) for split in ("train", "val"))
        case _:
            return open_labelled(subject.recipe, data)
    names = train.class_names if len(train.class_names) >= len(test.class_names) else test.class_names
    train.class_names = test.class_names = names
    return check_labelled(train, test)


def _place(task: str, data: str | None) -> Path:
    path = Path(data).expanduser() if data is not None else home.data_home() / task
    if not path.is_dir():
        raise UserError(
            f"'{path}' is no folder" if data is not None else f"{task} is not in the data home ({path})",
            next=f"barlowctl transfer RUN --task {task} --data FOLDER   (the benchmark as published)",
        )
    return path


def _voc07(subject: Subject, path: Path, runtime: Runtime, options: SvmOptions) -> dict[str, Any]:
    device = choose_device(runtime.device)
    set_threads(runtime)
    sources = [benchmarks.open_voc07(path, split) for split in ("trainval", "test")]
    backbone = subject.backbone.to(device).eval()
    features = [extract(backbone, Pictures(source), subject.recipe, runtime, device)[0].numpy() for source in sources]
    targets = [source.targets.astype(np.int64) for source in sources]
    threads = min(runtime.threads or cores(), cores())
    everything = (features[0], targets[0], features[1], targets[1])
    _check_classes(targets, options.low_shot)
    fitted = svm.voc_svm(*everything, costs=options.costs, threads=threads)
    few = []
    for shots in options.low_shot:
        reached = [
            100 * svm.low_shot(
                *everything, shots=shots, draw=draw, costs=options.costs, threads=threads
            ).mean_eleven_point
            for draw in range(svm.LOW_SHOT_DRAWS)
        ]  # fmt: skip
        few.append(
            {
                "shots": shots,
                "map": round(statistics.fmean(reached), 4),
                "sd": round(statistics.stdev(reached), 4),
                "draws": reached,
            }
        )
    names = list(benchmarks.VOC_CLASSES)
    return {
        "metric": "mAP (11 points)",
        "value": round(100 * fitted.mean_eleven_point, 4),
        "map_area": round(100 * fitted.mean_area, 4),
        "protocol": f"one linear SVM per class on unit-length pooled features, cost of each class out of "
        f"{len(options.costs)} by {svm.FOLDS}-fold cross-validation on trainval; test images where a class is only "
        "difficult are left out for it",
        "per_class": {name: round(100 * value, 4) for name, value in zip(names, fitted.eleven_point, strict=True)},
        "costs": dict(zip(names, fitted.costs, strict=True)),
        "not_converged": fitted.not_converged,
        "low_shot": few,
        "data": {
            split: {"path": str(source.path), "images": len(source)}
            for split, source in zip(("trainval", "test"), sources, strict=True)
        },
        "measured": {"features": features[0].shape[1]},
    }


def _check_classes(targets: list[np.ndarray], low_shot: tuple[int, ...]) -> None:
    """Refuse splits in which a class has too few images, by name, before anything is fitted."""
    needed = (max((svm.FOLDS, *low_shot)), 1)
    for split, matrix, at_least in zip(("trainval", "test"), targets, needed, strict=True):
        counts = (matrix == 1).sum(axis=0)
        short = [f"{name} ({n})" for name, n in zip(benchmarks.VOC_CLASSES, counts, strict=True) if n < at_least]
        if short:
            more = "" if len(short) <= 5 else f" and {len(short) - 5} more"
            raise UserError(
                f"too few {split} images show {', '.join(short[:5])}{more}",
                allowed=f"at least {at_least} of every class" + (" with --low-shot" if at_least > svm.FOLDS else ""),
                next="unpack the archives again",
            )
