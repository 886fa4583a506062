"""The tasks voc0712 and coco of `barlowctl transfer`: a detector fine-tuned and tested, or what that would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barlowctl import launcher
from barlowctl.amounts import counted
from barlowctl.cli.console import Console
from barlowctl.cli.live import binary_size, duration, show
from barlowctl.cli.subject import open_named
from barlowctl.cli.transfer_result import conclude
from barlowctl.datasets import DATASETS
from barlowctl.errors import UserError
from barlowctl.output_paths import check_folder

if TYPE_CHECKING:
    from barlowctl.assemble.detection_settings import DetectionSettings
    from barlowctl.assemble.machine import Runtime
    from barlowctl.data.images.unreadable import OnMeasuring
    from barlowctl.measure.subjects import Subject

COLUMNS = ("AP", "AP50", "AP75", "mask AP", "mask AP50", "mask AP75")


OF_WEIGHTS = (
    "model.backbone", "model.stem=", "model.image_size=", "model.patch_size=", "views.", "data.range=",
    "data.background=", "data.bands=",
)  # fmt: skip


@dataclass(frozen=True)
class DetectionFlags:
    """What the flags of detection say, as they were given."""

    head: str
    iterations: int | None
    batch_size: int | None
    micro_batch: int
    recompute: bool
    init: tuple[str, ...]
    random_init: bool
    seeds: int
    overrides: Sequence[str]
    prepared: Sequence[str]

    @property
    def of_weights(self) -> list[str]:
        """Those of `prepared` that detectors take too: which network a file of weights holds, its normalisation,
        how files become pixels."""
        return [override for override in self.prepared if override.startswith(OF_WEIGHTS)]

    @property
    def other_sizes(self) -> str:
        """The others of `prepared`."""
        return " ".join(override for override in self.prepared if not override.startswith(OF_WEIGHTS))

    def given(self) -> dict[str, bool]:
        """Flags that other tasks do not have -> whether they were given."""
        return {
            "--head": self.head != "c4",
            "--iterations": self.iterations is not None,
            "--batch": self.batch_size is not None,
            "--micro-batch": self.micro_batch > 0,
            "--recompute": self.recompute,
            "--init": bool(self.init),
            "--random-init": self.random_init,
        }

    def settings(self, task: str) -> DetectionSettings:
        """The task's settings.

        Raises:
            UserError: a value that is not allowed.
        """
        from barlowctl.assemble.detection_settings import detection_settings

        return detection_settings(
            task,
            head=self.head,
            iterations=self.iterations,
            batch_size=self.batch_size,
            micro_batch=self.micro_batch,
            recompute=self.recompute,
            overrides=self.overrides,
        )


def detect(
    console: Console,
    subject: str | None,
    task: str,
    data: str | None,
    flags: DetectionFlags,
    runtime: Runtime,
    *,
    out: Path | None,
    policy: OnMeasuring | None,
) -> None:
    """Train and test as this process's rank; rank 0 shows how far it is, writes the result and shows it."""
    from barlowctl.assemble.machine import choose_device
    from barlowctl.data.images.unreadable import advise_skipping
    from barlowctl.distributed import joined
    from barlowctl.measure.detection import Task, measure_detection

    settings = flags.settings(task)
    with joined(cuda=choose_device(runtime.device).type == "cuda") as ranks:
        if not ranks.first:
            console = Console(quiet=True)
        name, opened = open_named(console, subject, flags.of_weights)
        policy = policy or opened.on_unreadable
        folder = out or opened.folder
        check_folder(folder)
        measured_task = Task(task, settings, data, flags.seeds, flags.init, flags.random_init, policy)
        with advise_skipping(policy), show(console) as display:
            measured = measure_detection(opened, measured_task, runtime, folder=folder, emit=display, ranks=ranks)
    if not ranks.first:
        return
    result = {"subject": name, "kind": opened.kind, **opened.metadata, **measured}
    conclude(
        console, opened.name, result, folder, show_detection,
        [problem for trial in result["trials"] for problem in trial["not_written"]],
    )  # fmt: skip


def show_detection(console: Console, name: str, result: dict[str, Any]) -> None:
    """A table of the network, its untrained twin and the paper's rows; the classes; what the numbers are of."""
    columns = [column for column in COLUMNS if column in result["scores"]]
    rows = [(name, *_cells(result, columns))]
    rows += [(_start(baseline["name"], baseline), *_cells(baseline, columns)) for baseline in result.get("floors", ())]
    rows += [
        (f"{method} (paper, ImageNet ResNet-50)", *(f"{values[column]:.1f}" for column in columns))
        for method, values in result["published"].items()
    ]
    trials = len(result["trials"])
    of_trials = f", mean and standard deviation of {trials} trials" if trials > 1 else ""
    console.table(f"{result['task']}: average precision, percent{of_trials}", ("fine-tuned from", *columns), rows)
    by_class = result["trials"][0]["per_class"]
    if len(by_class) > 1:
        of_first = f", seed {result['trials'][0]['seed']}" if trials > 1 else ""
        keys = [key for key in columns if key in next(iter(by_class.values()))]
        table = [(label, *(_number(row[key]) for key in keys)) for label, row in by_class.items()]
        console.table(f"by class{of_first}", ("class", *keys), table)
    console.say(f"protocol: {result['protocol']}")
    for note in result["notes"]:
        console.say(f"note: {note}")
    for baseline in result.get("floors", ()):
        for note in baseline["notes"]:
            if note not in result["notes"]:
                console.say(f"note: {baseline['name']}: {note}")
    console.say(f"detections, pictures and a table by class: {result['trials'][0]['folder']}")


