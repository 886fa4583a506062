"""`barlowctl transfer`: fixed features on other datasets, as in the paper's table 3, and detectors, as in table 4."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from barlowctl import launcher, shell
from barlowctl.cli import limits, options, preparing
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cli.pretrain_ranks import device_of_ranks, is_rank, run_ranks
from barlowctl.cli.subject import open_named, require
from barlowctl.cli.training_lines import report_training
from barlowctl.cli.transfer_detection import DetectionFlags, detect
from barlowctl.cli.transfer_detection import dry_run as show_costs
from barlowctl.cli.transfer_result import conclude, show_features
from barlowctl.datasets import BENCHMARKS, DETECTION
from barlowctl.errors import UserError
from barlowctl.output_paths import check_folder

EPILOG = examples(
    "barlowctl transfer runs/NAME --task voc07 --data VOCdevkit",
    "barlowctl transfer runs/NAME --task places205 --data /data/places205",
    "barlowctl transfer resnet50.pth --task inat18 --data inat18 --set epochs=10",
    "barlowctl transfer runs/NAME --task folder --data ~/flowers",
    "barlowctl transfer runs/NAME --task voc0712 --data VOCdevkit --gpus 8",
    "barlowctl transfer runs/NAME --task coco --data mine --iterations 5000",
    "barlowctl transfer runs/NAME --task voc0712 --init resnet50.tv_in1k",
    "barlowctl transfer resnet50.tv_in1k --task coco --dry-run",
)

if TYPE_CHECKING:
    Task = str
else:
    Task = Literal[(*BENCHMARKS, *DETECTION, "folder")]

MEASURE, DETECTOR = "Benchmark", "Detection (voc0712, coco)"  # panels of the help


def transfer(
    context: typer.Context,
    subject: Annotated[
        str | None,
        options.subject("What to measure, as in `probe`. Default: the newest finished run."),
    ] = None,
    data: Annotated[
        str | None,
        options.data(
            "The benchmark's folder as published; for `folder` any labelled dataset; for voc0712 and coco also one's "
            "own in that layout, with any classes. Default: data home."
        ),
    ] = None,
    on_unreadable: options.OnUnreadable = None,
    task: Annotated[
        Task,
        typer.Option(
            "--task",
            "-t",
            help="Which benchmark; folder: one's own; voc0712, coco: detection, one's own too.",
            rich_help_panel=MEASURE,
        ),
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
            min=1e-12,
            max=limits.COST,
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
    backbone: options.Backbone = None,
    overrides: Annotated[
        list[str] | None,
        options.overrides(
            "Override the protocol (epochs=5; of detection lr=0.02, test_every=5000 or rois_per_image=256) or "
            "eval.resize, eval.crop.",
            MEASURE,
        ),
    ] = None,
    head: Annotated[
        Literal["c4", "fpn"],
        typer.Option(
            "--head",
            help="c4, the paper's, on a ResNet; fpn, a feature pyramid, also on other networks such as vision "
            "transformers.",
            rich_help_panel=DETECTOR,
        ),
    ] = "c4",
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations",
            min=1,
            max=limits.STEPS,
            help="Batches to train on; drops of the rate move along. Default: the paper's 24,000 (coco: 90,000).",
            rich_help_panel=DETECTOR,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        options.batch(
            "Images of a batch over all devices; rate and iterations follow: batch/k, lr/k, iterations x k. "
            "Default: 16.",
            DETECTOR,
            min=1,
        ),
    ] = None,
    micro_batch: Annotated[
        int,
        typer.Option(
            "--micro-batch",
            min=0,
            max=limits.IMAGES,
            help="Images at a time on each device, for less memory: batch norm then sees only these; 0: all.",
            rich_help_panel=DETECTOR,
        ),
    ] = 0,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute",
            help="Compute activations again in the backward pass, for less memory and more time; no number changes.",
            rich_help_panel=DETECTOR,
        ),
    ] = False,
    init: Annotated[
        list[str] | None,
        options.init(
            "Train the same network from these weights too, as `pretrain --init` reads them: a timm name, an export, "
            "a .pth or .safetensors file, a run. Repeatable.",
            DETECTOR,
        ),
    ] = None,
    random_init: Annotated[bool, options.random_init("Train it from untrained weights too.", DETECTOR)] = False,
    dry_run: Annotated[
        bool,
        options.dry_run("Take one step, and show schedules, memory and hours; train nothing.", DETECTOR),
    ] = False,
    gpus: options.Gpus = None,
    processes: options.Processes = None,
    out: Annotated[Path | None, options.out("Folder of the results. Default: the run, else runs/probes/NAME.")] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    loader: options.Loader = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure on other datasets: fixed features (linear classifiers, SVMs for VOC07), or a fine-tuned detector.

    Layouts: places205 has trainvalsplit_places205/ and images256/, inat18 has train2018.json, val2018.json and
    train_val2018/, voc07 is VOCdevkit with VOC2007's trainval and test, folder has train/ and test/ (or val/),
    voc0712 is VOCdevkit with VOC2007 and VOC2012, coco has annotations/, train2017/ and val2017/.

    Detectors: the same command goes on where it was stopped, and reads back trials that are finished.
    """
    if task not in DETECTION:
        launcher.refuse_several("transfer")
    console = Console(json=json, quiet=quiet)
    geometry, changes, policy = preparing.measuring(overrides, on_unreadable, backbone)
    flags = DetectionFlags(
        head, iterations, batch_size, micro_batch, recompute, tuple(init or ()), random_init, seeds, changes, geometry
    )
    only_voc07 = {"--low-shot": low_shot, "--cost": bool(cost), "--pooling": pooling is not None}
    only_one_label = {"--protocol fast": protocol == "fast"}
    not_voc07 = {"--seeds": seeds > 1, f"--set {' '.join(changes)}": bool(changes)}
    only_detection = {**flags.given(), "--dry-run": dry_run, "--gpus": bool(gpus), "--processes": bool(processes)}
    sizes = {f"--set {flags.other_sizes}": bool(flags.other_sizes)}
    others = only_detection | (only_voc07 if task != "voc07" else only_one_label | not_voc07)
    _refuse_unused(task, only_voc07 | only_one_label | sizes if task in DETECTION else others, subject, data)
    _require(subject, task, data)
    from barlowctl.assemble.machine import Runtime

    if task in DETECTION:
        runtime = Runtime(device_of_ranks(gpus, processes, device), threads, workers, loader)
        if dry_run:
            show_costs(console, subject, task, data, flags, runtime, gpus or processes or 1)
            return
        if (count := gpus or processes) and not is_rank():
            raise typer.Exit(run_ranks(context.obj, count, on_gpus=gpus is not None, quiet=quiet))
        detect(console, subject, task, data, flags, runtime, out=out, policy=policy)
        return
    from barlowctl.data.images.unreadable import advise_skipping
    from barlowctl.eval import svm
    from barlowctl.measure.tasks import Tasks
    from barlowctl.measure.transfer import check_overrides
    from barlowctl.measure.transfer import transfer as measure_transfer
    from barlowctl.measure.voc import SvmOptions

    protocol = protocol or ("fast" if task == "folder" else "paper")
    if task != "voc07":
        check_overrides(task, protocol, changes)
    name, opened = open_named(console, subject, geometry)
    policy = policy or opened.on_unreadable
    folder = out or opened.folder
    check_folder(folder)
    with advise_skipping(policy):
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
    conclude(
        console, opened.name, result, folder, show_features, measured.get("measured", {}).pop("not_written", [])
    )  # fmt: skip


