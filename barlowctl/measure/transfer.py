"""Transfer to other datasets with fixed features: Places-205, iNaturalist 2018, VOC 2007, anyone's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from barlowctl.assemble.data import choices_of, pictures_of
from barlowctl.assemble.labelled import Labelled, check_labelled, open_labelled
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.run_images import changed_since_training
from barlowctl.data import home
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.sources import benchmarks
from barlowctl.data.sources.benchmark_layouts import refuse_others
from barlowctl.datasets import BENCHMARKS, DATASETS
from barlowctl.errors import UserError, did_you_mean, instead
from barlowctl.eval.published import TRANSFER
from barlowctl.measure.identity import identify, reserve, result_file
from barlowctl.measure.probing import probe
from barlowctl.measure.subjects import Subject
from barlowctl.measure.tasks import Tasks
from barlowctl.measure.voc import SvmOptions, measure_voc07
from barlowctl.recipe.overrides import changing
from barlowctl.recipe.protocol import PROTOCOLS, override
from barlowctl.train.events import Sink

TASKS = (*BENCHMARKS, "folder")


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
    on_unreadable: OnMeasuring = "raise",
) -> dict[str, Any]:
    """Measure a frozen backbone on a task.

    Args:
        data: the benchmark's folder, in its published layout; of "folder" any labelled dataset.
        protocol: of the tasks with one label per image: "paper" or "fast" (features extracted once).
        tasks: seeds and overrides of a trained protocol.
        on_unreadable: "skip" leaves out images that cannot be read, and names them in `unreadable`.

    Returns:
        `metric` (its name), `value` (percent), and everything that was measured; `published`: the paper's column.

    Raises:
        UserError: an unknown task, or a layout that is not the benchmark's.
    """
    if task not in TASKS:
        raise UserError(
            f"--task is '{task}'{did_you_mean(task, TASKS)}",
            allowed=", ".join(TASKS),
            next=instead("--task", task, TASKS),
        )
    if task == "voc07":
        place = _place(task, data)
        values = measure_voc07(subject, place, runtime, options or SvmOptions(), on_unreadable, emit(subject.name))
    else:
        values = _one_label(subject, task, data, runtime, protocol, tasks or Tasks(), folder, emit, on_unreadable)
    published = dict(TRANSFER.column(task)) if task in TRANSFER.columns else {}
    notes = [*values.get("notes", ()), *_of_other_images(task, values["data"])]
    return {"task": task, **values, "notes": notes, "published": published}


def _of_other_images(task: str, data: Mapping[str, Any]) -> list[str]:
    """That the paper's numbers are of other images, where there are not as many as the benchmark has."""
    if task not in TRANSFER.columns:
        return []
    published = list(DATASETS[task].images.values())
    here = [data[split]["images"] for split in ("train", "trainval", "test") if split in data]
    if here == published:
        return []
    these, those = (f"{training:,} and {test:,}" for training, test in (here, published))
    return [f"{these} images to train and test on, where the benchmark has {those}: the paper's numbers are of those"]


def check_overrides(task: str, protocol: str, overrides: Sequence[str]) -> None:
    """Refuse overrides of a task with one label per image that would change nothing, before a network is opened.

    Raises:
        UserError: a value that the task's protocol lacks or does not take, or "fast", which has none.
    """
    trained = _trained(task)
    if protocol == "fast" and overrides:
        override(PROTOCOLS[trained], overrides)  # what no protocol takes is said first
        others = ", ".join(other for other in TASKS if other in PROTOCOLS and other != task)
        raise UserError(
            f"{changing(overrides)} nothing: --protocol fast extracts features once, with no such setting",
            allowed=f"--protocol paper, which trains on random crops: the default of --task {others}",
            next="--protocol paper",
        )
    Tasks(trained=() if protocol == "fast" else (trained,), overrides=tuple(overrides)).protocols()


