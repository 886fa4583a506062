"""`barlowctl transfer`: fixed features on other datasets, as in the paper's table 3."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from barlowctl import launcher
from barlowctl.cli import options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cli.subject import open_named, say_unreadable
from barlowctl.cli.training_lines import report_training
from barlowctl.datasets import BENCHMARKS
from barlowctl.errors import UserError
from barlowctl.output_paths import Outputs, check_folder

EPILOG = examples(
    "barlowctl transfer runs/NAME --task voc07 --data VOCdevkit",
    "barlowctl transfer runs/NAME --task places205 --data /data/places205",
    "barlowctl transfer resnet50.pth --task inat18 --data inat18 --set epochs=10",
    "barlowctl transfer runs/NAME --task folder --data ~/flowers",
)

if TYPE_CHECKING:
    Task = str
else:
    Task = Literal[(*BENCHMARKS, "folder")]

MEASURE = "Benchmark"  # a panel of the help


def transfer(
    subject: Annotated[
        str | None,
        options.subject("What to measure, as in `probe`. Default: the newest finished run."),
    ] = None,
    data: Annotated[
        str | None,
        options.data("The benchmark's folder as published; for `folder` any labelled dataset. Default: data home."),
    ] = None,
    on_unreadable: options.OnUnreadable = None,
    task: Annotated[
        Task,
        typer.Option("--task", "-t", help="Which benchmark; folder: one's own.", rich_help_panel=MEASURE),
    ] = "folder",
    protocol: Annotated[
        Literal["fast", "paper"] | None,
        options.protocol(
            "paper: random crops, SGD (of folder: Table 1's); fast: features extracted once. Default: paper; for "
            "folder: fast.",
            MEASURE,
        ),
    ] = None,
    low_shot: Annotated[
        bool,
        typer.Option(
            "--low-shot",
            help="voc07: also from 1 to 96 positives per class, five draws each.",
            rich_help_panel=MEASURE,
        ),
    ] = False,
    cost: Annotated[
        list[float] | None,
        typer.Option(
            "--cost",
            help="voc07: a cost to choose from. Default: the field's 26. Repeatable.",
            rich_help_panel=MEASURE,
        ),
    ] = None,
    pooling: Annotated[
        Literal["2x2", "average"] | None,
        typer.Option(
            "--pooling",
            help="voc07: of the network's last map: 2x2 windows as in the benchmark's code (8,192 numbers of a "
            "ResNet-50), or average, the network's own. Default: 2x2.",
            rich_help_panel=MEASURE,
        ),
    ] = None,
    seeds: Annotated[int, options.seeds("Repeat with seeds 0, 1, ...: mean and spread.", MEASURE)] = 1,
    overrides: Annotated[
        list[str] | None,
        options.overrides("Override the protocol (epochs=5) or eval.resize, eval.crop.", MEASURE),
    ] = None,
    out: Annotated[Path | None, options.out("Folder of the results. Default: the run, else runs/probes/NAME.")] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    loader: options.Loader = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure fixed features on other datasets: linear classifiers, or SVMs for VOC07's many labels per image.

    Layouts: places205 has trainvalsplit_places205/ and images256/, inat18 has train2018.json, val2018.json and
    train_val2018/, voc07 is VOCdevkit with VOC2007's trainval and test, folder has train/ and test/ (or val/).
    """
    from barlowctl.assemble.machine import Runtime
    from barlowctl.data.images.unreadable import Problem
    from barlowctl.eval import svm
    from barlowctl.measure.identity import result_file
    from barlowctl.measure.tasks import Tasks
    from barlowctl.measure.transfer import transfer as measure_transfer
    from barlowctl.measure.voc import SvmOptions
    from barlowctl.runs import rundir

    launcher.refuse_several("transfer")
    console = Console(json=json, quiet=quiet)
    geometry, changes, policy = options.measuring(overrides, on_unreadable)
    only_voc07 = {"--low-shot": low_shot, "--cost": bool(cost), "--pooling": pooling is not None}
    not_voc07 = {
        "--protocol fast": protocol == "fast",
        "--seeds": seeds > 1,
        f"--set {' '.join(changes)}": bool(changes),
    }
    _refuse_unused(task, only_voc07 if task != "voc07" else not_voc07)
    protocol = protocol or ("fast" if task == "folder" else "paper")
    if any(not value > 0 for value in cost or []):
        raise UserError("--cost must be positive", next="without --cost")
    name, opened = open_named(console, subject, geometry)
    policy = policy or opened.on_unreadable
    folder = out or opened.folder
    check_folder(folder)
    with options.advise_skipping(policy):
        measured = measure_transfer(
            opened,
            task,
            data,
            Runtime(device, threads, workers, loader),
            protocol=protocol,
            tasks=Tasks(seeds=seeds, overrides=tuple(changes)),
            options=SvmOptions(
                tuple(cost) if cost else svm.COSTS, svm.LOW_SHOTS if low_shot else (), pooling or SvmOptions.pooling
            ),
            folder=folder,
            emit=report_training(console),
            on_unreadable=policy,
        )
    result = {"subject": name, "kind": opened.kind, **opened.metadata, **measured}
    outputs = Outputs(problems=measured.get("measured", {}).pop("not_written", []))
    file, note_on_file = result_file(folder, f"transfer-{task}", measured["identity"])
    with outputs.writing(file):
        folder.mkdir(parents=True, exist_ok=True)
        rundir.write_json(file, result)
    _show(console, opened.name, result)
    say_unreadable(console, [Problem(**problem) for problem in result["unreadable"]])
    if note_on_file:
        console.say(f"note: {note_on_file}")
    if outputs.files:
        console.say(f"written to {file}")
    console.conclude({**result, "file": str(file) if outputs.files else None}, outputs)