def _require(subject: str | None, task: str, data: str | None) -> None:
    """Refuse what is not there, or for the task folder in the layout of a benchmark, before torch is imported."""
    if task == "folder" and data is not None:
        from barlowctl.data.sources.benchmark_layouts import refuse_others

        refuse_others(task, Path(data).expanduser())
    require(subject, data if task == "folder" else None)


def _refuse_unused(task: str, flags: dict[str, bool], subject: str | None, data: str | None) -> None:
    """Refuse flags that the task would ignore in silence. flags: flag -> whether it was named."""
    if unused := [flag for flag, named in flags.items() if named]:
        untrained = "--random-init" in unused
        words = [*([subject] if subject else []), *(["--data", data] if data else []), "--random-init"]
        raise UserError(
            f"{', '.join(unused)} {'has' if len(unused) == 1 else 'have'} no meaning for the task {task}",
            allowed="--cost, --low-shot and --pooling with voc07; --head, --iterations, --batch and so on "
            "with voc0712 and coco; --protocol, --seeds, --set epochs=... with the other tasks"
            + ("; a timm name (resnet50) is an untrained network of its own" if untrained else ""),
            next=shell.line("barlowctl", "probe", *words)
            if untrained and task == "folder"
            else f"without {' '.join(flag.split()[0] for flag in unused)}",
        )