def _trained(task: str) -> str:
    """The protocol of a task, by its name in `PROTOCOLS`."""
    return "linear" if task == "folder" else task


def _one_label(
    subject: Subject,
    task: str,
    data: str | None,
    runtime: Runtime,
    protocol: str,
    tasks: Tasks,
    folder: Path,
    emit: Callable[[str], Sink],
    on_unreadable: OnMeasuring,
) -> dict[str, Any]:
    labelled = open_task(subject, task, data, on_unreadable)
    settings = {"name": protocol, "seeds": tasks.seeds, "set": list(tasks.overrides)}
    identity = identify(subject, labelled.fingerprints, settings).as_dict()
    file, _ = result_file(folder, f"transfer-{task}", identity)
    trained = _trained(task)
    fast = protocol == "fast"
    probe_tasks = Tasks(
        knn=fast,
        linear=fast,
        lidar=task == "folder",  # one's own images; of a benchmark it is no number of the paper's, and minutes
        trained=() if fast else (trained,),
        seeds=tasks.seeds,
        overrides=tasks.overrides,
    )
    ((_, values),) = probe(
        subject,
        labelled,
        runtime,
        tasks=probe_tasks,
        folder=file.with_suffix("") if fast else reserve(file, identity),
        emit=emit,
        on_unreadable=on_unreadable,
    )
    result = values["linear" if fast else PROTOCOLS[trained].key]
    return {
        "metric": "top-1",
        "value": result["top1"],
        **({"reason": result["reason"]} if "reason" in result else {}),
        **({"sd": result["top1_sd"]} if "top1_sd" in result else {}),
        "protocol": result["protocol"],
        "data": labelled.as_dict(),
        "identity": identity,
        "notes": [
            *labelled.notes,
            *changed_since_training(subject.folder, labelled.opened or labelled.train),
        ],
        **{key: values[key] for key in ("resize", "crop", "interpolation")},
        "unreadable": values["unreadable"],
        "measured": values,
    }


def open_task(subject: Subject, task: str, data: str | None, on_unreadable: OnMeasuring = "raise") -> Labelled:
    """The labelled splits of a task with one label per image.

    Raises:
        UserError: not its layout, images that are missing where they are not to be left out, or lists of a benchmark
            that have changed places.
    """
    choices = choices_of(subject.preprocessing)
    match task:
        case "places205":
            read = benchmarks.open_places205
        case "inat18":
            read = benchmarks.open_inat18
        case _:
            if data is not None:
                refuse_others(task, Path(data).expanduser())
            return open_labelled(subject.measured_on(data), choices)
    path = _place(task, data)
    train_files, test_files = (read(path, split) for split in ("train", "val"))
    order = benchmarks.check_order(DATASETS[task], train_files, test_files)
    if on_unreadable == "raise":
        benchmarks.check_present(train_files, test_files)
    train, test = pictures_of(choices, train_files), pictures_of(choices, test_files, lambda: train_files)
    _share_class_names(train, test)
    labelled = check_labelled(train, test)
    return replace(labelled, notes=(*labelled.notes, order)) if order else labelled


def _share_class_names(train: Pictures, test: Pictures) -> None:
    """One list for both splits, the longer one, where what they name alike is the same; else each keeps its own."""
    pairs = zip(train.class_names, test.class_names, strict=False)
    if all(train_name == test_name or not train_name or not test_name for train_name, test_name in pairs):
        names = [
            train_name or test_name
            for train_name, test_name in zip_longest(train.class_names, test.class_names, fillvalue="")
        ]
        train.class_names = test.class_names = names


def _place(task: str, data: str | None) -> Path:
    path = Path(data).expanduser() if data is not None else home.data_home() / task
    if not path.is_dir():
        raise UserError(
            f"'{path}' is no folder" if data is not None else f"{task} is not in the data home ({path})",
            allowed="the benchmark's folder as published",
            next="name the benchmark's folder with --data",
        )
    refuse_others(task, path)
    return path
