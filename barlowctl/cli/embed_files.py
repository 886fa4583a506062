"""The files that embed writes: features, neighbours and maps; and which of them may be written over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.cli.console import Console
from barlowctl.errors import UserError
from barlowctl.output_paths import Outputs

if TYPE_CHECKING:
    from barlowctl.assemble.data import ImageSet
    from barlowctl.assemble.machine import Runtime
    from barlowctl.data.images.unreadable import OnMeasuring
    from barlowctl.eval.embeddings import Embeddings
    from barlowctl.measure.subjects import Subject


def check_own(pictures: list[Path], key: str, flag: str) -> None:
    """Refuse to write a picture over what is not a picture of this identity.

    Raises:
        UserError: with names that are free.
    """
    free = [_free_or_own(path, key) for path in pictures]
    if pictures != free:
        raise _of_something_else(pictures, free, shell.line(*(word for path in free for word in (flag, path))))


def file_of_neighbours(named: Path | None, key: str) -> Path:
    """Where the picture of neighbours goes: what was named, else neighbours.png or the next name that is free.

    Raises:
        UserError: what was named is a picture of something else.
    """
    free = _free_or_own(named or Path("neighbours.png"), key)
    if named not in (None, free):
        raise _of_something_else([named], [free], shell.line("--neighbours-out", free))
    return free


def _free_or_own(path: Path, key: str) -> Path:
    """The path, or the first name beside it that nothing has, or that has a picture of this identity."""
    from barlowctl.measure.identity import bears

    candidates = (path, *(path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(2, 1000)))
    return next((other for other in candidates if not os.path.lexists(other) or bears(other, key)), path)


def _of_something_else(paths: list[Path], instead: list[Path], advice: str) -> UserError:
    """What would be written over is of other images or another network, or is no picture of ours."""
    path = next(path for path, other in zip(paths, instead, strict=True) if path != other)
    return UserError(f"'{path}' exists, is not of this network on these images, and is not overwritten", next=advice)


def compute_features(
    console: Console,
    opened: Subject,
    source: ImageSet,
    split: str,
    runtime: Runtime,
    on_unreadable: OnMeasuring,
    identity: dict[str, Any],
) -> Embeddings:
    """Features of the images, with a bar on a terminal."""
    from barlowctl.eval.embeddings import not_finite
    from barlowctl.measure import embedding

    count = source.num_samples
    with console.progress(f"features of {counted(count, 'image')}", count) as bar:
        features = embedding.embed(
            opened, source, split, runtime, on_unreadable=on_unreadable, identity=identity, advance=bar.advance
        )
    for note in not_finite(features.features, features.names):
        console.say(f"note: {note}")
    return features


def draw_neighbours(
    console: Console,
    outputs: Outputs,
    path: Path,
    opened: Subject,
    source: ImageSet,
    features: Embeddings,
    queries: list[str],
    runtime: Runtime,
    top: int,
    key: str,
) -> dict[str, Any]:
    """Draw the nearest images of each query, list them by name, and return them."""
    from barlowctl.measure import embedding

    picture, neighbours = embedding.find_neighbours(opened, source, features, queries, runtime, top=top)
    with outputs.writing(path, flag="--neighbours-out"):
        embedding.draw_neighbours(picture, path, key)
        for query in neighbours:
            rows = [(near["name"], near["class"], near["similarity"]) for near in query["neighbours"]]
            console.table(f"nearest to {query['query']}", ["image", "class", "similarity"], rows)
        console.say(f"neighbours drawn to {path}")
    return {"neighbours": neighbours}


def draw_maps(
    console: Console,
    outputs: Outputs,
    maps: list[Path],
    source: ImageSet,
    features: Embeddings,
    projection: str,
    choice: dict[str, Any],
) -> dict[str, Any]:
    """Draw the maps, and return how many images are on them. choice: see `embedding.draw_map`."""
    from barlowctl.measure import embedding

    images = counted(min(len(features.features), choice["at_most"]), "image")
    with console.waiting(f"computing the map of {images} ({projection}) ..."):
        count = embedding.draw_map(source, features, maps, projection, outputs, **choice)
    if drawn := ", ".join(str(path) for path in maps if str(path) in outputs.files):
        console.say(f"map of {counted(count, 'image')} ({projection}) drawn to {drawn}")
    return {"map_images": count}


def say_rows(console: Console, features: Embeddings, source: ImageSet, *, rows_of_all: bool) -> None:
    """How many images have no features, and what stands in their place."""
    if unreadable := len(features.unreadable):
        row = "a row of NaN" if rows_of_all else "no row"
        of = f"{unreadable:,} of {counted(source.num_samples, 'image')}"
        console.say(f"{of} {f'has {row}: it' if unreadable == 1 else f'have {row}: they'} cannot be read")


def write_features(
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
    if str(out) in outputs.files:
        console.say(f"{len(rows.features):,} x {rows.features.shape[1]} features written to {out}")