def _refuse_unused(task: str, flags: dict[str, bool]) -> None:
    """Refuse flags that the task would ignore in silence. flags: flag -> whether it was named."""
    from barlowctl.measure.transfer import TASKS

    for flag, named in flags.items():
        if named and task in TASKS:
            raise UserError(
                f"{flag} has no meaning for the task {task}",
                allowed="--cost, --low-shot and --pooling with voc07; --protocol, --seeds, --set epochs=... with the "
                "other tasks",
                next=f"without {flag.split()[0]}",
            )


def _show(console: Console, name: str, result: dict[str, Any]) -> None:
    from barlowctl.data.tree.scan_report import lines_of
    from barlowctl.eval import svm

    value = "not reported" if result["value"] is None else f"{result['value']:.2f}"
    value += f" ± {result['sd']:.2f}" if "sd" in result else ""
    rows = [
        (f"{method} (paper, ImageNet ResNet-50)", f"{number:.1f}") for method, number in result["published"].items()
    ]
    console.table(
        f"{result['task']}: {result['metric']}, percent", ("features of", result["metric"]), [(name, value), *rows]
    )
    if result.get("reason"):
        console.say(f"note: not reported: {result['reason']}")
    console.say(f"protocol: {result['protocol']}")
    if "map_11_points" in result:
        console.say(f"by VOC 2007's own 11 points: {result['map_11_points']:.2f}")
    for note in result.get("notes", ()):
        console.say(f"note: {note}")
    for split in ("train", "trainval", "test"):
        for line in lines_of(result["data"].get(split, {})):
            console.say(f"{split}: {line}")
    if result.get("not_converged"):
        console.say(f"note: {result['not_converged']} fits of the search over costs reached 2,000 iterations")
    if result.get("low_shot"):
        few = [
            (str(row["shots"]), *(f"{row[key]:.2f} ± {row[f'{key}_sd']:.2f}" for key in ("map_area", "map_11_points")))
            for row in result["low_shot"]
        ]
        console.table("few positives per class, five draws", ("positives", svm.AREA, svm.ELEVEN_POINTS), few)
