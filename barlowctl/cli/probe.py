"""`barlowctl probe`: kNN, linear evaluation and fine-tuning of a network, as in the paper's tables 1 and 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from barlowctl import launcher
from barlowctl.amounts import counted
from barlowctl.cli import completion, options, preparing
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cli.probe_result import show_result
from barlowctl.cli.subject import open_named, require, say_unreadable
from barlowctl.cli.training_lines import report_training
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.assemble.labelled import Labelled
    from barlowctl.measure.subjects import Subject
    from barlowctl.measure.tasks import Tasks

EPILOG = examples(
    "barlowctl probe",
    "barlowctl probe runs/NAME --data cifar10 --pixels --random-init",
    "barlowctl probe runs/NAME --protocol paper --seeds 5",
    "barlowctl probe runs/NAME --layers",
    "barlowctl probe runs/NAME --semi 1 --semi 10",
    "barlowctl probe runs/NAME --semi 10 --finetune-protocol modern",
    "barlowctl probe resnet50.a1_in1k --data imagenette",
    "barlowctl probe resnet50.pth --data imagenet --protocol paper",
)
PROTOCOL_NAMES = ("fast", "paper", "both")
MEASURES = "Measures"  # a panel of the help


def probe(
    subject: Annotated[
        str | None,
        options.subject(
            "A run's name or directory, an exported file or folder, the authors' .pth, a state dict of a usual "
            "network, or a timm model (resnet50: random weights; resnet50.a1_in1k: published ones). Default: the "
            "newest finished run.",
        ),
    ] = None,
    data: options.Data = None,
    backbone: options.Backbone = None,
    on_unreadable: options.OnUnreadable = None,
    knn: Annotated[
        bool, typer.Option("--knn", help="k nearest neighbours, k 20 and 200.", rich_help_panel=MEASURES)
    ] = False,
    linear: Annotated[
        bool, typer.Option("--linear", help="A linear classifier on frozen features.", rich_help_panel=MEASURES)
    ] = False,
    lidar: Annotated[
        bool,
        typer.Option(
            "--lidar", help="LiDAR of a run, over its own distortions: it needs no labels.", rich_help_panel=MEASURES
        ),
    ] = False,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="kNN and linear on every layer of backbone and projector: the best one is often not the last.",
            rich_help_panel=MEASURES,
        ),
    ] = False,
    protocol: Annotated[
        Literal["fast", "paper", "both"] | None,
        options.protocol(
            "Of --linear. fast: features extracted once, several rates and decays at once; paper: SGD with random "
            "crops, 100 epochs, on the training engine.",
            MEASURES,
        ),
    ] = None,
    semi: Annotated[
        list[int] | None,
        typer.Option(
            "--semi",
            metavar="1|10",
            help="Fine-tune on this percentage of the labels. Repeatable.",
            autocompletion=completion.percentages,
            rich_help_panel=MEASURES,
        ),
    ] = None,
    semi_list: Annotated[
        Path | None,
        typer.Option(
            "--semi-list",
            help="SimCLR's list of labelled files. Default: a balanced draw by the seed.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Fine-tune the network on all labels.", rich_help_panel=MEASURES)
    ] = False,
    finetune_protocol: Annotated[
        Literal["paper", "modern"] | None,
        typer.Option(
            "--finetune-protocol",
            help="Of --semi and --finetune. paper (default): SGD, 20 epochs; modern: AdamW, layer-wise decay, warm-up "
            "and cosine, mixup and CutMix, label smoothing, drop path, 100 epochs.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    pixels: Annotated[bool, typer.Option("--pixels", help="Measure raw pixels too.", rich_help_panel=MEASURES)] = False,
    random_init: Annotated[bool, options.random_init("Measure the untrained backbone too.", MEASURES)] = False,
    seeds: Annotated[int, options.seeds("Repeat with seeds 0, 1, ...: mean and spread.", MEASURES)] = 1,
    overrides: Annotated[
        list[str] | None,
        options.overrides(
            "Override the protocol of what is trained (epochs=10, mixup=0) or eval.resize, eval.crop.", MEASURES
        ),
    ] = None,
    out: Annotated[Path | None, options.out("Folder of the results. Default: the run, else runs/probes/NAME.")] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    loader: options.Loader = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a frozen or fine-tuned network on labelled images; without --knn, --linear ...: kNN, linear and LiDAR.

    --lidar alone needs no labels: it measures LiDAR, RankMe and the spectrum of the features.

    Nothing is chosen on test images: the settings of the fast linear classifier are chosen on a tenth of the
    training set, and what is trained is measured after its last epoch. Accuracy of every class and the confusion
    go into files. What is trained goes on where it was stopped when the same command is run again.
    """
    launcher.refuse_several("probe")
    console = Console(json=json, quiet=quiet)
    require(subject, data, ("train",))  # of images without labels there is no other split
    from barlowctl.assemble.machine import Runtime
    from barlowctl.data.images.unreadable import Problem, advise_skipping
    from barlowctl.measure.measurement import begin_measurement, check_lidar

    geometry, changes, policy = preparing.measuring(overrides, on_unreadable, backbone)
    tasks = _tasks(knn, linear, lidar, layers, protocol, semi, semi_list, finetune, finetune_protocol, seeds, changes)
    name, opened = open_named(console, subject, geometry)
    policy = policy or opened.on_unreadable
    if lidar:
        check_lidar(opened)
    measurement = begin_measurement(name, opened, data, tasks, out)
    _say_images(console, measurement.labelled)
    _say_preprocessing(console, opened)
    baselines = (("pixels",) if pixels else ()) + (("random-init",) if random_init else ())
    rows = []
    with advise_skipping(policy), console.progress("probing", 1 + len(baselines)) as progress:
        for row in measurement.rows(
            Runtime(device, threads, workers, loader),
            baselines=baselines,
            emit=report_training(console),
            on_unreadable=policy,
        ):
            progress.advance()
            rows.append(row)
    result = measurement.keep(rows)
    show_result(console, opened, result, rows, measurement.labelled.test.num_samples)
    for note in (*measurement.notes, *([measurement.note_on_file] if measurement.note_on_file else [])):
        console.say(f"note: {note}")
    say_unreadable(console, [Problem(**problem) for problem in result["unreadable"]])
    if result["file"]:
        what = "by class and confusion" if measurement.tasks.need_labels else "spectra and correlation"
        beside = f"; {what}: {measurement.folder}" if measurement.folder.is_dir() else ""
        console.say(f"written to {measurement.file}{beside}")
    console.conclude(result, measurement.outputs)


