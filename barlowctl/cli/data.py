"""`barlowctl data`: pack images, look at them, and bring the well-known data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from barlowctl import launcher, shell
from barlowctl.cli import completion, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import Command, Group, examples
from barlowctl.cores import usable_cores
from barlowctl.datasets import DATASETS, DOWNLOADABLE
from barlowctl.errors import UserError
from barlowctl.output_paths import check_file, check_new

if TYPE_CHECKING:
    from barlowctl.data.beton.pack import PackReport
    from barlowctl.data.fetch import Fetched

app = typer.Typer(
    cls=Group,
    help="Pack images for training, inspect them, bring data sets.",
    epilog=examples(
        "barlowctl data get fashion-mnist",
        "barlowctl data pack ~/photos my-photos",
        "barlowctl data preview --data my-photos",
    ),
    no_args_is_help=True,
)

PackWorkers = Annotated[int | None, options.workers("Threads that decode. Default: the cores.")]
STORED = "What is stored"  # a panel of the help

PREVIEW = Path("preview.png")
SHOWN = 10  # unreadable images that are listed on the terminal


@app.command(
    "pack",
    cls=Command,
    epilog=examples(
        "barlowctl data pack ~/photos my-photos",
        "barlowctl data pack /path/to/imagenet imagenet --split val",
        "barlowctl data pack scans/ scans.beton",
        "barlowctl data pack shards/ photos --shorter-side 256",
    ),
)
def pack(
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
    image_column: Annotated[
        str | None,
        typer.Option(
            "--image-column",
            metavar="NAME",
            help="Of Parquet files; inside a struct: sample.image.",
            rich_help_panel=options.IMAGES,
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column",
            metavar="NAME",
            help="Of Parquet files; none: without labels.",
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
            help="Make larger images smaller: their shorter side to this.",
            rich_help_panel=STORED,
        ),
    ] = None,
    value_range: Annotated[
        str,
        typer.Option(
            "--range",
            metavar="auto|type|LOW:HIGH",
            rich_help_panel=STORED,
            help="More than 8 bits: the values of black and white, LOW:HIGH (of several types: "
            "uint16=0:4095,float32=0:1); auto: measured over the data set; type.",
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
            metavar="R,G,B",
            help="More than three bands: which are red, green, blue (4,3,2), or one for grey.",
            rich_help_panel=STORED,
        ),
    ] = "",
    overwrite: Annotated[bool, options.overwrite("Replace an existing file.")] = False,
    workers: PackWorkers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pack images into one .beton file that the fast loader reads (FFCV's format).

    JPEG bytes are kept as they are where they fit; other images are converted, small ones without loss.
    With a bare name such as my-photos the file becomes <data home>/my-photos/<split>.beton, which recipes
    and --data find by that name. The file appears under its name only when it is complete.
    """
    from barlowctl.data import home
    from barlowctl.data.beton.pack import check_options
    from barlowctl.data.beton.pack import pack as pack_source
    from barlowctl.data.images.conversion import Choices, parse_bands
    from barlowctl.data.sources import open_source
    from barlowctl.data.sources.read_options import ReadOptions
    from barlowctl.data.sources.sample import conversion_of

    launcher.refuse_several("data pack")
    console = Console(json=json, quiet=quiet)
    read_options = ReadOptions(layout, member, image_column, label_column)
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
    console.say(f"{source}: {len(images)} {images.kind}, {images.split} split")
    training = None if split == "train" else lambda: open_source(source, "train")
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
    _show_report(console, report)
    of_split = () if split == "train" or out.endswith(".beton") else ("--split", split)
    console.next(shell.line("barlowctl", "data", "preview", "--data", out, *of_split))
    console.result(report.as_dict())


