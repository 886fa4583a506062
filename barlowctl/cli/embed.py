"""`barlowctl embed`: features of any images for other tools, nearest neighbours, and a map to look at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from barlowctl import launcher, shell
from barlowctl.cli import options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cli.subject import images_of, open_named, say_unreadable
from barlowctl.errors import UserError
from barlowctl.output_paths import Outputs, check_file

if TYPE_CHECKING:
    from barlowctl.assemble.data import ImageSet
    from barlowctl.eval.embeddings import Embeddings

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
    from barlowctl.assemble.machine import Runtime
    from barlowctl.assemble.run_images import changed_since_training
    from barlowctl.measure import embedding
    from barlowctl.measure.identity import identify

    launcher.refuse_several("embed")
    console = Console(json=json, quiet=quiet)
    if data is not None and named_after is not None:
        raise UserError(f"images were named twice: '{named_after}' and --data {data}", next="without --data")
    maps, queries = map or [], neighbours or []
    geometry, changes, policy = options.measuring(overrides, on_unreadable)
    _check_files(out, maps, neighbours_out if queries else None, nothing=out is None and not maps and not queries)
    _check_values(projection if maps else None, changes)
    name, opened = open_named(console, subject, geometry)
    source = open_images(images_of(opened, data or named_after), split, choices_of(opened.preprocessing))
    console.say(f"{source.num_samples:,} images of {source.path}")
    for line in source.scan_report.lines():
        console.say(line)
    identity = identify(opened, {split: source.fingerprint}).as_dict()
    _check_maps_are_own(maps, identity["key"])
    picture_to = _file_of_neighbours(neighbours_out, identity["key"]) if queries else None
    notes = changed_since_training(opened.folder, source)
    for note in notes:
        console.say(f"note: {note}")
    runtime, on_bad = Runtime(device, threads, workers, loader), policy or opened.on_unreadable
    with options.advise_skipping(on_bad):
        features = embedding.embed(opened, source, split, runtime, on_unreadable=on_bad, identity=identity)
    result: dict[str, Any] = {
        "subject": name,
        **opened.metadata,
        "images": str(source.path),
        "count": len(features.features),
        **source.scan_report.nonempty(),
        "features": features.features.shape[1],
        **opened.preprocessing.as_result(),
        "identity": identity,
        "notes": notes,
        "unreadable": [problem.as_dict() for problem in features.unreadable],
    }
    say_unreadable(console, features.unreadable)
    rows_of_all = policy is None  # a run that goes on past unreadable images: nobody asked for rows to be left out
    if features.unreadable:
        count = f"{len(features.unreadable):,} of {source.num_samples:,} images"
        console.say(f"{count} have {'a row of NaN' if rows_of_all else 'no row'}: they cannot be read")
    outputs = Outputs()
    if out is not None:
        _write_features(console, outputs, out, features, source, split, rows_of_all=rows_of_all)
    if picture_to is not None:
        picture, result["neighbours"] = embedding.find_neighbours(opened, source, features, queries, runtime, top=top)
        with outputs.writing(picture_to):
            embedding.draw_neighbours(picture, picture_to, identity["key"])
            console.say(f"neighbours drawn to {picture_to}")
    if maps:
        result["map_images"] = embedding.draw_map(
            source, features, maps, projection, outputs, at_most=at_most, seed=seed, key=identity["key"]
        )
        drawn = ", ".join(str(path) for path in maps if str(path) in outputs.files)
        console.say(f"map of {result['map_images']:,} images ({projection}) drawn to {drawn or 'no file'}")
    console.conclude({**result, "files": outputs.files}, outputs)


def _check_files(out: Path | None, maps: list[Path], neighbours_out: Path | None, *, nothing: bool) -> None:
    """Refuse, before anything is computed, files that could not be written in the end; and a command without any.

    Raises:
        UserError: see above.
    """
    from barlowctl.eval.embeddings import check_path

    if nothing:
        raise UserError(
            "nothing to do", allowed="at least one of --out, --neighbours, --map", next="--out features.npz"
        )
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
    if neighbours_out is not None:
        check_file(neighbours_out, "--neighbours-out")


def _check_values(projection: str | None, changes: list[str]) -> None:
    """Refuse a projection of the map that is not there, and overrides of what an embedding does not have.

    Raises:
        UserError: see above.
    """
    from barlowctl.eval.projection import check_projection

    if projection is not None:
        check_projection(projection)
    if changes:
        raise UserError(
            f"--set {changes[0]}",
            allowed="eval.resize, eval.crop, data.range, data.background, data.bands",
            next=shell.line("without", f"--set={changes[0]}"),
        )


def _check_maps_are_own(maps: list[Path], key: str) -> None:
    """Refuse to write a map over what is not a map of this identity.

    Raises:
        UserError: with names that are free.
    """
    free = [_free_or_own(path, key) for path in maps]
    if maps != free:
        raise _of_something_else(maps, free, shell.line(*(word for path in free for word in ("--map", path))))


def _file_of_neighbours(named: Path | None, key: str) -> Path:
    """Where the picture of neighbours goes: what was named, else neighbours.png or the next name that is free.

    Raises:
        UserError: what was named is a picture of something else.
    """
    free = _free_or_own(named or Path("neighbours.png"), key)
    if named not in (None, free):
        raise _of_something_else([named], [free], shell.line("--neighbours-out", free))
    return free


def _write_features(
    console: Console,
    outputs: Outputs,
    out: Path,
    features: Embeddings,
    source: ImageSet,
    split: str,
    *,
    rows_of_all: bool,
) -> None:
    """Write the features with their images' names and labels; `rows_of_all`: a row of NaN for each unreadable one."""
    from barlowctl.assemble.labelled import image_names
    from barlowctl.eval.embeddings import write

    rows = features.with_rows_of_all(image_names(source, split), source.labels) if rows_of_all else features
    with outputs.writing(out):
        write(out, rows)
    if outputs.files:
        console.say(f"{len(rows.features):,} x {rows.features.shape[1]} features written to {out}")


def _free_or_own(path: Path, key: str) -> Path:
    """The path, or the first name beside it that nothing has, or that has a picture of this identity."""
    from barlowctl.measure.identity import bears

    candidates = (path, *(path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(2, 1000)))
    return next((other for other in candidates if not os.path.lexists(other) or bears(other, key)), path)


def _of_something_else(paths: list[Path], instead: list[Path], advice: str) -> UserError:
    """What would be written over is of other images or another network, or is no picture of ours."""
    path = next(path for path, other in zip(paths, instead, strict=True) if path != other)
    return UserError(f"'{path}' exists, is not of this network on these images, and is not overwritten", next=advice)
