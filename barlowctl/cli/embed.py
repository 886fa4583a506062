"""`barlowctl embed`: features of any images for other tools, nearest neighbours, and a map to look at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from barlowctl import launcher, shell
from barlowctl.cli import options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.errors import UserError
from barlowctl.output_paths import Outputs, check_file

EPILOG = examples(
    "barlowctl embed runs/NAME --data ~/photos --out photos.parquet",
    "barlowctl embed --data fashion-mnist --split test --map map.html",
    "barlowctl embed --data ~/photos --neighbours ~/holiday.jpg --neighbours 12",
    "barlowctl embed resnet50.a1_in1k --data ~/photos --out photos.npz",
)

NEIGHBOURS, MAP = "Nearest neighbours", "Map"  # panels of the help


def embed(
    subject: Annotated[
        str | None,
        options.subject("A run, an export, a .pth or a timm model, as in `probe`. Default: the newest finished run."),
    ] = None,
    named_after: Annotated[str | None, typer.Argument(hidden=True)] = None,  # the images, as they were given before
    data: Annotated[
        str | None,
        options.data("Images: a folder, a .beton file, or a data set's name. Default: those of the run."),
    ] = None,
    split: options.Split = "train",
    overrides: Annotated[
        list[str] | None, options.overrides("Override eval.resize, eval.crop or data.range.", options.IMAGES)
    ] = None,
    on_unreadable: options.OnUnreadable = None,
    out: Annotated[Path | None, options.out("Write features: .parquet, .npz or .safetensors.")] = None,
    neighbours: Annotated[
        list[str] | None,
        typer.Option(
            "--neighbours",
            "-n",
            metavar="IMAGE",
            help="Draw the nearest images of this one: a position, a name, or a file from anywhere. Repeatable.",
            rich_help_panel=NEIGHBOURS,
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many neighbours.", rich_help_panel=NEIGHBOURS)] = 8,
    neighbours_out: Annotated[
        Path | None,
        typer.Option(
            "--neighbours-out",
            help="The picture of the neighbours. Default: neighbours.png, or neighbours-2.png ...",
            rich_help_panel=NEIGHBOURS,
        ),
    ] = None,
    map: Annotated[
        list[Path] | None,
        typer.Option(
            "--map",
            help="Write a 2-D map: .png, or .html where pointing shows the image. Repeatable.",
            rich_help_panel=MAP,
        ),
    ] = None,
    projection: Annotated[
        Literal["tsne", "umap"],
        typer.Option("--projection", help="How features become two numbers.", rich_help_panel=MAP),
    ] = "tsne",
    at_most: Annotated[
        int,
        typer.Option("--map-images", min=4, help="Images on the map at most, drawn by seed.", rich_help_panel=MAP),
    ] = 3000,
    seed: Annotated[int, options.seed("Of that draw and of the map.", MAP)] = 0,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    loader: options.Loader = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compute features of images with a frozen network, and write or draw them.

    At least one of --out, --neighbours and --map. Images are resized and centre-cropped as in evaluation.
    """
    from barlowctl.assemble.data import choices_of, open_images
    from barlowctl.assemble.labelled import image_names
    from barlowctl.assemble.machine import Runtime
    from barlowctl.assemble.run_images import changed_since_training, require
    from barlowctl.data.images.unreadable import listed
    from barlowctl.eval.embeddings import check_path, write
    from barlowctl.eval.projection import check_projection
    from barlowctl.measure import embedding
    from barlowctl.measure.identity import identify
    from barlowctl.measure.subjects import open_subject

    launcher.refuse_several("embed")
    console = Console(json=json, quiet=quiet)
    if data is not None and named_after is not None:
        raise UserError(f"images were named twice: '{named_after}' and --data {data}", next="without --data")
    images = data or named_after
    maps, queries = map or [], neighbours or []
    if out is None and not maps and not queries:
        raise UserError(
            "nothing to do", allowed="at least one of --out, --neighbours, --map", next="--out features.npz"
        )
    geometry, foreign, chosen = options.measuring(overrides, on_unreadable)
    if out is not None:
        check_path(out)
    for path in maps:
        if path.suffix not in (".png", ".html"):
            raise UserError(
                f"--map is '{path}'",
                allowed="a name that ends in .png or .html",
                next=shell.line("--map", f"{path}.png"),
            )
        check_file(path, "--map")
    if queries and neighbours_out:
        check_file(neighbours_out, "--neighbours-out")
    if maps:
        check_projection(projection)
    if foreign:
        raise UserError(
            f"--set {foreign[0]}",
            allowed="eval.resize, eval.crop, data.range, data.background, data.bands",
            next=shell.line("without", f"--set={foreign[0]}"),
        )
    if subject is None:
        subject = str(options.newest_finished(console))
    opened = open_subject(subject, overrides=geometry)
    policy = chosen or opened.on_unreadable
    for note in opened.notes:
        console.say(f"note: {note}")
    if images is None and opened.run is not None:
        require(opened.run.path, opened.run.recipe)
    images = opened.measured_on(images)
    runtime = Runtime(device, threads, workers, loader)
    source = open_images(images, split, choices_of(opened.preprocessing))
    console.say(f"{source.num_samples:,} images of {source.path}")
    for line in source.scan_report.lines():
        console.say(line)
    identity = identify(opened, {split: source.fingerprint}).as_dict()
    key = identity["key"]
    maps_to = [_free_or_own(path, key) for path in maps]
    if maps != maps_to:
        raise _of_something_else(maps, maps_to, shell.line(*(word for one in maps_to for word in ("--map", one))))
    if queries:
        picture_to = _free_or_own(neighbours_out or Path("neighbours.png"), key)
        if neighbours_out not in (None, picture_to):
            raise _of_something_else([neighbours_out], [picture_to], shell.line("--neighbours-out", picture_to))
    notes = changed_since_training(opened.folder, source)
    for note in notes:
        console.say(f"note: {note}")
    with options.advise_skipping(policy):
        found = embedding.embed(opened, source, split, runtime, on_unreadable=policy, identity=identity)
    for line in listed(found.unreadable):
        console.say(line)
    every = chosen is None  # a run that goes on past such images: nobody asked for rows to be left out
    if found.unreadable:
        without = "a row of NaN" if every else "no row"
        console.say(f"{len(found.unreadable):,} of {source.num_samples:,} images have {without}: they cannot be read")
    result: dict[str, Any] = {
        "subject": subject,
        **opened.metadata,
        "images": str(source.path),
        "count": len(found.features),
        **source.scan_report.nonempty(),
        "features": found.features.shape[1],
        **opened.preprocessing.as_result(),
        "identity": identity,
        "notes": notes,
        "unreadable": [problem.as_dict() for problem in found.unreadable],
    }
    outputs = Outputs()
    if out is not None:
        rows = found.with_rows_of_all(image_names(source, split), source.labels) if every else found
        with outputs.writing(out):
            write(out, rows)
    if outputs.files:
        console.say(f"{len(rows.features):,} x {rows.features.shape[1]} features written to {out}")
    if queries:
        picture, result["neighbours"] = embedding.find_neighbours(opened, source, found, queries, runtime, top=top)
        with outputs.writing(picture_to):
            embedding.draw_neighbours(picture, picture_to, key)
            console.say(f"neighbours drawn to {picture_to}")
    if maps:
        count = embedding.draw_map(source, found, maps, projection, outputs, at_most=at_most, seed=seed, key=key)
        result["map_images"] = count
        drawn = ", ".join(str(path) for path in maps if str(path) in outputs.files)
        console.say(f"map of {count:,} images ({projection}) drawn to {drawn or 'no file'}")
    console.conclude({**result, "files": outputs.files}, outputs)


def _free_or_own(path: Path, key: str) -> Path:
    """The path, or the first name beside it that nothing has, or that has a picture of this identity."""
    from barlowctl.measure.identity import bears

    candidates = (path, *(path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(2, 1000)))
    return next((one for one in candidates if not os.path.lexists(one) or bears(one, key)), path)


def _of_something_else(paths: list[Path], instead: list[Path], advice: str) -> UserError:
    """What would be written over is of other images or another network, or is no picture of ours."""
    path = next(path for path, other in zip(paths, instead, strict=True) if path != other)
    return UserError(f"'{path}' exists, is not of this network on these images, and is not overwritten", next=advice)