@app.command(
    "info",
    cls=Command,
    epilog=examples(
        "barlowctl data info fashion-mnist",
        "barlowctl data info images.beton --verify",
    ),
)
def info(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|NAME",
            help="A .beton file, or a data set of the data home. Without one: list the data home.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    split: options.Split = "train",
    verify: Annotated[bool, typer.Option("--verify", help="Read the whole file and check its content hash.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """What is in a packed file, or which data sets the data home has."""
    from barlowctl.data import home
    from barlowctl.data.beton.reader import Beton

    console = Console(json=json, quiet=quiet)
    if data is None:
        found = home.available()
        console.table(
            f"Data home {home.data_home()}", ("name", "splits"), [(n, ", ".join(s)) for n, s in found.items()]
        )
        if not found:
            console.say("empty: no data set was brought or packed yet")
            console.next("barlowctl data get fashion-mnist")
        console.result({"home": str(home.data_home()), "datasets": found})
        return
    path = home.resolve(data, split)
    if path.suffix != ".beton":
        raise UserError(
            f"{path} is a folder of images, not packed", next=shell.line("barlowctl", "data", "pack", path, "OUT.beton")
        )
    beton = Beton.open(path)
    if verify and beton.noted_hash is None:
        raise UserError(
            f"{path} has no content hash to compare with: barlowctl did not write it",
            next="without --verify",
        )
    if verify and beton.has_names and not beton.names.intact():
        raise UserError(
            f"{path} has changed since it was packed: the names of its images differ",
            next=shell.line("barlowctl", "data", "pack", "SOURCE", path, "--overwrite"),
        )
    if verify and beton.compute_hash() != beton.noted_hash:
        raise UserError(
            f"{path} has changed since it was packed: its content hash differs",
            next=shell.line("barlowctl", "data", "pack", "SOURCE", path, "--overwrite"),
        )
    values = _describe(beton)
    console.table(str(path), ("", "value"), [(key, _text(value)) for key, value in values.items()])
    if verify:
        console.say("content hash verified")
    console.result(values | {"class_names": beton.class_names, "info": beton.info})


@app.command(
    "preview",
    cls=Command,
    epilog=examples(
        "barlowctl data preview --recipe resnet50 --data my-photos",
        "barlowctl data preview -r quickstart --samples 12 --out sheet.png",
    ),
)
def preview(
    recipe: Annotated[str | None, options.recipe("Whose views. Default: those of the paper, 224 pixels.")] = None,
    overrides: options.Overrides = None,
    data: options.Data = None,
    split: options.Split = "train",
    samples: Annotated[int, options.samples("Images to show.", options.IMAGES, min=1, max=200)] = 8,
    seed: Annotated[int | None, options.seed("Of the draw and the views.", options.IMAGES)] = None,
    out: Annotated[Path, options.out("The picture, a PNG.")] = PREVIEW,
    loader: options.Loader = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw originals and the views that training would see, from the real loader, as a PNG."""
    from barlowctl.recipe import load

    console = Console(json=json, quiet=quiet)
    if recipe is None and data is None:
        raise UserError("neither a recipe nor data was named", next="barlowctl data preview --recipe quickstart")
    changes = [*(overrides or ()), *([f"seed={seed}"] if seed is not None else [])]
    value = load.load(recipe or "resnet50", changes)

    import torch

    from barlowctl.assemble.data import choose_loader, open_recipe_images, training_loader, view_specs
    from barlowctl.assemble.machine import Runtime
    from barlowctl.assemble.run_images import dataset_of
    from barlowctl.data.images.unreadable import listed
    from barlowctl.data.preview import preview as save_preview

    if data is None and recipe is not None and (Path(recipe).parent / "run.json").is_file():  # a run's own recipe
        data = dataset_of(Path(recipe).parent, value)
    if out.suffix != ".png":
        raise UserError(f"--out is '{out}'", allowed="a name that ends in .png", next=shell.line("--out", f"{out}.png"))
    (check_new if out != PREVIEW else check_file)(out)  # what the flag's default names is drawn anew
    source, specs = open_recipe_images(value, split, data), view_specs(value)
    runtime, device = Runtime(device="cpu", workers=1, loader=loader), torch.device("cpu")
    chosen = choose_loader(source, loader)

    def make_loader(indices: Any) -> Any:
        settings = {"batch_size": len(indices), "shuffle": False, "drop_last": False, "subset": indices}
        if value.data.on_unreadable == "replace":  # training goes on past it; a preview shows no other in its place
            settings["on_unreadable"] = "skip"
        return training_loader(source, value, runtime, device, choice=chosen, **settings)

    drawn = save_preview(source, specs, out, samples=samples, seed=value.seed, make_loader=make_loader)
    for line in listed(drawn.unreadable):
        console.say(line)
    by = f"{chosen.name} loader ({chosen.why})"
    console.say(f"{drawn.samples} images of {source.path} with recipe {value.name}, {by}: {drawn.path}")
    for line in source.scan_report.lines():
        console.say(line)
    console.result(
        {
            "path": str(drawn.path),
            "samples": drawn.samples,
            "recipe_name": value.name,
            "seed": value.seed,
            "loader": chosen.name,
            "unreadable": [problem.as_dict() for problem in drawn.unreadable],
        }
        | source.scan_report.nonempty()
    )


@app.command(
    "get",
    cls=Command,
    epilog=examples(
        "barlowctl data get fashion-mnist",
        "barlowctl data get cifar10 --from ~/downloads",
    ),
)
def get(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help=f"{', '.join(DOWNLOADABLE)}.",
            autocompletion=completion.downloads,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A folder that has its files already. Default: Debian's package or a download."),
    ] = None,
    overwrite: Annotated[bool, options.overwrite("Pack again what is there.")] = False,
    workers: PackWorkers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring a well-known data set into the data home, packed. What is there already stays."""
    from barlowctl.data import fetch

    launcher.refuse_several("data get")
    console = Console(json=json, quiet=quiet)
    names = list(DOWNLOADABLE)
    missing = UserError("no data set was named", allowed=", ".join(names), next="barlowctl data get fashion-mnist")
    name = name or console.choose("Which data set?", names, missing=missing)
    total = sum(DATASETS[name].images.values()) if name in DOWNLOADABLE else None
    with console.progress(f"data set {name}", total) as bar:
        fetched = fetch.get(
            name,
            source=source,
            workers=workers or usable_cores(),
            overwrite=overwrite,
            say=console.say,
            progress=bar.advance,
        )
    console.table("", ("split", "images", "file"), [(one.split, one.samples, str(one.path)) for one in fetched])
    console.result({"name": name, "splits": {one.split: _fetched(one) for one in fetched}})


def _fetched(one: Fetched) -> dict[str, Any]:
    return {
        "path": str(one.path),
        "samples": one.samples,
        "content_hash": one.content_hash,
        "packed_now": one.report is not None,
    }


def _show_report(console: Console, report: PackReport) -> None:
    """The outcome as a table; what was left out, doubtful or passed over by name."""
    from barlowctl.data.tree.scan_report import lines_of, total

    megabytes = f"{report.bytes / 1e6:.1f} MB in {report.seconds:.1f} s"
    rows = [
        ("images", report.samples),
        ("classes", report.classes if report.labelled else "none (unlabelled)"),
        *([("without a label", report.samples - report.labelled)] if 0 < report.labelled < report.samples else []),
        ("channels", report.channels),
        ("stored as they were", report.passed_through),
        ("stored anew as JPEG", report.encoded),
        ("stored as pixels", report.raw),
        *([("made smaller", report.resized)] if report.resized else []),
        ("unreadable, left out", len(report.unreadable)),
        *([("passed over", total(report.as_dict()))] if report.passed_over else []),
        ("size", megabytes),
        ("content hash", report.content_hash),
    ]
    rows += [(f"changed: {why}", count) for why, count in report.changed.items()]
    console.table(report.path, ("", "value"), [(name, str(value)) for name, value in rows])
    for name, reason in report.unreadable[:SHOWN]:
        console.say(f"unreadable: {name}: {reason}")
    if len(report.unreadable) > SHOWN:
        console.say(f"... and {len(report.unreadable) - SHOWN} more (data info --json lists up to 100)")
    for name in report.damaged[:SHOWN]:
        console.say(f"damaged, but decoded: {name}")
    for line in lines_of(report.as_dict()):
        console.say(line)


def _describe(beton: Any) -> dict[str, Any]:
    from barlowctl.data.tree.scan_report import total

    sides = beton.widths * beton.heights
    return {
        "path": str(beton.path),
        "samples": beton.num_samples,
        "classes": beton.num_classes,
        "labelled": int((beton.labels >= 0).sum()),
        "channels": beton.channels,
        "jpeg": int((beton.modes == 0).sum()),
        "raw": int((beton.modes == 1).sum()),
        "width": [int(beton.widths.min()), int(beton.widths.max())],
        "height": [int(beton.heights.min()), int(beton.heights.max())],
        "mean_pixels": round(float(sides.mean())),
        "bytes": len(beton.bytes),
        "content_hash": beton.noted_hash,
        "names": beton.has_names,
        "source": beton.info.get("source"),
        "packed": beton.info.get("date"),
        "skipped": beton.info.get("counts", {}).get("skipped"),
        "passed_over": total(beton.info) if "passed_over" in beton.info else None,
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        low, high = value
        return str(low) if low == high else f"{low} to {high}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
