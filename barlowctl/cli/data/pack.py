"""`barlowctl data pack`: images into one file that the fast loader reads."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from barlowctl import launcher, shell
from barlowctl.channels import are_bands
from barlowctl.cli import limits, options
from barlowctl.cli.advice import repeated
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cores import usable_cores
from barlowctl.errors import UserError
from barlowctl.output_paths import check_file

EPILOG = examples(
    "barlowctl data pack ~/photos my-photos",
    "barlowctl data pack /path/to/imagenet imagenet --split val",
    "barlowctl data pack scans/ scans.beton",
    "barlowctl data pack shards/ photos --shorter-side 256",
)
STORED = "What is stored"  # a panel of the help


def pack(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of images (class folders, train/ and val/, or a flat pile), tar shards, Parquet files, a "
            "zip file, a .txt list of paths, IDX, CIFAR or STL-10 files.",
        ),
    ],
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="A file FILE.beton, or a bare name: kept in the data home.")
    ],
    split: Annotated[options.SplitName, options.split("Which part of the source, and of the data set.")] = "train",
    on_unreadable: Annotated[
        options.Policy, options.on_unreadable("skip (and report), or stop at the first, at damaged ones too.")
    ] = "skip",
    layout: Annotated[
        Literal["folder", "shards"] | None,
        typer.Option(
            "--layout",
            help="Of a folder with both: its images, or the archives in it.",
            rich_help_panel=options.IMAGES,
        ),
    ] = None,
    member: Annotated[
        str | None,
        typer.Option(
            "--member",
            help="Which image of a sample in tar files: its ending (jpg, seg.png), or all.",
            rich_help_panel=options.IMAGES,
        ),
    ] = None,
    class_folders: Annotated[
        Literal["outer", "inner"] | None,
        typer.Option(
            "--class-folders",
            help="Of images several folders deep, which folders are classes: the outermost, or those that images "
            "lie in. Default: outer, with a note where that is doubtful.",
            rich_help_panel=options.IMAGES,
        ),
    ] = None,
    hold_out: Annotated[
        int | None,
        typer.Option(
            "--hold-out",
            metavar="PERCENT",
            min=1,
            max=99,
            help="Of labelled images without a test split: this percentage of each class, e.g. 20, becomes one, drawn "
            "once; pack both, with --split test too.",
            rich_help_panel=options.IMAGES,
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            "--groups",
            metavar="REGEX",
            help="With --hold-out: images whose names have the same match, e.g. 'patient[0-9]+', go to one side.",
            rich_help_panel=options.IMAGES,
        ),
    ] = None,
    groups_column: Annotated[
        str | None,
        typer.Option(
            "--groups-column",
            metavar="NAME",
            help="With --hold-out: a column of Parquet files, or of the table beside the images; images with the same "
            "value, e.g. of one patient, go to one side.",
            rich_help_panel=options.IMAGES,
        ),
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(
            "--image-column",
            metavar="NAME",
            help="Of Parquet files; inside a struct: sample.image. Of HDF5 files and .npz: an array.",
            rich_help_panel=options.IMAGES,
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column",
            metavar="NAME",
            help="Of Parquet files, HDF5 files and .npz; none: without labels.",
            rich_help_panel=options.IMAGES,
        ),
    ] = None,
    store: Annotated[
        Literal["auto", "jpeg", "raw"],
        typer.Option(
            "--store",
            help="auto: JPEGs as they are; jpeg: never pixels; raw: always pixels.",
            rich_help_panel=STORED,
        ),
    ] = "auto",
    quality: Annotated[
        int,
        typer.Option("--quality", min=1, max=100, help="Of images stored anew as JPEG.", rich_help_panel=STORED),
    ] = 95,
    shorter_side: Annotated[
        int | None,
        typer.Option(
            "--shorter-side",
            metavar="PIXELS",
            min=8,
            max=limits.SIDE,
            help="Make larger images smaller: their shorter side to this.",
            rich_help_panel=STORED,
        ),
    ] = None,
    value_range: Annotated[
        str,
        typer.Option(
            "--range",
            metavar="auto|per-band|type|LOW:HIGH",
            rich_help_panel=STORED,
            help="More than 8 bits: the values of black and white, LOW:HIGH (of several types: "
            "uint16=0:4095,float32=0:1; of each band: 0:3000/0:400/0:5000); auto: measured over the data set; "
            "per-band: for each band by itself; type.",
        ),
    ] = "auto",
    background: Annotated[
        str,
        typer.Option(
            "--background",
            metavar="COLOUR",
            help="Behind transparent pixels: white, black, grey, #RRGGBB, or none.",
            rich_help_panel=STORED,
        ),
    ] = "white",
    bands: Annotated[
        str,
        typer.Option(
            "--bands",
            metavar="NUMBERS",
            help="More than three bands: which are red, green, blue (4,3,2), one for grey, or all as channels (1-13).",
            rich_help_panel=STORED,
        ),
    ] = "",
    overwrite: Annotated[bool, options.overwrite("Replace an existing file.")] = False,
    workers: options.PackWorkers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pack images into one .beton file that the fast loader reads (FFCV's format).

    JPEG bytes are kept as they are where they fit; other images are converted, small ones without loss.
    With a bare name such as my-photos the file becomes my-photos/SPLIT.beton in the data home, which recipes
    and --data find by that name. The file appears under its name only when it is complete.
    """
    from barlowctl.cli.data.contents import show_report
    from barlowctl.cli.data.unpacked_splits import unpacked_splits
    from barlowctl.data import home
    from barlowctl.data.beton.pack import check_options, flag_of
    from barlowctl.data.beton.pack import pack as pack_source
    from barlowctl.data.images.conversion import Choices, parse_bands
    from barlowctl.data.sources import open_source
    from barlowctl.data.sources.read_options import ReadOptions
    from barlowctl.data.sources.sample import conversion_of

    launcher.refuse_several("data pack")
    console = Console(json=json, quiet=quiet)
    grouped = (hold_out, groups, groups_column)
    read_options = ReadOptions(layout, member, image_column, label_column, class_folders, *grouped)
    target = home.target(out, split)
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists already", next="--overwrite")
    check_file(target, "OUT")
    workers = workers or usable_cores()
    policy: Literal["skip", "fail"] = "fail" if on_unreadable == "stop" else "skip"
    check_options(workers, store, quality, shorter_side, policy)
    choices = Choices(value_range, background, parse_bands(bands))
    console.say(f"looking for images in {source}")
    images = open_source(source, split, read_options)
    console.say(f"{source}: {images.counted()}, {images.split} split")
    training = None if split == "train" else lambda: open_source(source, "train", read_options)
    with console.progress(f"packing into {target}", len(images)) as bar:
        report = pack_source(
            images,
            target,
            workers=workers,
            store=store,
            quality=quality,
            shorter_side=shorter_side,
            on_unreadable=policy,
            on_damaged="fail" if policy == "fail" else "keep",
            overwrite=overwrite,
            conversion=conversion_of(images, choices, training),
            progress=bar.advance,
        )
    show_report(console, report)
    if report.setting:  # without which images were left out
        lacking = ["--overwrite", *shlex.split(flag_of(report.setting))]
        console.next(repeated(context.obj, context.command, flags=lacking))
    of_split = () if split == "train" or out.endswith(".beton") else ("--split", split)
    if are_bands(report.channels):  # a recipe needs their number, mean and deviation first
        console.next(shell.line("barlowctl", "data", "info", out, "--statistics", *of_split))
    else:
        console.next(shell.line("barlowctl", "data", "preview", "--data", out, *of_split))
    others = unpacked_splits(images, source, out)
    for other, name in others.items():
        console.say(f"note: {source} has a {other} split too, which is not packed")
        again = ("--overwrite", "--json", "--quiet")
        console.next(repeated(context.obj, context.command, flags=["--split", other], without=again, last=(out, name)))
    console.result(report.as_dict() | {"other_splits": list(others)})