def _say_images(console: Console, labelled: Labelled) -> None:
    """How many images each split has, and what of it was left out."""
    for split, images in labelled.splits.items():
        console.say(f"{split}: {counted(images.num_samples, 'image')} of {images.path}")
        for line in images.scan_report.lines():
            console.say(f"{split}: {line}")


def _say_preprocessing(console: Console, opened: Subject) -> None:
    preprocessing = opened.preprocessing
    resize, crop = preprocessing.resize, preprocessing.crop
    console.say(f"images are resized to {resize} and cropped to {crop}, {preprocessing.interpolation}")


def _tasks(
    knn: bool,
    linear: bool,
    lidar: bool,
    layers: bool,
    protocol: str | None,
    semi: list[int] | None,
    semi_list: Path | None,
    finetune: bool,
    finetune_protocol: str | None,
    seeds: int,
    overrides: list[str],
) -> Tasks:
    """What is measured: kNN, the fast linear classifier and LiDAR, if nothing was named.

    Raises:
        UserError: values that no protocol has.
    """
    from barlowctl.errors import did_you_mean, instead
    from barlowctl.measure.tasks import Tasks

    if protocol is not None and protocol not in PROTOCOL_NAMES:
        near = did_you_mean(protocol, PROTOCOL_NAMES)
        raise UserError(
            f"--protocol is '{protocol}'{near}",
            allowed=", ".join(PROTOCOL_NAMES),
            next=instead("--protocol", protocol, PROTOCOL_NAMES),
        )
    for percent in semi or []:
        if percent not in (1, 10):
            raise UserError(
                f"--semi is {percent}",
                allowed="1 or 10 (percent of the labels), as in the paper",
                next="--semi 1 --semi 10",
            )
    if finetune_protocol is not None and not (semi or finetune):
        raise UserError(
            f"--finetune-protocol {finetune_protocol} is of what is fine-tuned, and nothing is",
            allowed="with --finetune, --semi 1 or --semi 10",
            next="--finetune",
        )
    named = knn or linear or lidar or layers or protocol is not None or bool(semi) or finetune
    trained = ["linear"] if protocol in ("paper", "both") else []
    fine_tuned = [*(f"semi-{percent}" for percent in dict.fromkeys(semi or [])), *(["finetune"] if finetune else [])]
    trained += [f"{name}-modern" if finetune_protocol == "modern" else name for name in fine_tuned]
    measures = {
        "knn": knn or not named,
        "linear": (linear and protocol != "paper") or protocol in ("fast", "both") or not named,
        "lidar": lidar or not named,
        "layers": layers,
    }
    return Tasks.named(
        [measure for measure, is_named in measures.items() if is_named],
        trained,
        seeds=seeds,
        subset=semi_list,
        overrides=tuple(overrides),
    )
