"""`barlowctl embed`: features of any images and of their patches for other tools, nearest neighbours, and maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from barlowctl import launcher, shell
from barlowctl.amounts import counted
from barlowctl.cli import limits, options, preparing
from barlowctl.cli.console import Console
from barlowctl.cli.embed_files import (
    check_own,
    compute_features,
    draw_maps,
    draw_neighbours,
    file_of_neighbours,
    say_rows,
    write_features,
)
from barlowctl.cli.embed_patches import PatchOptions, write_patches
from barlowctl.cli.help import examples
from barlowctl.cli.subject import open_named, refuse_images, require, say_unreadable
from barlowctl.errors import UserError
from barlowctl.output_paths import Outputs, check_file

if TYPE_CHECKING:
    from barlowctl.assemble.data import ImageSet
    from barlowctl.measure.subjects import Subject

EPILOG = examples(
    "barlowctl embed runs/NAME --data ~/photos --out photos.parquet",
    "barlowctl embed --data fashion-mnist --split test --map map.html",
    "barlowctl embed --data ~/photos --neighbours ~/holiday.jpg --neighbours 12",
    "barlowctl embed resnet50.a1_in1k --data ~/photos --out photos.npz",
    "barlowctl embed --data ~/photos --patches patches.png",
)

NEIGHBOURS, MAP, PATCHES = "Nearest neighbours", "Map", "Patches"  # panels of the help


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
    backbone: options.Backbone = None,
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
    top: Annotated[int, options.top("How many neighbours.", NEIGHBOURS)] = 8,
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
        typer.Option(
            "--map-images",
            min=4,
            max=limits.IMAGES,
            help="Images on the map at most, drawn by seed.",
            rich_help_panel=MAP,
        ),
    ] = 3000,
    seed: Annotated[int, options.seed("Of that draw and of the map.", MAP)] = 0,
    patches: Annotated[
        list[Path] | None,
        typer.Option(
            "--patches",
            help="Feature maps of whole images: .safetensors, or .png for a picture of some of them, with principal "
            "components as colours. Repeatable.",
            rich_help_panel=PATCHES,
        ),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(
            "--layer",
            min=-limits.AT_ONCE,
            max=limits.AT_ONCE,
            help="Of which stage or block, from 0; -1 is the last. Default: the last.",
            rich_help_panel=PATCHES,
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            min=8,
            max=8192,
            help="Shorter side of an image, in pixels, e.g. 448. Default: eval.crop.",
            rich_help_panel=PATCHES,
        ),
    ] = None,
    images_drawn: Annotated[
        int,
        typer.Option("--patches-images", min=1, max=300, help="Images in the picture.", rich_help_panel=PATCHES),
    ] = 12,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    loader: options.Loader = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compute features of images with a frozen network, and write or draw them.

    At least one of --out, --neighbours, --map and --patches. Images are resized and centre-cropped as in evaluation;
    for --patches they are whole, with their own aspect, where the network takes that.
    """
    launcher.refuse_several("embed")
    console = Console(json=json, quiet=quiet)
    data = _named_once(data, named_after)
    maps, queries = map or [], neighbours or []
    of_patches = PatchOptions(tuple(patches or ()), layer, image_size, images_drawn)
    geometry, changes, policy = preparing.measuring(overrides, on_unreadable, backbone)
    pooled = out is not None or bool(maps) or bool(queries)  # one vector for each image is wanted
    if subject is not None:
        refuse_images(subject)
    of_patches.check()
    _check_files(out, maps, neighbours_out if queries else None, nothing=not pooled and not of_patches)
    _check_values(projection if maps else None, [] if geometry else changes)
    require(subject, data, (split,))
    from barlowctl.assemble.machine import Runtime
    from barlowctl.data.images.unreadable import Problem, advise_skipping
    from barlowctl.measure.identity import identify

    name, opened = open_named(console, subject, [*geometry, *changes])  # which names all that are wrong
    source, notes = _open_images(console, opened, data, split)
    _check_images(source, split, queries, maps)
    identity = identify(opened, {split: source.fingerprint}).as_dict()
    key = identity["key"]
    check_own(maps, key, "--map")
    picture_to = file_of_neighbours(neighbours_out, key) if queries else None
    runtime, on_bad = Runtime(device, threads, workers, loader), policy or opened.on_unreadable
    outputs, unreadable = Outputs(), list[Problem]()
    result: dict[str, Any] = {
        "subject": name,
        **opened.metadata,
        "images": str(source.path),
        "count": source.num_samples,
        **source.scan_report.nonempty(),
        "identity": identity,
        "notes": notes,
    }
    with advise_skipping(on_bad):
        if of_patches:
            result["patches"], unreadable = write_patches(
                console, outputs, of_patches, opened, source, split, runtime, on_bad
            )
        if pooled:
            features = compute_features(console, opened, source, split, runtime, on_bad, identity)
            unreadable = features.unreadable
    say_unreadable(console, unreadable)
    result["unreadable"] = [problem.as_dict() for problem in unreadable]
    if pooled:
        count, width = features.features.shape
        result |= {"count": count, "features": width, **opened.preprocessing.as_result()}
        rows_of_all = policy is None  # a run that goes on past unreadable images: nobody asked for rows to be left out
        say_rows(console, features, source, rows_of_all=rows_of_all)
        if out is not None:
            write_features(console, outputs, out, features, source, split, rows_of_all=rows_of_all)
        if picture_to is not None:
            result |= draw_neighbours(
                console, outputs, picture_to, opened, source, features, queries, runtime, top, key
            )
        if maps:
            choice = {"at_most": at_most, "seed": seed, "key": key}
            result |= draw_maps(console, outputs, maps, source, features, projection, choice)
    console.conclude({**result, "files": outputs.files}, outputs)


