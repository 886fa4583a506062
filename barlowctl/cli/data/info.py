"""`barlowctl data info`: what is in a packed file, in the data home, or among images that are not packed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.cli import completion, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.errors import UserError

EPILOG = examples(
    "barlowctl data info fashion-mnist",
    "barlowctl data info images.beton --verify",
    "barlowctl data info my-photos --statistics",
    "barlowctl data info ~/photos",
)


LABELS = {
    "samples": "images",
    "classes": "classes",
    "labelled": "with a label",
    "channels": "channels",
    "jpeg": "stored as JPEG",
    "raw": "stored as pixels",
    "width": "width",
    "height": "height",
    "mean_pixels": "pixels, on average",
    "skipped": "unreadable, left out",
    "passed_over": "passed over",
    "bytes": "size in bytes",
    "content_hash": "content hash",
    "names": "has names",
    "source": "source",
    "packed": "packed",
}
"""Keys of the JSON document in the words of `data pack`."""


def info(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|FOLDER|NAME",
            help="A .beton file, a data set of the data home, or images that are not packed: a folder, an archive, a "
            "table. Without one: list the data home.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    split: options.Split = "train",
    verify: Annotated[bool, typer.Option("--verify", help="Read the whole file and check its content hash.")] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Mean and standard deviation of the pixels, as flags of a recipe.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """What is in a packed file, what `data pack` would take of images, or which data sets the data home has."""
    from barlowctl.cli.data.contents import class_rows, class_sizes, say_what_was_met, text_of
    from barlowctl.cli.data.unpacked import show_unpacked
    from barlowctl.data import home
    from barlowctl.data.beton.reader import Beton
    from barlowctl.data.names import packed_as

    console = Console(json=json, quiet=quiet)
    if data is None:
        datasets = home.available()
        console.table(
            f"Data home {home.data_home()}",
            ("name", "splits"),
            [(name, ", ".join(splits)) for name, splits in datasets.items()],
        )
        if not datasets:
            console.say("empty: no data set was brought or packed yet")
            console.next("barlowctl data get fashion-mnist")
        console.result({"home": str(home.data_home()), "datasets": datasets})
        return
    path = Path(data).expanduser()
    if not path.is_file():
        path = home.resolve(data, split)
    if path.suffix != ".beton":
        if verify or statistics:
            flag = "--verify" if verify else "--statistics"
            flags = ("--split", split) if split != "train" else ()
            raise UserError(
                f"{path} is not packed, and {flag} is of packed files",
                next=shell.line("barlowctl", "data", "pack", path, packed_as(path, split), *flags),
            )
        show_unpacked(console, path, split)
        return
    beton = Beton.open(path)
    if verify:
        _verify(beton)
    values = _describe(beton)
    rows: list[tuple[str, Any]] = []
    for key, label in LABELS.items():
        rows += (
            class_rows(class_sizes(beton), beton.class_names) if key == "classes" else [(label, text_of(values[key]))]
        )
    console.table(str(path), ("", "value"), rows)
    say_what_was_met(console, beton.info)
    if verify:
        console.say("content hash verified")
    if statistics:
        values["statistics"] = _statistics(console, beton)
    console.result(values | {"class_names": beton.class_names, "class_sizes": class_sizes(beton), "info": beton.info})


def _verify(beton: Any) -> None:
    """Refuse a packed file whose content is not what was noted.

    Raises:
        UserError: it is not, or nothing was noted.
    """
    from barlowctl.data.beton.mapped import write_again

    if beton.noted_hash is None:
        raise UserError(
            f"{beton.path} has no content hash to compare with: barlowctl did not write it",
            next="without --verify",
        )
    if beton.has_names and not beton.names.intact():
        raise UserError(
            f"{beton.path} has changed since it was packed: the names of its images differ",
            next=write_again(beton.path),
        )
    if beton.compute_hash() != beton.noted_hash:
        raise UserError(
            f"{beton.path} has changed since it was packed: its content hash differs",
            next=write_again(beton.path),
        )


def _statistics(console: Console, beton: Any) -> dict[str, Any]:
    """Measured, said, and given as flags."""
    from barlowctl.data.statistics import MOST, pixel_statistics

    with console.progress("statistics of pixels", min(beton.num_samples, MOST)) as bar:
        measured = pixel_statistics(beton, bar.advance)
    values = {"mean": list(measured.mean), "std": list(measured.std)}
    settings = [f"data.channels={beton.channels}"] if beton.channels != 3 else []
    settings += [f"views.{key}={numbers}".replace(" ", "") for key, numbers in values.items()]
    flags = shell.line(*(word for text in settings for word in ("--set", text)))
    images = f"{measured.images:,} of {counted(beton.num_samples, 'image')}"
    console.say(f"mean and standard deviation of {images}, as flags of a recipe:")
    console.paste(flags)
    if not all(measured.std):
        console.say("note: a standard deviation is 0, which no recipe takes: all pixels have one value there")
    return {**values, "images": measured.images, "flags": flags}


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