def _start(name: str, about: Mapping[str, Any]) -> str:
    """What a network beside the measured one starts from."""
    return f"{name} ({about['init']['kind']})" if "init" in about else name


def _cells(result: dict[str, Any], columns: list[str]) -> list[str]:
    spread = result.get("scores_sd", {})
    return [
        _number(result["scores"][column]) + (f" ± {spread[column]:.2f}" if spread.get(column) is not None else "")
        for column in columns
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _images(task: str, data: str | None, opened: Subject) -> tuple[Any, Any]:
    """Images to train and to test on, read as the network's are."""
    from barlowctl.assemble.data import choices_of
    from barlowctl.assemble.detection_images import open_images

    return open_images(task, data, choices_of(opened.preprocessing))


def dry_run(
    console: Console,
    subject: str | None,
    task: str,
    data: str | None,
    flags: DetectionFlags,
    runtime: Runtime,
    ranks: int,
) -> None:
    """Show what would be trained, in which schedules, with the memory and the hours of a step that is taken here."""
    from barlowctl.assemble.detection_plan import Candidate, schedules, time_step
    from barlowctl.assemble.machine import choose_device, set_threads
    from barlowctl.measure.detection import Task, baselines

    process = launcher.detect()
    if process.rank != 0:
        return
    settings = flags.settings(task)
    devices = max(process.size, ranks)
    share = settings.images_per_device(devices)
    name, opened = open_named(console, subject, flags.of_weights)
    beside = baselines(opened, Task(task, settings, init=flags.init, random_init=flags.random_init))
    kind = "Mask R-CNN" if settings.protocol.masks else "Faster R-CNN"
    lines = {"network": name, "detector": f"{kind} {settings.head.upper()}", "schedule": settings.protocol.describe()}
    if beside:
        lines["beside it"] = ", ".join(_start(other.name, other.metadata) for other in beside)
    try:
        images, tested_on = _images(task, data, opened)
        classes = len(images.classes)
        of = f"{len(images.trainable):,} to train on, {len(tested_on):,} to test on"
        lines["images"] = f"{of}, {counted(classes, 'class', 'classes')}"
    except UserError as error:
        if data is not None:
            raise
        published = DATASETS[task]
        classes = published.classes
        lines["images"] = f"not here ({error.message}); published: {published.images['train']:,} to train on"
    device = choose_device(runtime.device)
    set_threads(runtime)
    at_a_time = min(flags.micro_batch or share, share) if device.type == "cuda" else 1
    with console.waiting("timing a step ..."):
        cost = time_step(Candidate(opened.backbone, opened.preprocessing, settings, classes, device), at_a_time)
    lines["time"] = f"{cost.seconds:.2f} s for {counted(cost.images, 'image')} on this {device.type} ({cost.how})"
    lines["memory"] = (
        f"{binary_size(cost.peak)} for training on them at the largest size, of which activations and their gradients "
        f"{binary_size(cost.activations)}; {binary_size(cost.testing)} for testing an image"
    )
    rows = schedules(settings, devices, cost)
    console.table("What would be trained", ("", "resolved"), list(lines.items()))
    console.table("Schedules", SCHEDULE, [_schedule(row) for row in rows])
    console.say(
        "(*) is the paper's. Time and memory are in proportion to that step; loading and the test's time not counted,"
    )
    console.say("nor what Python, its libraries and kernels need for themselves, about 1 GiB")
    factors = [f"{1 + len(beside)} networks"] if beside else []
    factors += [f"{flags.seeds} seeds"] if flags.seeds > 1 else []
    if (trainings := flags.seeds * (1 + len(beside))) > 1:
        console.say(f"{trainings} trainings ({' x '.join(factors)}) take {trainings} times as long")
    console.say("nothing was trained; without --dry-run the training starts")
    console.result({"task": task, "facts": lines, "settings": settings.as_dict(), "schedules": rows})


SCHEDULE = (
    "devices", "batch", "on each", "at a time", "lr", "iterations", "drops at", "memory", "time", "device time",
)  # fmt: skip


def _schedule(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{row['devices']}{' (*)' if row['is_the_papers'] else ''}",
        str(row["batch_size"]),
        str(row["images_per_device"]),
        str(row["at_a_time"]),
        f"{row['lr']:g}",
        f"{row['iterations']:,}",
        ", ".join(f"{drop:,}" for drop in row["drops"]) or "-",
        binary_size(row["memory"]),
        duration(3600 * row["hours"]),
        duration(3600 * row["device_hours"]),
    )