def _named_once(data: str | None, named_after: str | None) -> str | None:
    """The images, which are named by `--data`, or after the network as before there was that.

    Raises:
        UserError: both.
    """
    if data is not None and named_after is not None:
        raise UserError(f"images were named twice: '{named_after}' and --data {data}", next="without --data")
    return data or named_after


def _open_images(console: Console, opened: Subject, data: str | None, split: str) -> tuple[ImageSet, list[str]]:
    """The images and notes on them, which are said.

    Raises:
        UserError: there are none.
    """
    from barlowctl.assemble.data import choices_of, open_images
    from barlowctl.assemble.run_images import changed_since_training
    from barlowctl.measure.subjects import images_of

    source = open_images(images_of(opened, data), split, choices_of(opened.preprocessing))
    notes = changed_since_training(opened.folder, source)
    console.say(f"{counted(source.num_samples, 'image')} of {source.path}")
    for line in (*source.scan_report.lines(), *(f"note: {note}" for note in notes)):
        console.say(line)
    return source, notes


def _check_images(source: ImageSet, split: str, queries: list[str], maps: list[Path]) -> None:
    """Refuse, before features are computed, queries that are nothing, and images too few for what is drawn of them.

    Raises:
        UserError: see above.
    """
    from barlowctl.eval.projection import check_map_size
    from barlowctl.measure.embedding import check_queries

    check_queries(queries, source, split)
    if maps:
        check_map_size(source.num_samples)


def _check_files(out: Path | None, maps: list[Path], neighbours_out: Path | None, *, nothing: bool) -> None:
    """Refuse, before anything is computed, files that could not be written in the end; and a command without any.

    Raises:
        UserError: see above.
    """
    from barlowctl.eval.embeddings import check_path

    if nothing:
        raise UserError(
            "nothing to do", allowed="at least one of --out, --neighbours, --map, --patches", next="--out features.npz"
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
    from barlowctl.recipe.overrides import changing, without

    if projection is not None:
        check_projection(projection)
    if changes:
        raise UserError(
            f"{changing(changes)} no embedding",
            allowed="eval.resize, eval.crop, data.range, data.background, data.bands",
            next=without(changes),
        )
